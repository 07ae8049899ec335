"""Stands between a forwarding function and its emulator, which may come later and takes one event at a time."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from emulator import Emulator
from loopback import listening

# Only a failure waits for so long.
PATIENCE = 600.0


class Relay:
    """`url` takes events from the start; they wait for `start`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events = 0
        self.answered = 0
        """How many events ended with an answer of the handler."""
        self._emulator: Emulator | None = None
        self._again: Callable[[str], object] = lambda handle: None
        self._started = threading.Event()
        self._lock = threading.Lock()

    def start(self, emulator: Emulator, again: Callable[[str], object]) -> None:
        """`again` shows the message of this receipt handle once more, for those whose invocation failed."""
        self._emulator, self._again = emulator, again
        self._started.set()

    @property
    def is_busy(self) -> bool:
        """Whether an event is in work."""
        return self._lock.locked()

    def invoke(self, event: bytes) -> bytes:
        assert self._started.wait(PATIENCE)
        with self._lock:
            assert self._emulator
            self.events += 1
            answer = self._emulator.invoke_raw(event)
        failed = _failed(answer)
        self.answered += failed is not None
        # What fails comes back as soon as it has, and not after six times the function's time.
        for record in json.loads(event).get("Records", []):
            if failed is None or record["messageId"] in failed:
                self._again(record["receiptHandle"])
        return answer


def _failed(answer: bytes) -> set[str] | None:
    """The messages that an answer names as failed; None where there was no answer: all of them."""
    try:
        said = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return set()
    return None if "errorType" in said else {item["itemIdentifier"] for item in said.get("batchItemFailures", [])}


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
