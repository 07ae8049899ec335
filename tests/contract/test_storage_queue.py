"""A queue of Azure Storage: Azurite with the account's key, and what is sent to the others who may open it."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import services
from azure.identity import AzureCliCredential
from gate import Gate, gate
from inferry.cloud.entra import CommandLine
from inferry.cloud.http_client import NoAnswer
from inferry.errors import InvalidSettings, StoreError
from inferry.jobs.runs import storage_queue
from inferry.jobs.runs.queue_text import decoded, encoded
from inferry.jobs.runs.storage_queue import StorageQueue
from test_cloud_sinks import local, token

RESOURCE = "https://storage.azure.com"
LOCALLY = {"AZURE_ALLOW_HTTP": "true"}


def test_messages(azurite: services.Azurite) -> None:
    """More than are put at once, and bytes of any value."""
    azurite.create_queue("jobs")
    queue = StorageQueue(f"{azurite.queue_endpoint}/jobs", azurite.environment)
    assert (queue.count(), queue.peek()) == (0, [])
    bodies = [b"%d " % number + bytes(range(256)) for number in range(storage_queue.AHEAD + 88)]
    queue.put(iter(bodies[:3]))
    assert sorted(queue.peek()) == bodies[:3]
    queue.put(iter(bodies[3:]))
    assert queue.count() == len(bodies)
    assert len(set(queue.peek()) & set(bodies)) == 32


PLAIN = [b'{"input": "az://input/a.csv"}', b"[1]", b"\xc3\xbc{", b" {}\n"]


@pytest.mark.parametrize("body", [*PLAIN, bytes(range(256)), b""])
def test_texts_are_base64_or_what_they_say(body: bytes) -> None:
    text = encoded(body)
    assert decoded(text.encode()) == decoded(f" {text}\n".encode()) == body
    if body in PLAIN:
        assert decoded(body) == body


REFUSED = {
    "no queue": ("absent", {}, "404 QueueNotFound"),
    "another key": ("jobs", {"AZURE_STORAGE_ACCOUNT_KEY": "AAAA"}, "403 AuthenticationFailed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_not_asked_again(azurite: services.Azurite, name: str) -> None:
    path, env, reason = REFUSED[name]
    url = f"{azurite.queue_endpoint}/{path}"
    queue = StorageQueue(url, {**azurite.environment, **env})
    start = time.monotonic()
    for ask in (queue.count, queue.peek, lambda: queue.put([b"a"])):
        with pytest.raises(StoreError) as caught:
            ask()
        assert str(caught.value) == f"the queue {url} can't be asked: {reason}"
    assert time.monotonic() - start < 1


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A service that says 503 as long as it is asked to."""
    monkeypatch.setattr(storage_queue, "ATTEMPTS", 2)
    with gate() as found:
        yield found


def test_a_service_that_is_busy_is_asked_again(busy: Gate) -> None:
    fates = iter([503, 201])
    busy.fate = lambda: next(fates)
    queue = StorageQueue(busy.url, LOCALLY | {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "AAAA"})
    queue.put([b"a"])
    assert len(busy.requests) == 2
    busy.fate = lambda: 503
    with pytest.raises(StoreError, match=r"can.t be asked: 503$"):
        queue.put([b"a"])
    assert len(busy.requests) == 4


def test_with_a_managed_identity(busy: Gate) -> None:
    """One token for all messages."""
    busy.fate = lambda: 201
    with local(token) as (url, asked):
        queue = StorageQueue(busy.url, LOCALLY | {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "secret"})
        queue.put([b"a"] * 9)
    assert {headers["Authorization"] for _, headers, _ in busy.requests} == {"Bearer a token of Entra"}
    assert len(busy.requests) == 9
    assert [path for path, _ in asked] == [f"/?api-version=2019-08-01&resource={RESOURCE}"]


def az(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
    """A command line of this name; what it is asked, line by line."""
    program, asked = folder / "az", folder / "asked"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nprint(*sys.argv[1:], file=open({str(asked)!r}, 'a'))\n{code}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return asked


def test_the_user_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: Gate) -> None:
    """As Microsoft's library asks it."""
    answer = {"accessToken": "of az", "expires_on": int(time.time()) + 3600, "expiresOn": "2026-11-25 10:00:00.000000"}
    asked = az(tmp_path, monkeypatch, f"print({json.dumps(answer)!r})")
    busy.fate = lambda: 201
    queue = StorageQueue(busy.url, LOCALLY)
    queue.put([b"a"] * 9)
    assert {headers["Authorization"] for _, headers, _ in busy.requests} == {"Bearer of az"}
    [ours] = asked.read_text().splitlines()
    with AzureCliCredential() as credential:
        assert credential.get_token(f"{RESOURCE}/.default").token == "of az"
    [_, theirs] = asked.read_text().splitlines()
    assert sorted(ours.split()) == sorted(theirs.split())


NO_TOKEN = {
    "nobody is logged in": ("sys.exit('Please run az login')", "az gives no token: Please run az login"),
    "no JSON": ("print('no')", "az gives no token: JSONDecodeError"),
    "no token": ("print('{}')", "az gives no token: KeyError"),
    "too slow": ("import time; time.sleep(60)", "az gives no token: TimeoutExpired"),
}


@pytest.mark.parametrize("name", NO_TOKEN)
def test_a_command_line_without_a_token(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, reason = NO_TOKEN[name]
    az(tmp_path, monkeypatch, code)
    with pytest.raises(NoAnswer) as caught:
        CommandLine(RESOURCE).token(time.monotonic() + 1)
    assert str(caught.value) == reason


INVALID: dict[str, tuple[str, dict[str, Any], str]] = {
    "no TLS": ("http://127.0.0.1/q", {}, "the URL of a queue starts with https://, got 'http://127.0.0.1/q'"),
    "no URL": ("jobs", {}, "the URL of a queue starts with https://, got 'jobs'"),
    "nobody": ("https://a.queue.core.windows.net/q", {}, "there are no credentials for Azure Storage: set AZURE_"),
    "half an identity": ("https://a/q", {"IDENTITY_ENDPOINT": "http://127.0.0.1"}, "IDENTITY_HEADER are not set"),
    "a key that is none": ("https://a/q", {"AZURE_STORAGE_ACCOUNT_KEY": "A"}, "AZURE_STORAGE_ACCOUNT_KEY is no base64"),
}


@pytest.mark.parametrize("name", INVALID)
def test_settings_that_can_not_be_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, env, reason = INVALID[name]
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InvalidSettings) as caught:
        StorageQueue(url, env)
    assert reason in str(caught.value)
