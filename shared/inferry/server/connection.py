"""A client's connection to the local server: uvicorn's protocol with limits, and fewer system calls."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inferry.concurrency import OTHERS, TURN, Client, FairQueue
from inferry.errors import RequestTimeout
from inferry.http import asgi
from inferry.http.asgi import ASGIApp, Message, Receive, Scope, Send
from inferry.observability import logs
from inferry.protocol.types import JSON
from inferry.server import clients
from inferry.settings import Settings

# A header has no more fields: each costs more than its bytes.
_FIELDS = 100
# Bytes a second of a body over the time of BODY_TIMEOUT, as Apache has it (RequestReadTimeout, MinRate).
_LEAST_RATE = 500
# A line waits for others no longer than this.
_LINE_SECONDS = 0.05
# As much may be read at once, of whatever comes together.
_CHUNK = 256 * 1024
# What has more lines, as chunks and requests have, is parsed a slice at a time, and others at once: a slice costs 9 us.
# What takes more seconds of CPU than `_LONG` lets others go on before the next.
_LINES, _SLICE, _LONG = 256, 16 * 1024, 0.002
# Seconds of the event loop that requests which came together have, before clients take turns; what a turn has while no
# other client comes, and how many requests at most.
_FREE, _ALONE, _MOST = 0.01, 0.004, 256
# Requests of a client with nothing waiting that begin at once between two turns of the others, and how long these pause
# at most.
_OTHERS, _LONGEST_PAUSE = 4, 0.1
# Parts of a response that are larger together are not copied into one.
_COPIED = 64 * 1024
# A connection that is closed while its client still sends is reset, and the client may never see why.
_LINGER_SECONDS = 1.0
# A request whose client sends nothing more is answered if that takes no longer than this to begin.
_SILENCE_SECONDS = 0.25
_CONNECT, _INVALID = b"CONNECT", "Invalid HTTP request received."
# A server that ends answers what its clients had sent before they could know.
_LAST_SECONDS = 1.0


def _is_news(record: logging.LogRecord) -> bool:
    """Whether this is no request that was ended, by its client or with the server: uvicorn takes that for an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class Limits(NamedTuple):
    """What a connection may cost: bytes, and seconds without progress; `connections` of a process.

    Any client but one of the `proxies` may have half of the connections.
    """

    header_bytes: int
    header: float
    body: float
    idle: float
    connections: int
    proxies: clients.Proxies
    client: Client

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(
            settings.max_header_bytes,
            settings.header_timeout,
            settings.body_timeout,
            settings.idle_timeout,
            settings.max_connections,
            clients.Proxies(settings),
            clients.Clients(settings),
        )


class Connection(HttpToolsProtocol):
    """uvicorn's, which ends what comes too slowly or is too much, and the request of a client that is gone.

    It needs one system call per response, where uvicorn writes the head and the body apart. What the log has of
    requests comes behind their responses, of many by one more: soon, but not at once.
    """

    transport: "_Joined"  # type: ignore[assignment]
    _turn: "_Turn | None" = None  # of the process's one loop

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self.logger.addFilter(_is_news)  # the same one each time
        self._most = limits.header_bytes
        self._application: ASGIApp = self.app
        self.app = self._begin
        # The request that is answered now, or was last.
        self._task: asyncio.Task[Any] | None = None
        self._answered: RequestResponseCycle | None = None
        self._stalled = False
        # Bytes since the last whole request, or the last of a body.
        self._seen = 0
        self._is_large = False
        # What was read and not taken yet.
        self._unread, self._resting = b"", False
        self._body, self._body_length = bytearray(), 0
        # A header (its scope) or a body (its cycle), and when it must have come, as the loop's clock has it.
        self._awaited: object = None
        self.until = math.inf
        # Bytes of a body that came since that was put off the last time.
        self._came = 0
        # Bytes of responses that the client has not taken, and until when it may leave it at that.
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
        elif self._has_too_many(share := max(1, most // 2)):
            self._refuse(503, f"this client has {share} connections already, half of MAX_CONNECTIONS; try later")

    def _has_too_many(self, share: int) -> bool:
        """Whether this is one too many of its client's, as it is counted only where there are so many of anybody's."""
        if len(self.connections) <= share or (self.client and self.client[0] in self._limits.proxies):
            return False
        network = self._network
        return len([one for one in self.connections if isinstance(one, Connection) and one._network == network]) > share

    @property
    def _network(self) -> str:
        client: tuple[str, int] | None = self.client
        return clients.network_of(client[0]) if client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        cycle = self._answered
        if cycle is not None and not cycle.response_complete and self._task is not None:
            # Of several requests that came together uvicorn tells the last.
            cycle.disconnected = True
            self._task.cancel()
        super().connection_lost(exc)
        self.app = self._application  # no circle is left behind

    def data_received(self, data: bytes) -> None:
        """Takes what came; of what is slow to parse (chunks of one byte), and of many requests, a little at a time."""
        if data.count(b"\n") <= _LINES:
            self._parse(data)
            return
        view, began = memoryview(data), time.thread_time()
        for start in range(0, len(data), _SLICE):
            self._parse(view[start : start + _SLICE])
            if self._is_over():
                return
            took = time.thread_time() - began
            if took > _LONG or self.pipeline:
                self._wait(data[start + _SLICE :], OTHERS * took if took > _LONG else 0)
                return

    def _wait(self, unread: bytes, seconds: float) -> None:
        """Takes nothing more for so long, behind what else comes from this network, nor before all is answered."""
        self._unread = unread
        if seconds:
            self._resting = True
            seconds = self._turn.rest(self._network, seconds)  # type: ignore[union-attr]
            self.until += seconds
            self.loop.call_later(seconds, self._rested)
        if seconds or unread:
            self.transport.hold()

    def _rested(self) -> None:
        self._resting = False
        self._go_on()

    def _go_on(self) -> None:
        if self._resting or self.pipeline or self._is_over():
            return
        unread, self._unread = self._unread, b""
        if unread:
            self.data_received(unread)
        if not (self._resting or self._unread or self._is_over()):
            self.transport.let_go()

    def _is_over(self) -> bool:
        """Whether nothing that comes is a request any more."""
        return self.transport.is_closing() or self.transport.get_protocol() is not self

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_over():
            return
        if self.pipeline:
            # uvicorn reads on: what has not been answered would have no bound.
            self.flow.pause_reading()
        elif self.transport.is_held:
            self._go_on()

    def _parse(self, data: "bytes | memoryview") -> None:
        self._seen += len(data)
        if self._seen > self._most:
            self._is_large = True
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.logger.warning(_INVALID)
            self.send_400_response(_INVALID)
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.more_body:
            self._unfinished(cycle, len(data))
            return
        self._seen = 0
        # Behind a response only empty lines may come without a request.
        self.until = self.loop.time() + self._limits.idle if cycle.response_complete else math.inf
        if self.flow.read_paused and not self.pipeline:
            # Nobody reads on when the body is whole, and only who reads hears that the client is gone.
            self.flow.resume_reading()
        if asgi.DRAINING in self.app_state:
            cycle.keep_alive = False

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has said all that it will, or has left: which of the two shows only when it is answered.

        So its request goes on for a moment. True: the connection is closed here.
        """
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.more_body or cycle.response_complete:
            self.transport.close()  # behind what is written in this turn
        else:
            cycle.keep_alive = False
            self.loop.call_later(_SILENCE_SECONDS, self._give_up, cycle)
        return True

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        if not cycle.response_started:
            self.transport.close()

    def shutdown(self) -> None:
        """The server ends. A request that is on its way is answered still, with the news that it was the last."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(_LAST_SECONDS, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        # It is set when a response is sent, though the next header may have begun before.
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
        """Ends what is late: the application gets to know, the request is refused, or the connection is dropped."""
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

    def _unfinished(self, cycle: RequestResponseCycle | None, came: int) -> None:
        """A part of a request came, and it is not the last one; so many bytes at once."""
        if self.transport.is_closing():
            return
        if cycle is not None and cycle.scope is self.scope:
            self._await(cycle, self._limits.body, self._has_grown(cycle), came)
        else:
            self._await(self.scope, self._limits.header, False, came)
        # What came in front of a header in one piece is counted with it, and what is no body in a body's chunks.
        if self._seen > self._most + _CHUNK:
            self._refuse(431, self._too_large())

    def _await(self, awaited: object, seconds: float, goes_on: bool, came: int) -> None:
        if goes_on:
            self._seen = 0
            self._came += came
        if awaited is not self._awaited or self._came >= _LEAST_RATE * seconds:
            # Of requests that come one behind the other, a part of the next may always be there.
            self._seen = min(self._seen, came)
            self._awaited, self._came = awaited, 0
            self.until = self.loop.time() + seconds

    def _has_grown(self, cycle: RequestResponseCycle) -> bool:
        """Whether its body has. Who reads it leaves an empty one; nobody wants the rest of one that was refused."""
        body, before = cycle.body, self._body_length if cycle.body is self._body else 0
        self._body, self._body_length = body, len(body)
        return len(body) > before or cycle.response_complete

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own: every request comes by.
        clients.scope.set(scope)
        self._answered = cycle = receive.__self__  # type: ignore[attr-defined]
        self._task = asyncio.current_task()
        if (count := len(scope["headers"])) > _FIELDS:
            return asgi.respond(_refusal(431, f"the request's header has {count} fields: send {_FIELDS} at most"), send)
        if self._is_large and _size(scope) > self._most:
            return asgi.respond(_refusal(431, self._too_large()), send)
        if cycle.more_body:
            receive = self._progressing(receive)
        if self._turn.is_crowded():  # type: ignore[union-attr]
            return self._in_turn(scope, receive, send)
        return self._application(scope, receive, send)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._turn.of(self._limits.client())  # type: ignore[union-attr]
        await self._application(scope, receive, send)

    def _progressing(self, receive: Receive) -> Receive:
        async def received() -> Message:
            message = await receive()
            if self._stalled:
                seconds = self._limits.body
                raise RequestTimeout(
                    f"less than {_LEAST_RATE * seconds:g} bytes of the request's body came in {seconds:g} s "
                    "(BODY_TIMEOUT): send it again"
                )
            return message

        return received

    def _too_large(self) -> str:
        return f"the request's header is over {self._most} bytes (MAX_HEADER_BYTES): send fewer or shorter fields"

    def _refuse(self, status: int, text: str) -> None:
        """Answers for the application, and takes what still comes until the client has read it."""
        if self._answered is not None and not self._answered.response_complete:
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

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != _CONNECT:
            return  # `_feed` has it once more
        super().on_headers_complete()
        # Trailer fields, which come behind the body, are no header fields: nobody in front of us looked at them.
        self.headers = []

    def on_message_complete(self) -> None:
        if self.cycle is not None and self.cycle.scope is self.scope:
            super().on_message_complete()

    def _feed(self, data: "bytes | memoryview") -> None:
        """Parses what came. A request to go on in another protocol is taken as it is (RFC 9110, 7.8).

        The parser takes its body for the other protocol, so that a new one gets its header without the wish.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as exc:
                if self.parser.get_method() == _CONNECT:
                    self.cycle.keep_alive = False  # what comes behind it is for a tunnel
                    return
                lines = [
                    b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                ]
                lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
                data = b"\r\n".join([*lines, b"", data[exc.args[0] :]])
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _later(self, write: Callable[[], None]) -> None:
        self.loop.call_later(_LINE_SECONDS, write)


class _Deaf(asyncio.Protocol):
    """Takes what comes, and does nothing with it."""


def _refusal(status: int, text: str) -> asgi.Response:
    headers = [JSON, (b"connection", b"close")]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    return status, orjson.dumps({"error": text}), headers


def _size(scope: Scope) -> int:
    """The size of a request's header in bytes, about as it came."""
    return len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(n) + len(v) + 4 for n, v in scope["headers"])


class _Turn:
    """A turn of the event loop: the requests that begin in it, and the transports that send when it is over.

    Where more requests come at once than are answered in `_FREE` seconds, they wait, and clients take turns, of `TURN`
    seconds where there are several. Between two turns the loop sees what else has come: who had nothing waiting begins
    at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # When the first request of this turn began; 0 while none has.
        self._began = 0.0
        self._crowd: FairQueue[asyncio.Future[None]] = FairQueue()
        self._is_crowded, self._at_once = False, 1
        # How many requests of others began since the last of these turns.
        self._others: Counter[str] = Counter()
        self._waiting: list[_Joined] = []
        # When the last rest of a network is over, as the loop's clock has it.
        self._rests: dict[str, float] = {}

    def is_crowded(self) -> bool:
        """Whether a request that begins now has to ask `of` for its turn."""
        if self._is_crowded:
            return True
        now = time.perf_counter()
        if not self._began:
            self._began = now
        return now - self._began > _FREE

    async def of(self, client: str) -> None:
        """Returns when it is this client's turn."""
        if not self._is_crowded:
            self._is_crowded, self._began = True, time.perf_counter()
            self.loop.call_soon(self._begin)
        elif self._others[client] < _OTHERS and not self._crowd.of(client):
            self._others[client] += 1
            return
        turn = self.loop.create_future()
        self._crowd.add(client, turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._crowd.remove(client, turn)
            raise

    def _begin(self) -> None:
        """Lets as many requests begin as take a turn."""
        self._began = time.perf_counter()
        self._others.clear()
        for _ in range(min(self._at_once, len(self._crowd))):
            turn = self._crowd.pop()
            if not turn.done():  # else its request was given up just now
                turn.set_result(None)
        self.loop.call_soon(self._worked)  # behind them

    def _worked(self) -> None:
        took = time.perf_counter() - self._began
        wanted = self._at_once * (TURN if self._others else _ALONE) / took
        self._at_once = max(1, min(int(wanted), 2 * self._at_once, _MOST))
        self._is_crowded = len(self._crowd) > 0
        if not self._is_crowded:
            return
        if took > TURN and self._others:
            # As much time for the others; a client that is alone loses none.
            self.loop.call_later(min(took, _LONGEST_PAUSE), self._begin)
        else:
            self.loop.call_soon(self._begin)

    def rest(self, network: str, seconds: float) -> float:
        """How long a connection rests that has to for so many seconds: behind the others of its network."""
        now = self.loop.time()
        end = self._rests[network] = max(now, self._rests.get(network, now)) + seconds
        self.loop.call_at(end, self._rested, network)
        return end - now

    def _rested(self, network: str) -> None:
        # Loops round to milliseconds.
        if self._rests.get(network, math.inf) <= self.loop.time() + 0.002:
            del self._rests[network]

    def add(self, transport: "_Joined") -> None:
        if not self._waiting:
            self.loop.call_soon(self._send)
        self._waiting.append(transport)

    def _send(self) -> None:
        if not self._is_crowded:
            self._began = 0.0
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            with suppress(RuntimeError):  # uvloop's, of a connection that was lost meanwhile: the others have theirs
                transport.send()


class _Joined:
    """A transport that sends what is written in one turn of the event loop together."""

    def __init__(self, transport: asyncio.Transport, turn: _Turn) -> None:
        self._transport = transport
        self._turn = turn
        self._parts: list[bytes] = []
        self._paused = self.is_held = False
        self.is_closing = transport.is_closing  # asked for at every response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._turn.add(self)
        self._parts.append(data)

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self.is_held:
            self._transport.resume_reading()

    def hold(self) -> None:
        """Reads nothing, whoever wants to."""
        self.is_held = True
        self._transport.pause_reading()

    def let_go(self) -> None:
        """Reads again, unless it was paused."""
        self.is_held = False
        if not self._paused:
            self._transport.resume_reading()

    def write_eof(self) -> None:
        self.send()
        self._transport.write_eof()

    def close(self) -> None:
        with suppress(RuntimeError):  # of what was answered behind `write_eof`, or to a client that has left
            self.send()
        self._transport.close()

    def send(self) -> None:
        """Sends what was written since the last time."""
        if self._parts:
            parts, self._parts = self._parts, []
            if sum(map(len, parts)) > _COPIED:
                self._transport.writelines(parts)
            else:
                self._transport.write(b"".join(parts))
