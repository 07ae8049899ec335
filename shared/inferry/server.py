"""The local server: uvicorn around the application, one process or several on one port."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from inferry import logs
from inferry.errors import InvalidSettings
from inferry.settings import Settings

# A line waits for others no longer than this.
_LINE_SECONDS = 0.05


def run(app: Any, listener: socket.socket, settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; what is in flight then is answered first. `app` may name a factory for workers.

    One process takes the application, several take the name "module:factory" of what makes one.
    """
    config = uvicorn.Config(app, factory=isinstance(app, str), **_options(settings))
    if settings.workers > 1:
        Multiprocess(config, sockets=[listener]).run()
        return
    # uvicorn raises the signal again after it has shut down; answering it makes the exit status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])


def listen(settings: Settings) -> socket.socket:
    """A socket that takes connections at HOST and PORT. InvalidSettings when it can't."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as exc:
        raise InvalidSettings(
            f"can't listen on {settings.host}:{settings.port}: {exc.strerror}; choose another with --port or PORT"
        ) from exc
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


def _options(settings: Settings) -> dict[str, Any]:
    json = settings.log_format == "json"
    return {
        "http": Protocol,
        "interface": "asgi3",
        "lifespan": "on",
        # In JSON, `logs` has formatted these loggers, and each request has its line already.
        **({"log_config": None} if json else {}),
        "access_log": settings.debug and not json,
        "log_level": "debug" if settings.debug else "warning",
        "workers": settings.workers,
        "server_header": False,
        # Nothing here asks who the client is.
        "proxy_headers": False,
        # Idle connections must not keep a server from ending: what is in flight has as long as a prediction may take.
        "timeout_graceful_shutdown": int(settings.model_timeout) + 5,
    }


class Protocol(HttpToolsProtocol):
    """uvicorn's, with one system call per answer: it writes the head and the body of one apart.

    What the log has of requests comes behind their answers, of many by one more: soon, but not at once.
    """

    _turn: "_Turn | None" = None  # of the process's one loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        logs.together(self._later)
        if Protocol._turn is None or Protocol._turn.loop is not self.loop:
            Protocol._turn = _Turn(self.loop)
        super().connection_made(_Joined(transport, Protocol._turn))  # type: ignore[arg-type]

    def _later(self, write: Callable[[], None]) -> None:
        self.loop.call_later(_LINE_SECONDS, write)


class _Turn:
    """The transports of a loop that have something to send when its turn is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: list[_Joined] = []

    def add(self, transport: "_Joined") -> None:
        if not self._waiting:
            self.loop.call_soon(self._send)
        self._waiting.append(transport)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            try:  # noqa: SIM105  suppress() would be three calls more for every answer
                transport.send()
            except RuntimeError:  # uvloop's, of a connection that was lost meanwhile: the others have theirs
                pass


class _Joined:
    """A transport that sends what is written in one turn of the event loop together."""

    def __init__(self, transport: asyncio.Transport, turn: _Turn) -> None:
        self._transport = transport
        self._turn = turn
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing  # asked for at every answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._turn.add(self)
        self._parts.append(data)

    def close(self) -> None:
        self.send()
        self._transport.close()

    def send(self) -> None:
        """What was written since the last time."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts) if len(parts) > 1 else parts[0])
