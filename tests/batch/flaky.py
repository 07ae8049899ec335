"""A store that fails now and then: a proxy that answers 503, drops connections, and kills who asks."""

import http.client
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from urllib.parse import urlsplit

DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>later</Message></Error>"
HOP = ("connection", "transfer-encoding", "keep-alive", "date", "server")


@dataclass
class Faults:
    """What happens to the requests of one worker, in their order; the same seed gives the same."""

    seed: int
    busy: float = 0.05
    lost: float = 0.03
    kill_at: int | None = None
    count: int = 0
    struck: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str) -> tuple[str, bool]:
        """The next request's fate, whatever its method, and whether the store gets to see it all the same."""
        with self._lock:
            self.count += 1
            random = Random(f"{self.seed} {self.count}")
        if self.count == self.kill_at:
            return "kill", random.random() < 0.5
        drawn = random.random()
        self.struck += drawn < self.busy + self.lost
        if drawn < self.busy:
            return "busy", False
        return ("lost", random.random() < 0.5) if drawn < self.busy + self.lost else ("", True)


@dataclass(frozen=True)
class Denial:
    """Who asks has no right to these methods."""

    methods: frozenset[str]

    def next(self, method: str) -> tuple[str, bool]:
        """As that of `Faults`."""
        return ("denied", False) if method in self.methods else ("", True)


@contextmanager
def flaky(target: str, faults: Faults | Denial, kill: Callable[[], None]) -> Iterator[str]:
    """The address of a proxy in front of `target`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(urlsplit(target).netloc, faults, kill))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(target: str, faults: Faults | Denial, kill: Callable[[], None]) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"target": target, "faults": faults, "kill": staticmethod(kill)})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is several small writes, which would wait for each other's acknowledgement.
    disable_nagle_algorithm = True
    target: str
    faults: Faults | Denial
    kill: Callable[[], None]

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fate, seen = self.faults.next(self.command)
        answer = self._forward(body) if seen else None
        if fate == "kill":
            self.kill()
        if fate in ("kill", "lost"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(*answer or ((403, [], DENIED) if fate == "denied" else (503, [], BUSY)))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.target, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP:
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the worker is dead
            self.close_connection = True


def kill(pid: int) -> None:
    """As the kernel would when memory is short: nothing is cleaned up."""
    os.kill(pid, signal.SIGKILL)
