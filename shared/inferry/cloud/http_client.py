"""HTTP to one URL over a connection that stays open, with one deadline for all of a request."""

import http.client
import io
import socket
import time
from collections.abc import Mapping
from email.message import Message
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from inferry import __version__
from inferry.errors import InvalidSettings

_MAX_ANSWER = 1 << 16
_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
_USER_AGENT = f"inferry/{__version__}"


class Answer(NamedTuple):
    """A response, with at most 64 KiB of its body."""

    status: int
    body: bytes
    headers: Message


class NoAnswer(Exception):
    """The server can't be reached, is too slow, or doesn't speak HTTP."""


class Poster:
    """Requests to `url`, one at a time."""

    def __init__(self, url: str, setting: str) -> None:
        """InvalidSettings, which names `setting`, when `url` is none of HTTP."""
        parts = urlsplit(url)
        if parts.scheme not in _CONNECTIONS or not parts.hostname or "@" in parts.netloc:
            raise InvalidSettings(f"{setting} must be an http or https URL without a user in it")
        self.host = parts.netloc
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._open = partial(_CONNECTIONS[parts.scheme], parts.hostname, parts.port)
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        """NoAnswer when there is none at `deadline` (time.monotonic)."""
        return self._ask("POST", body, headers, deadline)

    def get(self, headers: Mapping[str, str], deadline: float) -> Answer:
        """The same without a body."""
        return self._ask("GET", None, headers, deadline)

    def close(self) -> None:
        """Ends the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, body: bytes | None, headers: Mapping[str, str], deadline: float) -> Answer:
        kept = self._connection is not None
        try:
            return self._once(method, body, headers, deadline)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self.close()
            # Servers close idle connections, and a function that was frozen meanwhile didn't hear of it.
            if kept and isinstance(exc, ConnectionError):
                return self._ask(method, body, headers, deadline)
            raise NoAnswer(f"{self.host} gives no answer: {type(exc).__name__} {exc}".strip()) from exc

    def _once(self, method: str, body: bytes | None, headers: Mapping[str, str], deadline: float) -> Answer:
        connection = self._connection or self._open(timeout=_left(deadline))
        self._connection = connection
        connection.response_class = partial(_Response, deadline)
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(_left(deadline))
        connection.request(method, self.target, body, {"User-Agent": _USER_AGENT, **headers})
        response = connection.getresponse()
        answer = Answer(response.status, response.read(_MAX_ANSWER), response.headers)
        if not response.isclosed():  # more of it would come
            self.close()
        return answer


class _Response(http.client.HTTPResponse):
    """Reads until a deadline: a server that sends a byte a second would never run into a socket's timeout."""

    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock, deadline))


class _Timed(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed itself
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._deadline))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for it was over")
    return left
