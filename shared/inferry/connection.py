"""A client's connection to the local server: uvicorn's protocol with limits, and fewer system calls."""

import asyncio
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inferry import asgi, logs
from inferry.asgi import ASGIApp, Message, Receive, Scope, Send
from inferry.errors import RequestTimeout
from inferry.protocol import JSON
from inferry.settings import Settings

# A line waits for others no longer than this.
_LINE_SECONDS = 0.05
# As much may be read at once, of whatever comes together.
_CHUNK = 256 * 1024
# A connection that is closed while its client still sends is reset, and the client may never see why.
_LINGER_SECONDS = 1.0
# A server that ends answers what its clients had sent before they could know.
_LAST_SECONDS = 1.0


class Limits(NamedTuple):
    """What a connection may cost: bytes, and seconds without progress; `connections` of a process."""

    header_bytes: int
    header: float
    body: float
    idle: float
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(
            settings.max_header_bytes,
            settings.header_timeout,
            settings.body_timeout,
            settings.idle_timeout,
            settings.max_connections,
        )


class Connection(HttpToolsProtocol):
    """uvicorn's, which ends what comes too slowly or is too much, and the request of a client that is gone.

    It needs one system call per answer, where uvicorn writes the head and the body apart. What the log has of requests
    comes behind their answers, of many by one more: soon, but not at once.
    """

    _turn: "_Turn | None" = None  # of the process's one loop

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._application: ASGIApp = self.app
        self.app = self._answered
        self._running: tuple[asyncio.Task[Any], RequestResponseCycle] | None = None
        self._stalled = False
        # Bytes since the last whole request, or the last of a body.
        self._seen = 0
        # A header (its scope) or a body (its cycle), and when it must have come, as the loop's clock has it.
        self._awaited: object = None
        self.until = math.inf
        # Bytes of answers that the client has not taken, and until when it may leave it at that.
        self._unsent, self._stuck = 0, math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        logs.together(self._later)
        if Connection._turn is None or Connection._turn.loop is not self.loop:
            Connection._turn = _Turn(self.loop)
        super().connection_made(_Joined(transport, Connection._turn))  # type: ignore[arg-type]
        self.until = self.loop.time() + self._limits.idle
        most = self._limits.connections
        if len(self.connections) > most:
            self._refuse(503, f"the server has {most} connections already (MAX_CONNECTIONS); try later")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._running is not None:
            task, cycle = self._running
            # Of several requests that came together uvicorn tells the last.
            cycle.disconnected = True
            if not cycle.response_complete:
                task.cancel()
        super().connection_lost(exc)
        self.app = self._application  # no circle is left behind

    def data_received(self, data: bytes) -> None:
        self._seen += len(data)
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.more_body:
            self._unfinished(cycle)
            return
        self._seen = 0
        # Behind an answer only empty lines may come without a request.
        self.until = self.loop.time() + self._limits.idle if cycle.response_complete else math.inf
        if self.flow.read_paused and not self.pipeline:
            # Nobody reads on when the body is whole, and only who reads hears that the client is gone.
            self.flow.resume_reading()
        if asgi.DRAINING in self.app_state:
            cycle.keep_alive = False

    def on_headers_complete(self) -> None:
        limit = self._limits.header_bytes
        if self._seen > limit and _size(self.url, self.headers) > limit:
            self.app = _refusing(431, self._too_large())
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._seen, self.until = 0, self.loop.time() + self._limits.body
        super().on_body(body)

    def shutdown(self) -> None:
        """The server ends. A request that is on its way is answered still, with the news that it was the last."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(_LAST_SECONDS, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        # It is set when an answer is sent, though the next header may have begun before.
        if self.cycle is None or self.cycle.scope is self.scope:
            super().timeout_keep_alive_handler()

    def is_late(self, now: float) -> bool:
        """Whether what is awaited has not come, or what was sent was not taken, at this time of the loop's clock."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent or self._stuck == math.inf:
            self._stuck = now + self._limits.body if unsent else math.inf
        self._unsent = unsent
        return self.until <= now or self._stuck <= now

    def late(self) -> None:
        """Ends that."""
        if self._unsent:
            self.transport.abort()
            return
        self.until = math.inf
        cycle = self.cycle
        in_body = cycle is not None and cycle.scope is self.scope
        if self.scope is None or (in_body and cycle.response_complete):
            self.transport.close()
        elif in_body:
            # Who waits for the body is told, and answers.
            self._stalled = True
            cycle.keep_alive = False
            cycle.message_event.set()
        else:
            seconds = self._limits.header
            self._refuse(408, f"the request's header was not whole after {seconds:g} s (HEADER_TIMEOUT)")

    def _unfinished(self, cycle: RequestResponseCycle | None) -> None:
        """A part of a request came, and it is not the last one."""
        if self.transport.is_closing():
            return
        in_body = cycle is not None and cycle.scope is self.scope
        awaited = cycle if in_body else self.scope
        if awaited is not self._awaited:
            self._awaited = awaited
            self.until = self.loop.time() + (self._limits.body if in_body else self._limits.header)
        # What came in front of a header in one piece is counted with it, and what is no body in a body's chunks.
        if self._seen > self._limits.header_bytes + _CHUNK:
            self._refuse(431, self._too_large())

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = receive.__self__  # type: ignore[attr-defined]
        running = self._running = (cast("asyncio.Task[Any]", asyncio.current_task()), cycle)
        try:
            await self._application(scope, self._progressing(receive) if cycle.more_body else receive, send)
        except asyncio.CancelledError:
            if not cycle.disconnected:
                raise
        finally:
            if self._running is running:
                self._running = None

    def _progressing(self, receive: Receive) -> Receive:
        async def received() -> Message:
            message = await receive()
            if self._stalled:
                seconds = self._limits.body
                raise RequestTimeout(
                    f"nothing came of the request's body for {seconds:g} s (BODY_TIMEOUT): send it again"
                )
            return message

        return received

    def _too_large(self) -> str:
        return (
            f"the request's header is over {self._limits.header_bytes} bytes (MAX_HEADER_BYTES): send fewer or shorter "
            "fields"
        )

    def _refuse(self, status: int, text: str) -> None:
        """Answers for the application, and takes what still comes until the client has read it."""
        if self._running is not None:
            self.transport.close()
            return
        self.connections.discard(self)
        status, body, headers = _refusal(status, text)
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
        lines += [b"%b: %b" % header for header in (*headers, (b"content-length", b"%d" % len(body)))]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.write_eof()
        self.transport.set_protocol(_Deaf())
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _later(self, write: Callable[[], None]) -> None:
        self.loop.call_later(_LINE_SECONDS, write)


class _Deaf(asyncio.Protocol):
    """Takes what comes, and does nothing with it."""


def _refusal(status: int, text: str) -> asgi.Response:
    headers = [JSON, (b"connection", b"close")]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    return status, orjson.dumps({"error": text}), headers


def _refusing(status: int, text: str) -> ASGIApp:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await asgi.respond(_refusal(status, text), send)

    return app


def _size(url: bytes, headers: asgi.Headers) -> int:
    """Of a header, as it came."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


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

    def write_eof(self) -> None:
        self.send()
        self._transport.write_eof()

    def close(self) -> None:
        self.send()
        self._transport.close()

    def send(self) -> None:
        """What was written since the last time."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts) if len(parts) > 1 else parts[0])
