"""Remote write through a proxy, and to a store whose certificate is a company's own."""

import contextlib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gate import gate
from inferry.errors import InvalidSettings
from inferry.observability.registry import Metrics
from inferry.observability.sinks.remote_write import RemoteWrite
from inferry.observability.sinks.sink import PushFailed
from inferry.settings import Settings
from recorder import self_signed


class Proxy(BaseHTTPRequestHandler):
    """Tunnels what it is asked to CONNECT to, and forwards other requests; keeps what it was asked for."""

    asked: list[tuple[str, str, str | None]]

    def do_CONNECT(self) -> None:
        self._note()
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port)), 5) as target:
            self.send_response(200)
            self.end_headers()
            forth = threading.Thread(target=copy, args=(self.connection, target), daemon=True)
            forth.start()
            copy(target, self.connection)
            forth.join()
        self.close_connection = True

    def do_POST(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.path, body, method="POST"), timeout=5) as answer:
            self.send_response(answer.status)
        self.end_headers()

    def _note(self) -> None:
        self.asked.append((self.command, self.path, self.headers["Proxy-Authorization"]))

    def log_message(self, *_: Any) -> None:
        pass


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def proxy() -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """Its address, and what it was asked for: method, target and authorization."""

    class Handler(Proxy):
        pass

    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", Handler.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@contextmanager
def secure(certificate: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A store that speaks TLS: its URL, and the bodies that came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Clients that don't trust it are what a test is about."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/write", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def push(url: str, env: dict[str, str]) -> None:
    sink = RemoteWrite(Settings(remote_write_url=url), env)
    try:
        sink.push(Metrics().collect(), time.monotonic() + 5)
    finally:
        sink._poster.close()


def test_a_certificate_of_ones_own(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with secure(certificate) as (url, bodies):
        with pytest.raises(PushFailed, match="CERTIFICATE_VERIFY_FAILED"):
            push(url, {})
        assert bodies == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        push(url, {})
    assert len(bodies) == 1


AUTHORIZED = "Basic bWU6YTpi"
USERS = {"": None, "me:a%3Ab@": AUTHORIZED}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_tunnel_to_a_store(certificate: Path, monkeypatch: pytest.MonkeyPatch, name: str, user: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with secure(certificate) as (url, bodies), proxy() as (address, asked):
        push(url, {name: f"http://{user}{address}"})
    assert asked == [("CONNECT", url.split("/")[2], USERS[user])]
    assert len(bodies) == 1


@pytest.mark.parametrize("user", USERS)
def test_a_proxy_to_a_store_without_tls(user: str) -> None:
    with gate() as store, proxy() as (address, asked):
        store.fate = lambda: 200
        push(store.url, {"HTTP_PROXY": f"{user}{address}"})
    assert asked == [("POST", store.url, USERS[user])]
    assert [path for path, _, _ in store.requests] == ["/write"]


def test_a_proxy_that_refuses_has_sent_nothing(certificate: Path) -> None:
    with gate() as no_proxy:
        sink = RemoteWrite(
            Settings(remote_write_url="https://store.example/write"),
            {"HTTPS_PROXY": no_proxy.url.removesuffix("/write")},
        )
        with pytest.raises(PushFailed, match=r"store.example does not answer: OSError Tunnel connection failed: 501"):
            sink.push(Metrics().collect(), time.monotonic() + 5)
        sink._poster.close()
    assert sink._kept is not None
    assert not sink._doubted


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "other.example,127.0.0.1", "*"])
def test_stores_that_no_proxy_names(no_proxy: str) -> None:
    with gate() as store, proxy() as (address, asked):
        store.fate = lambda: 204
        push(store.url, {"HTTP_PROXY": address, "NO_PROXY": no_proxy})
        assert len(store.requests) == 1
    assert asked == []


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "https://proxy.example", "http://"])
def test_a_proxy_that_cannot_be(value: str) -> None:
    with pytest.raises(InvalidSettings, match="HTTPS_PROXY must be the http URL of a proxy"):
        RemoteWrite(Settings(remote_write_url="https://store.example/write"), {"HTTPS_PROXY": value})
