"""A server between a sink and its store that fails as it is told."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, TypeAlias

Fate: TypeAlias = int | str | tuple[int, dict[str, str]]

FORWARDED = ("Content-Type", "Content-Encoding", "X-Prometheus-Remote-Write-Version", "Authorization")


class Gate:
    """Each request meets `fate()`: the number of a status, or one with headers, or the name of one of `Fates`."""

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.fate: Callable[[], Fate] = lambda: "pass"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""


class Fates:
    """What can happen to a request, beside a status."""

    def __init__(self, handler: BaseHTTPRequestHandler, gate: Gate, body: bytes) -> None:
        self.handler, self.gate, self.body = handler, gate, body

    def forwarded(self) -> tuple[int, bytes]:
        headers = {name: self.handler.headers[name] for name in FORWARDED if name in self.handler.headers}
        request = urllib.request.Request(self.gate.target, self.body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, b""
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read()

    def passed(self) -> None:
        self.answer(*self.forwarded())

    def lost(self) -> None:
        """The store has it, and the sink never hears of it."""
        self.forwarded()
        self.cut()

    def leave(self) -> None:
        """An answer, and then the connection is closed, as idle ones are."""
        self.handler.close_connection = True
        self.answer(204)

    def cut(self) -> None:
        self.handler.close_connection = True
        self.handler.connection.shutdown(socket.SHUT_RDWR)

    def hang(self) -> None:
        self.handler.server.released.wait(30)  # type: ignore[attr-defined]
        self.cut()

    def drip(self) -> None:
        """A byte now and then, and never an end."""
        try:
            self.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.handler.server.released.wait(0.05):  # type: ignore[attr-defined]
                self.handler.wfile.write(b"a")
        except OSError:
            self.handler.close_connection = True

    def rubbish(self) -> None:
        self.handler.wfile.write(b"\x00\xff no HTTP at all\r\n\r\n" * 10)
        self.cut()

    def flood(self) -> None:
        """An answer that is longer than anybody wants to read."""
        self.answer(200, b"a" * (1 << 22))

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        if status == 204:
            self.handler.end_headers()
            return
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        self.handler.wfile.write(body)


NAMES = {"pass": Fates.passed, "lost": Fates.lost, "cut": Fates.cut, "hang": Fates.hang, "drip": Fates.drip}
NAMES |= {"leave": Fates.leave, "rubbish": Fates.rubbish, "flood": Fates.flood}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    released: threading.Event

    def handle_error(self, *_: Any) -> None:
        """Clients that give up are what the tests are about."""


@contextmanager
def gate(target: str = "") -> Iterator[Gate]:
    """A gate on a free port, before the store's write URL `target` where something passes."""
    made = Gate(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.requests.append((self.path, dict(self.headers.items()), body))
            fate, fates = made.fate(), Fates(self, made, body)
            if isinstance(fate, int):
                fates.answer(fate, b"a reason")
            elif isinstance(fate, tuple):
                fates.answer(fate[0], b"a reason", fate[1])
            else:
                NAMES[fate](fates)

        def log_message(self, *_: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    server.released = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/write"
    try:
        yield made
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
