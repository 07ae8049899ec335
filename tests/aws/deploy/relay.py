"""Stands between a forwarding function and its emulator, which may come later and takes one event at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from emulator import Emulator
from loopback import listening


class Relay:
    """`url` takes events from the start; they wait for `start`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events = 0
        self._emulator: Emulator | None = None
        self._started = threading.Event()
        self._lock = threading.Lock()

    def start(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._started.set()

    @property
    def is_busy(self) -> bool:
        """Whether an event is in work."""
        return self._lock.locked()

    def invoke(self, event: bytes) -> bytes:
        assert self._started.wait(60)
        with self._lock:
            assert self._emulator
            self.events += 1
            return self._emulator.invoke_raw(event)


@contextmanager
def relayed() -> Iterator[Relay]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = relay.invoke(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    with listening(Handler) as url:
        relay = Relay(url)
        yield relay
