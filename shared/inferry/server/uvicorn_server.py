"""The local server: uvicorn around the application, one process or several on one port."""

import asyncio
import errno
import logging
import math
import os
import signal
import socket
import time
from functools import partial
from multiprocessing.connection import Connection as PipeEnd
from multiprocessing.connection import Pipe
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors import multiprocess

from inferry.errors import InvalidSettings
from inferry.http import asgi
from inferry.server import backlog
from inferry.server.connection import Connection, Limits
from inferry.settings import Settings

log = logging.getLogger("inferry")

# How often connections are looked at.
_LOOK_SECONDS = 0.2
# How often it is said that descriptors have run out.
_SAY_SECONDS = 60.0
_HANDSHAKE_SECONDS = 0.1


def run(app: Any, listener: socket.socket, settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; what is in flight then is answered first. `app` may name a factory for workers.

    One process takes the application, several take the name "module:factory" of what makes one.
    """
    config = _Config(app, factory=isinstance(app, str), **_options(settings))
    config.grace = settings.shutdown_grace
    if settings.workers > 1:
        _Supervisor(config, sockets=[listener]).run()
        return
    # uvicorn raises the signal again after it has shut down; answering it makes the exit status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config).run(sockets=[listener])


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
        "http": partial(Connection, limits=Limits.of(settings)),
        "interface": "asgi3",
        "ws": "none",
        "lifespan": "on",
        # In JSON, `logs` has formatted these loggers, and each request has its line already.
        **({"log_config": None} if json else {}),
        "access_log": settings.debug and not json,
        "log_level": "debug" if settings.debug else "warning",
        "workers": settings.workers,
        "server_header": False,
        # Nothing here asks who the client is.
        "proxy_headers": False,
        "timeout_keep_alive": settings.idle_timeout,
        # Idle connections must not keep a server from ending: what is in flight has as long as a prediction may take.
        "timeout_graceful_shutdown": int(settings.model_timeout) + 5,
    }


class _Config(uvicorn.Config):
    """uvicorn's, which reaches the workers as well: `ends` can be read when all of them end, and not only one."""

    grace = 0.0
    ends: "PipeEnd | None" = None


class _Server(uvicorn.Server):
    """uvicorn's, which goes on answering for a while after SIGTERM, not ready any more, and then loses nobody.

    SIGINT ends that time, or leaves it out: somebody waits at the keyboard.
    """

    config: _Config

    def __init__(self, config: _Config) -> None:
        super().__init__(config)
        self._late: set[Connection] = set()
        self._terminated = False
        self._ends: float | None = None
        self._said = -math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._look()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and not self.should_exit:
            self._terminated = True
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._terminated:
            self._count_down()
        return await super().on_tick(counter)

    def _count_down(self) -> None:
        if self._ends is None:
            self._ends = time.monotonic() + self.config.grace
            self._drain()
            if self.config.grace:
                log.info("ending: not ready any more, but answering for %g s (SHUTDOWN_GRACE)", self.config.grace)
        if self._ends <= time.monotonic():
            super().handle_exit(signal.SIGTERM, None)

    def _drain(self) -> None:
        """From now on every response is the last of its connection, and the server is not ready."""
        self.lifespan.state[asgi.DRAINING] = True
        for connection in self._connections():
            if connection.cycle is not None and not connection.cycle.response_complete:
                connection.cycle.keep_alive = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        if ending := self.lifespan.state.get(asgi.ENDING):
            ending.set()
        await self._stop_listening(sockets or [])
        await super().shutdown(sockets=sockets)

    async def _stop_listening(self, listeners: list[socket.socket]) -> None:
        if self.config.ends is None or self.config.ends.poll():
            for listener in listeners:
                backlog.turn_away(listener)
            # Handshakes that have begun are over by then, and their connections taken.
            await asyncio.sleep(_HANDSHAKE_SECONDS)
        clients = [client for listener in listeners for client in backlog.waiting(listener)]
        for server in self.servers:
            server.close()
        for client in clients:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, client)

    def _connection(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _connections(self) -> list[Connection]:
        return [item for item in self.server_state.connections if isinstance(item, Connection)]

    def _look(self) -> None:
        """Ends what is late twice: a busy loop has read in between what had come long before."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = {connection for connection in self._connections() if connection.is_late(now)}
        for connection in late & self._late:
            connection.late()
        self._late = late
        if now - self._said >= _SAY_SECONDS and _descriptors_ran_out():
            self._said = now
            log.error(
                "no file descriptor is left, with %d connections: new ones are closed. Raise the limit (ulimit -n), or "
                "lower MAX_CONNECTIONS",
                len(self._connections()),
            )
        loop.call_later(_LOOK_SECONDS, self._look)


def _descriptors_ran_out() -> bool:
    """Whether nothing can be opened. Event loops say nothing of it: uvloop takes connections and closes them."""
    try:
        os.close(os.dup(0))
    except OSError as exc:
        return exc.errno in (errno.EMFILE, errno.ENFILE)
    return False


class _Worker(multiprocess.Process):
    """uvicorn's worker process, with our server in it."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = _Server(self.config)  # type: ignore[arg-type]
        return self._server


# Its supervisor makes processes by this name.
multiprocess.Process = _Worker  # type: ignore[misc]


class _Supervisor(multiprocess.Multiprocess):
    """uvicorn's, which listens no longer than its workers, and tells them which signal came."""

    def __init__(self, config: _Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        config.ends, self._end = Pipe(duplex=False)

    def keep_subprocess_alive(self) -> None:
        before = [*self.processes]
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if new is not old:
                log.error("worker %s %s; worker %s takes its place", old.pid, _end(old.exitcode), new.pid)

    def handle_int(self) -> None:
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, signal.SIGINT)
        super().handle_int()

    def terminate_all(self) -> None:
        self._end.close()
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


def _end(status: int | None) -> str:
    """How a process ended, by its exit status; negative is a signal's number."""
    if status is None or status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    cause = ": it did not answer, or the system had no memory left" if name == "SIGKILL" else ""
    return f"was ended by {name}{cause}"
