"""A queue of Azure Storage: Azurite with the account's key, and what is sent to the others who may open it."""

import time
from pathlib import Path
from typing import Any

import pytest
import services
from inferry.errors import InvalidSettings, StoreError
from inferry.jobs.runs import storage_queue
from inferry.jobs.runs.queue_text import decoded, encoded
from inferry.jobs.runs.storage_queue import StorageQueue
from recorder import recording, self_signed
from test_cloud_sinks import local, token

RESOURCE = "https://storage.azure.com"


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


ASKED = b"<QueueMessagesList></QueueMessagesList>"
KEY = {"AZURE_ALLOW_HTTP": "true", "AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "AAAA"}


def test_a_service_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_queue, "ATTEMPTS", 2)
    fates = iter([503, 200])
    with recording(lambda *_: (next(fates, 503), ASKED)) as busy:
        queue = StorageQueue(f"{busy.url}/a/jobs", KEY)
        assert queue.peek() == []
        assert len(busy.asked) == 2
        with pytest.raises(StoreError, match=r"can.t be asked: 503$"):
            queue.peek()
        assert len(busy.asked) == 4


def test_with_a_managed_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One token for all messages."""
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with recording(lambda *_: (200, ASKED), certificate) as service, local(token) as (url, asked):
        told = {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "secret", "AZURE_TOKEN_CREDENTIALS": "prod"}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        queue = StorageQueue(f"{service.url}/a/jobs", {})
        assert [queue.peek() for _ in range(9)] == [[]] * 9
    assert service.header("authorization") == {"Bearer a token of Entra"}
    assert len(service.asked) == 9
    assert [path for path, _ in asked] == [f"/?api-version=2019-08-01&resource={RESOURCE}"]


INVALID: dict[str, tuple[str, dict[str, Any], str]] = {
    "no TLS": ("http://127.0.0.1/q", {}, "the URL of a queue starts with https://, got 'http://127.0.0.1/q'"),
    "no TLS for a token": ("http://127.0.0.1/q", {"AZURE_ALLOW_HTTP": "true"}, "starts with https://, got 'http://127"),
    "no URL": ("jobs", KEY, "the URL of a queue starts with https://, got 'jobs'"),
    "a key that is none": ("https://a/q", {"AZURE_STORAGE_ACCOUNT_KEY": "A"}, "AZURE_STORAGE_ACCOUNT_KEY is no base64"),
}


@pytest.mark.parametrize("name", INVALID)
def test_settings_that_can_not_be_used(name: str) -> None:
    url, env, reason = INVALID[name]
    with pytest.raises(InvalidSettings) as caught:
        StorageQueue(url, env)
    assert reason in str(caught.value)
