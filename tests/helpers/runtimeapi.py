"""Lambda's runtime API as a server of the tests' own, whose responses are bytes that a test writes."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
# A response, or a piece of one, that never comes: the connection is closed instead.
CLOSED = b""
# The same, with a reset: what is sent into the connection fails.
RESET = b"\0"
ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'


class Request(NamedTuple):
    """What a runtime asked for, the names of its headers in small letters, by the how-manieth connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


def event(body: bytes = b"{}", *headers: str) -> bytes:
    """The response to a runtime that waits for an event."""
    lines = ("HTTP/1.1 200 OK", f"Lambda-Runtime-Aws-Request-Id: {ID}", *headers, f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


class RuntimeApi:
    """`requests` are those that came so far; when no response is left, a request gets none, and nothing is closed.

    `gone` is set when a connection was ended from this side.
    """

    def __init__(self, listener: socket.socket, responses: Sequence[bytes | Sequence[bytes]]) -> None:
        self.address = "{}:{}".format(*listener.getsockname())
        self.requests: list[Request] = []
        self.gone = threading.Event()
        self._responses = list(responses)
        self._listener = listener
        self._open: list[socket.socket] = []
        self._news = threading.Condition()

    def wait(self, count: int, seconds: float = 20) -> list[Request]:
        """The first `count` requests. AssertionError when they don't come."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.requests) >= count, seconds), self.requests
            return self.requests[:count]

    def serve(self) -> None:
        """Until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._answer, args=(connection, len(self._open)), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _answer(self, connection: socket.socket, number: int) -> None:
        self._exchange(connection, number)
        self.gone.set()

    def _exchange(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as sent:
            while line := sent.readline().decode():
                method, path, _ = line.split(" ")
                headers = {}
                while (header := sent.readline().decode().rstrip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = sent.read(int(headers.get("content-length", 0)))
                with self._news:
                    self.requests.append(Request(method, path, headers, body, number))
                    response = self._responses.pop(0) if self._responses else None
                    self._news.notify_all()
                if response is None:
                    continue
                for part in (response,) if isinstance(response, bytes) else response:
                    if part == RESET:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    if part == CLOSED:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(part)


@contextmanager
def runtime_api(*responses: bytes | Sequence[bytes]) -> Iterator[RuntimeApi]:
    """Answers requests with `responses`, in the order in which they come; a sequence of bytes in as many pieces."""
    listener = socket.create_server(("127.0.0.1", 0))
    api = RuntimeApi(listener, responses)
    thread = threading.Thread(target=api.serve)
    thread.start()
    try:
        yield api
    finally:
        api.close()
        thread.join()
