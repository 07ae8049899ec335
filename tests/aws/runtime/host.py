"""An HTTP API in front of a function under the emulator, for tests that know HTTP only.

TEST_HOST=aws.runtime.host:serving gives it to the contract tests, with the Python that TEST_PYTHON names or the newest.
Like the gateway, it makes an event of a request and a response of an answer; unlike it, one at a time, and the
request's id is the client's where it sends one.
"""

import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lambda_events
from contract.servers import Server, environment
from emulator import PYTHONS, Emulator, emulated

REQUEST_ID = "x-request-id"


@contextmanager
def serving(path: Path | str, *arguments: str, cwd: Path | None = None, **env: str) -> Iterator[Server]:
    """`functions.api.handler` over a repository, `arguments` being none: it has no command line."""
    assert (arguments, cwd) == ((), None)
    python = PYTHONS[os.environ.get("TEST_PYTHON") or next(iter(PYTHONS))]
    told: dict[str, Any] = environment(env) | {"MODEL_PATH": str(path)}
    with (
        emulated("functions.api.handler", python, **told) as emulator,
        gateway(emulator) as port,
    ):
        (emulator.folder / "stdout").touch()
        server = Server(port, emulator.process, emulator.folder, stopped=0)
        assert server.ask("GET", "/v2/health/live").status == 200, server.log
        yield server
        server.final_log = server.log


@contextmanager
def gateway(emulator: Emulator) -> Iterator[int]:
    """The port of a gateway to the function."""
    lock = threading.Lock()

    class Handler(Gateway):
        def invoke(self, event: Any) -> Any:
            with lock:
                return emulator.invoke(event)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Gateway(BaseHTTPRequestHandler, ABC):
    """One connection."""

    protocol_version = "HTTP/1.1"

    @abstractmethod
    def invoke(self, event: Any) -> Any:
        """What the function says to an event."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self.answer

    def answer(self) -> None:
        """What the function says, as HTTP; what it doesn't say is the gateway's 500."""
        sent = {name.lower(): ",".join(self.headers.get_all(name, [])) for name in self.headers}
        path, _, query = self.path.partition("?")
        event = lambda_events.http_api(
            self.command, path, self.body(), sent, query=query, request_id=sent.get(REQUEST_ID, "")[:100]
        )
        answer = self.invoke(event)
        if "statusCode" not in answer:
            answer = {"statusCode": 500, "body": json.dumps(answer), "headers": {}, "isBase64Encoded": False}
        self.send_response_only(answer["statusCode"])
        for name, value in answer["headers"].items():
            if name != REQUEST_ID or REQUEST_ID in sent:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(lambda_events.body(answer))

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing: the function's log is the log."""
