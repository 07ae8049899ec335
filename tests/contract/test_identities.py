"""Who somebody is on a laptop: AWS's profiles and SSO, Azure's logins, for stores and for runs on a cloud."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inferry.errors import InferryError, InvalidRequest, InvalidSettings, StoreError
from inferry.jobs.runs.aws import StepFunctions
from inferry.jobs.runs.storage_queue import StorageQueue
from inferry.storage import identities
from inferry.storage.files import open_files
from recorder import Recorder, recording, self_signed

MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:inferry-dev"
START = "https://example.awsapps.com/start"
PROCESS = """import json
from pathlib import Path
with Path("HOME/asked").open("a") as file:
    file.write(".")
print(json.dumps({"Version": 1, "AccessKeyId": "PROCESS", "SecretAccessKey": "secret", "SessionToken": "token"}))
"""
SSO_KEYS = {"accessKeyId": "SSO", "secretAccessKey": "secret", "sessionToken": "token", "expiration": 4102444800000}
CONFIG = f"""
[profile process]
credential_process = {sys.executable} HOME/process.py
region = eu-central-1
[profile sso]
sso_session = here
sso_account_id = 123456789012
sso_role_name = reader
region = eu-central-1
[sso-session here]
sso_start_url = {START}
sso_region = eu-central-1
[profile expired]
sso_start_url = https://nobody.awsapps.com/start
sso_region = eu-central-1
sso_account_id = 123456789012
sso_role_name = reader
[profile empty]
region = eu-central-1
[profile circle]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = nobody
"""
KEYS = """
[keys]
aws_access_key_id = KEYS
aws_secret_access_key = secret
"""


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of the shell, and none that an earlier test has found."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "IDENTITY_"))]:
        monkeypatch.delenv(name)
    identities._aws.cache_clear()
    identities._azure.cache_clear()


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """S3 without objects, Step Functions, and the portal of SSO; a home with profiles, and somebody logged in."""
    clear(monkeypatch)
    cache = tmp_path / ".aws/sso/cache"
    cache.mkdir(parents=True)
    (tmp_path / "process.py").write_text(PROCESS.replace("HOME", str(tmp_path)))
    (tmp_path / ".aws/config").write_text(CONFIG.replace("HOME", str(tmp_path)))
    (tmp_path / ".aws/credentials").write_text(KEYS)
    token = {"startUrl": START, "region": "eu-central-1", "accessToken": "of SSO", "expiresAt": "2099-01-01T00:00:00Z"}
    (cache / f"{hashlib.sha1(b'here').hexdigest()}.json").write_text(json.dumps(token))

    def answer(method: str, path: str) -> tuple[int, bytes]:
        if path.startswith("/federation/credentials"):
            return 200, json.dumps({"roleCredentials": SSO_KEYS}).encode()
        return (200, b'{"executionArn":"arn","startDate":1}') if method == "POST" else (404, b"")

    with recording(answer) as recorder:
        told = {"HOME": str(tmp_path), "AWS_ENDPOINT_URL": recorder.url, "AWS_ALLOW_HTTP": "true"}
        for name, value in {**told, "AWS_EC2_METADATA_DISABLED": "true"}.items():
            monkeypatch.setenv(name, value)
        yield recorder


def object_in_s3() -> None:
    assert open_files("s3://bucket/models").stat("a") is None


def execution() -> None:
    StepFunctions(MACHINE, os.environ).start("r-1", {})


DOORS = {
    "a store": (
        "from inferry.storage.files import open_files; open_files('s3://bucket').stat('a')",
        "eu-central-1/s3",
    ),
    "a run": (
        f"from inferry.jobs.runs.aws import StepFunctions; StepFunctions({MACHINE!r}, {{}}).start('r-1', {{}})",
        "eu-west-1/states",
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("profile", ["process", "sso"])
def test_a_profile(aws: Recorder, profile: str, door: str) -> None:
    """In a process of its own: botocore looks where the tokens of SSO are when it is imported."""
    script, scope = DOORS[door]
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "AWS_PROFILE": profile}, check=True)
    *before, (_, _, signed) = aws.asked
    assert re.match(rf"AWS4-HMAC-SHA256 Credential={profile.upper()}/\d{{8}}/{scope}/", signed["authorization"])
    assert signed["x-amz-security-token"] == "token"
    assert [headers["x-amz-sso_bearer_token"] for _, _, headers in before] == ["of SSO"] * (profile == "sso")


def test_a_profile_is_read_once(aws: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "process")
    for _ in range(3):
        object_in_s3()
    assert len(aws.asked) == 3
    assert (tmp_path / "asked").read_text() == "."


def test_keys_in_a_file(aws: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "keys")
    object_in_s3()
    assert "Credential=KEYS/" in aws.asked[-1][2]["authorization"]


def test_variables_come_before_profiles(aws: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": "OWN", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    object_in_s3()
    assert "Credential=OWN/" in aws.asked[-1][2]["authorization"]


NO_PROFILE: dict[str, tuple[str, type[InferryError], str]] = {
    "there is none of this name": ("nobody", InvalidSettings, "The config profile (nobody) could not be found"),
    "it has no credentials": ("empty", InvalidSettings, "the profile AWS_PROFILE=empty has no credentials"),
    "it names another": ("circle", InvalidSettings, 'The source_profile "nobody" referenced in the profile "circle"'),
    "nobody is logged in": (
        "expired",
        StoreError,
        "Error loading SSO Token: Token for https://nobody.awsapps.com/start",
    ),
}


@pytest.mark.parametrize("name", NO_PROFILE)
def test_a_profile_that_can_not_be_used(aws: Recorder, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    profile, error, reason = NO_PROFILE[name]
    monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(error) as caught:
        object_in_s3()
    assert reason in str(caught.value)
    with pytest.raises((InvalidSettings, InvalidRequest)):
        execution()
    assert aws.asked == []


MISSING = {"a store": ("boto3", object_in_s3, "AWS_PROFILE=process needs boto3: install the extra 'clouds'")}


@pytest.mark.parametrize("name", MISSING)
def test_the_extra_is_named(aws: Recorder, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module, ask, words = MISSING[name]
    monkeypatch.setenv("AWS_PROFILE", "process")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "obstore.auth.boto3", raising=False)
    with pytest.raises(InvalidSettings) as caught:
        ask()
    assert words in str(caught.value)


PUT = b"""<?xml version="1.0" encoding="utf-8"?><QueueMessagesList><QueueMessage><MessageId>5974b586</MessageId>
<InsertionTime>Fri, 09 Oct 2026 21:04:30 GMT</InsertionTime>
<ExpirationTime>Fri, 16 Oct 2026 21:04:30 GMT</ExpirationTime>
<PopReceipt>YzQ4Yzg1MDI</PopReceipt><TimeNextVisible>Fri, 09 Oct 2026 23:29:20 GMT</TimeNextVisible></QueueMessage>
</QueueMessagesList>"""


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A queue that takes messages, and containers without blobs."""
    clear(monkeypatch)
    certificate = self_signed(tmp_path)
    with recording(lambda method, _: (201, PUT) if method == "POST" else (404, b""), certificate) as recorder:
        told = {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ENDPOINT": f"{recorder.url}/account"}
        trust = {"REQUESTS_CA_BUNDLE": str(certificate), "SSL_CERT_FILE": str(certificate)}
        for name, value in {**told, **trust}.items():
            monkeypatch.setenv(name, value)
        yield recorder


def blob(_: Recorder) -> None:
    assert open_files("az://container/models").stat("a") is None


def messages(azure: Recorder) -> None:
    StorageQueue(f"{azure.url}/account/jobs", os.environ).put([b"a"] * 9)


def az(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Azure's command line, as DefaultAzureCredential asks it; nothing else is asked."""
    program = folder / "az"
    program.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")


@pytest.mark.parametrize("ask", [blob, messages])
def test_the_user_of_the_command_line(
    azure: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Recorder], None]
) -> None:
    answer = {"accessToken": "of az", "expires_on": int(time.time()) + 3600, "expiresOn": "2026-11-25 10:00:00.000000"}
    az(tmp_path, monkeypatch, f"print({json.dumps(answer)!r})")
    ask(azure)
    assert azure.header("authorization") == {"Bearer of az"}
    assert len(azure.asked) == (1 if ask is blob else 9)


@pytest.mark.parametrize("ask", [blob, messages])
def test_nobody_is_logged_in(
    azure: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Recorder], None]
) -> None:
    az(tmp_path, monkeypatch, "sys.exit('ERROR: Please run az login to setup account.')")
    with pytest.raises(StoreError if ask is blob else InvalidSettings) as caught:
        ask(azure)
    assert "az login" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert azure.asked == []
