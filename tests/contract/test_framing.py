"""Where a request ends: whatever it wishes for besides, its body is its own, and no field behind it counts."""

import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx_models
import pytest
from servers import Server, serving, tensor

pytestmark = pytest.mark.local

SECONDS = 30.0
BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
INFER = b"POST /v2/models/floats/infer HTTP/1.1\r\nHost: localhost\r\n"
WISHES = (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n")
SIZED = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n"
KEY = "good"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "floats.onnx").write_bytes(onnx_models.identity())
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models) as server:
        yield server


def ask(server: Server, *parts: bytes, count: int = 1) -> list[tuple[int, bytes]]:
    """So many responses to what is sent part by part; behind them there is none."""
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        stream = client.makefile("rb")
        found = [read(stream) for _ in range(count)]
        assert stream.read() == b""
    return found


def read(stream: BinaryIO) -> tuple[int, bytes]:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        assert line, head
        head += line
    first, *fields = head.decode().split("\r\n")
    length = next(int(field.split(":")[1]) for field in fields if field.lower().startswith("content-length"))
    return int(first.split()[1]), stream.read(length)


def outputs(response: tuple[int, bytes]) -> list[float]:
    status, body = response
    assert status == 200, body
    values: list[float] = json.loads(body)["outputs"][0]["data"]
    return values


@pytest.mark.parametrize("wish", WISHES, ids=["h2c", "websocket"])
@pytest.mark.parametrize("framed", [SIZED, CHUNKED + b"\r\n"], ids=["sized", "chunked"])
def test_a_wish_for_another_protocol_leaves_the_body(server: Server, framed: bytes, wish: bytes) -> None:
    """As Java's HttpClient and `curl --http2` send it with every request to http:// (RFC 9110, 7.8)."""
    request = INFER + wish + framed
    assert outputs(*ask(server, request)) == [1, 2, 3]
    several = ask(server, request + LIVE + request, count=3)
    assert [status for status, _ in several] == [200] * 3
    assert outputs(several[0]) == outputs(several[2]) == [1, 2, 3]


def test_a_body_that_comes_later_belongs_to_its_request(server: Server) -> None:
    head, body = INFER + WISHES[0] + b"Content-Length: %d\r\n\r\n" % len(BODY), BODY
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as client:
        client.sendall(head)
        # An answer on another connection says that the head was read.
        assert ask(server, LIVE)[0][0] == 200
        client.sendall(body)
        client.shutdown(socket.SHUT_WR)
        stream = client.makefile("rb")
        assert outputs(read(stream)) == [1, 2, 3]
        assert stream.read() == b""


def test_curl_that_would_rather_have_http_2(server: Server) -> None:
    if "HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout:
        pytest.skip("this curl was built without HTTP/2")
    url = f"http://127.0.0.1:{server.port}/v2/models/floats/infer"
    command = ["curl", "--silent", "--http2", "--data-binary", "@-", url]
    done = subprocess.run(command, input=BODY, capture_output=True, check=True)
    assert json.loads(done.stdout)["outputs"][0]["data"] == [1, 2, 3]


def test_nothing_behind_a_tunnel_is_a_request(server: Server) -> None:
    (response,) = ask(server, b"CONNECT /v2/models HTTP/1.1\r\nHost: localhost\r\n\r\n" + LIVE)
    assert response[0] in {400, 404, 405}


def test_a_key_behind_the_body_opens_nothing(models: Path) -> None:
    with serving(models, API_KEYS=hashlib.sha256(KEY.encode()).hexdigest()) as server:
        behind = CHUNKED + b"X-API-Key: %b\r\n\r\n"
        assert ask(server, INFER + behind % KEY.encode())[0][0] == 401
        assert ask(server, INFER + b"X-API-Key: bad\r\n" + behind % KEY.encode())[0][0] == 403
        given = INFER + b"X-API-Key: %b\r\n" % KEY.encode()
        assert outputs(*ask(server, given + behind % b"bad")) == [1, 2, 3]


def test_a_host_behind_the_body_is_none(server: Server) -> None:
    foreign = INFER.replace(b"localhost", b"evil.example")
    assert ask(server, foreign + CHUNKED + b"Host: localhost\r\n\r\n")[0][0] == 421
