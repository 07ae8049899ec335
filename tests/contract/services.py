"""Real services on loopback for the contract tests: moto's S3 server and Azurite."""

import base64
import hashlib
import hmac
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit

from loopback import free_port

HOST = "127.0.0.1"
AZURITE = Path(__file__).parents[2] / "node_modules" / ".bin" / "azurite"
AZURITE_MISSING = f"{AZURITE.relative_to(AZURITE.parents[2])} is missing: npm installs it from package.json"
START_SECONDS = 30.0
CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class S3:
    """moto's S3 server."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def create(self, name: str) -> None:
        # moto checks no signature.
        _request("PUT", f"{self.endpoint}/{name}", {})

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Past obstore, which would refuse hostile keys."""
        _request("PUT", f"{self.endpoint}/{bucket}/{key}", {}, content)


@dataclass(frozen=True)
class Azurite:
    """Azurite's blob and queue services with an account of their own."""

    account: str
    key: str
    blob_endpoint: str
    queue_endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
            "AZURE_STORAGE_ENDPOINT": self.blob_endpoint,
            "AZURE_ALLOW_HTTP": "true",
        }

    def create(self, name: str) -> None:
        """A container."""
        self._create(f"{self.blob_endpoint}/{name}", "restype", "container")

    def create_queue(self, name: str) -> None:
        self._create(f"{self.queue_endpoint}/{name}")

    def _create(self, url: str, *query: str) -> None:
        """A Shared Key request, as nothing that is installed here can create either."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        resource = f"/{self.account}{urlsplit(url).path}" + (f"\n{':'.join(query)}" if query else "")
        signed_headers = [f"{name}:{value}" for name, value in headers.items()]
        lines = ["PUT", *[""] * 4, CONTENT_TYPE, *[""] * 6, *signed_headers, resource]
        signed = hmac.digest(base64.b64decode(self.key), "\n".join(lines).encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(signed).decode()}"
        _request("PUT", url + (f"?{'='.join(query)}" if query else ""), headers)


@contextmanager
def moto() -> Iterator[S3]:
    port = free_port()
    with _running([sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], [port], {}):
        yield S3(f"http://{HOST}:{port}")


@contextmanager
def azurite(account: str = "inferry", key: str = "") -> Iterator[Azurite]:
    ports = [free_port() for _ in range(3)]
    key = key or base64.b64encode(secrets.token_bytes(64)).decode()
    command = [str(AZURITE), "--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    command += ["--disableTelemetry"]
    for service, port in zip(("blob", "queue", "table"), ports, strict=True):
        command += [f"--{service}Host", HOST, f"--{service}Port", str(port)]
    with _running(command, ports, {"AZURITE_ACCOUNTS": f"{account}:{key}"}):
        blob, queue = (f"http://{HOST}:{port}/{account}" for port in ports[:2])
        yield Azurite(account, key, blob, queue)


@contextmanager
def _running(command: Sequence[str], ports: Sequence[int], environment: dict[str, str]) -> Iterator[None]:
    """Run a server in a folder of its own until the block ends; it is ready when it takes connections."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w+b") as log:
        # What measures our own lines has nothing to do there.
        others = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        process = subprocess.Popen(command, cwd=folder, env=others | environment, stdout=log, stderr=log)
        try:
            for port in ports:
                _wait(process, port, Path(log.name))
            yield
        finally:
            _stop(process)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} takes no connections at port {port}:\n{log.read_text()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _request(method: str, url: str, headers: dict[str, str], content: bytes = b"") -> None:
    """Straight to loopback, whatever proxy the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    # Without a type urllib calls the body a form, which moto would read as one.
    headers = {"Content-Type": CONTENT_TYPE, **headers}
    request = urllib.request.Request(url, data=content, headers=headers, method=method)
    opener.open(request, timeout=10).close()
