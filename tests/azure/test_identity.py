"""The managed identity, as the platform offers it at IDENTITY_ENDPOINT: for models, data and metrics."""

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import onnx_models
import pytest
from servers import serving, tensor

SECRET = "the-identity-header"
TOKEN = "a-token"
MODEL = onnx_models.identity("FP32", ("n",))
VALUES = struct.pack("<2f", 1, 2)
LISTING = f"""<?xml version="1.0"?><EnumerationResults><Blobs><Blob><Name>m.onnx</Name><Properties>
<Last-Modified>Tue, 24 Nov 2026 10:00:00 GMT</Last-Modified><Content-Length>{len(MODEL)}</Content-Length>
<Content-Type>application/octet-stream</Content-Type><Etag>0x1</Etag><BlobType>BlockBlob</BlobType></Properties></Blob>
</Blobs><NextMarker/></EnumerationResults>"""


class Platform(BaseHTTPRequestHandler):
    """Tokens, containers of files, one model to begin with, and a data collection rule, for holders of the token."""

    asked: list[dict[str, str]]
    pushed: list[bytes]
    files: dict[str, bytes]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/token":
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            self.asked.append(query | {"secret": self.headers.get("X-IDENTITY-HEADER", "")})
            expires = int(time.time()) + 3600
            text = f'{{"access_token":"{TOKEN}","expires_on":"{expires}","resource":"r","token_type":"Bearer"}}'
            self._answer(200, text.encode())
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(403, b"")
        elif "comp=list" in url.query:
            self._answer(200, LISTING.encode())
        elif self.headers.get("Range") or self.headers.get("x-ms-range"):
            whole = self.files[url.path]
            self._answer(206, whole, ("Content-Range", f"bytes 0-{len(whole) - 1}/{len(whole)}"))
        else:
            self._answer(200, self.files[url.path])

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if allowed:
            self.files[urlsplit(self.path).path] = body
        self._answer(201 if allowed else 403, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            self.pushed.append(body)
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        date = "Tue, 24 Nov 2026 10:00:00 GMT"
        for name, value in (*headers, ("ETag", "0x1"), ("Last-Modified", date), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def platform() -> Iterator[tuple[str, type[Platform]]]:
    handler = type("OnePlatform", (Platform,), {"asked": [], "pushed": [], "files": {"/inferry/models/m.onnx": MODEL}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def identity() -> Iterator[tuple[dict[str, str], type[Platform]]]:
    """The settings that the platform makes for an identity, and what it sees of its use."""
    with platform() as (url, seen):
        yield {"IDENTITY_ENDPOINT": f"{url}/token", "IDENTITY_HEADER": SECRET}, seen


def test_models_and_data_are_read_and_written_with_the_identity(
    identity: tuple[dict[str, str], type[Platform]], tmp_path: Path
) -> None:
    env, seen = identity
    url = env["IDENTITY_ENDPOINT"].removesuffix("/token")
    storage = {
        "AZURE_STORAGE_ACCOUNT_NAME": "inferry",
        "AZURE_STORAGE_ENDPOINT": f"{url}/inferry",
        "AZURE_ALLOW_HTTP": "true",
        "MODEL_CACHE_DIR": str(tmp_path),
        "DATA_PREFIXES": "az://data/",
    }
    seen.files["/inferry/data/x.bin"] = VALUES
    given = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"uri": "az://data/x.bin"}}
    with serving("az://models", **env, **storage) as server:
        answer = server.infer("m", given, outputs=[{"name": "y", "parameters": {"uri": "az://data/y.bin"}}])
        assert (answer.status, answer.json.get("parameters")) == (200, {"uri:y": "az://data/y.bin"}), answer
        assert seen.files["/inferry/data/y.bin"] == VALUES
        assert SECRET not in server.log
        assert TOKEN not in server.log
    assert {asked["secret"] for asked in seen.asked} == {SECRET}
    assert {asked["resource"].rstrip("/") for asked in seen.asked} == {"https://storage.azure.com"}


def test_metrics_are_pushed_with_the_identity_while_the_instance_lives_and_when_it_ends(
    identity: tuple[dict[str, str], type[Platform]], tmp_path: Path
) -> None:
    env, seen = identity
    url = env["IDENTITY_ENDPOINT"].removesuffix("/token")
    folder = onnx_models.write(tmp_path, {"m.onnx": MODEL})
    sink = {"METRICS_SINKS": "azure_monitor", "REMOTE_WRITE_URL": f"{url}/write", "METRICS_INTERVAL": "0.1"}
    with serving(folder, **env, **sink) as server:
        assert server.infer("m", tensor("x", "FP32", [2], [1, 2])).status == 200
        deadline = time.monotonic() + 20
        while len(seen.pushed) < 2:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        before = len(seen.pushed)
    assert len(seen.pushed) > before
    assert {asked["resource"].rstrip("/") for asked in seen.asked} == {"https://monitor.azure.com"}
