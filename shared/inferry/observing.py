"""Sees every request from outside of the application: a line of the log, and a trace, for each."""

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inferry import context
from inferry.asgi import ASGIApp, Message, Receive, Scope, Send
from inferry.context import Context
from inferry.observation import Observation, observed
from inferry.settings import Settings
from inferry.stats import reason_of

if TYPE_CHECKING:
    from inferry.traces import Tracer

log = logging.getLogger("inferry")

# Asked for every few seconds by machines: their lines are for LOG_LEVEL=DEBUG.
_PROBES = ("/health", "/v2/health/live", "/v2/health/ready", "/metrics")
_ENCODED = b"content-encoding"


class Observing:
    """`app` with a request id for each request, its line in the log, and its spans where there is a `tracer`."""

    def __init__(self, app: ASGIApp, settings: Settings, tracer: "Tracer | None") -> None:
        self._app = app
        self._lines = settings.log_format == "json"
        self._payloads = settings.log_payloads
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(_with_id(scope), receive, send, self._payloads)
        span = self._tracer.start(exchange.scope, exchange.context) if self._tracer else None
        if span:
            exchange.answer_with(span.headers)
        token = observed.set(exchange.seen)
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            observed.reset(token)
            took = time.perf_counter_ns() - exchange.start
            if span:
                span.end(exchange.seen, exchange.status, exchange.start, took)
            if self._lines:
                _write_line(exchange, took, exchange.context.trace_id or (span.trace_id if span else ""))


class _Exchange:
    """A request and its answer as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, payloads: int) -> None:
        self.scope = scope
        self.context: Context = context.read(scope)
        self.seen = Observation()
        self.start = time.perf_counter_ns()
        self.status = 0
        self.received = _Body(0 if _is_encoded(scope["headers"]) else payloads)
        self.sent = _Body(payloads)
        self._receive, self._send = receive, send
        self._headers: list[tuple[bytes, bytes]] = []

    def answer_with(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Adds headers to the answer."""
        self._headers = headers

    async def receive(self) -> Message:
        message = await self._receive()
        self.received.add(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if _is_encoded(message["headers"]):
                self.sent.limit = 0
            message = {**message, "headers": [*message["headers"], *self._headers]}
        else:
            self.sent.add(message.get("body", b""))
        await self._send(message)


class _Body:
    """How long a body is, and its first `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.start = b""

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if len(self.start) < self.limit:
            self.start += part[: self.limit - len(self.start)]


def _is_encoded(headers: Any) -> bool:
    return any(name == _ENCODED for name, _ in headers)


def _with_id(scope: Scope) -> Scope:
    """The scope with a request id, made up where nobody gave one."""
    if context.answered_id(scope, dict(scope["headers"])):
        return scope
    return {**scope, context.KEY: {**(scope.get(context.KEY) or {}), "request_id": os.urandom(8).hex()}}


def _write_line(exchange: _Exchange, took: int, trace_id: str) -> None:
    method, path, status = exchange.scope["method"], exchange.scope["path"], exchange.status
    level = logging.DEBUG if path in _PROBES and status == 200 else logging.INFO
    if log.isEnabledFor(level):
        fields = _fields(exchange, took, trace_id)
        said = (method, path[:200], status, fields["duration_ms"])
        # `log.log` would look for its caller in the stack, and for each field among its own: half of what a line costs.
        record = logging.LogRecord(log.name, level, __file__, 0, "%s %s %s in %s ms", said, None, "request")
        vars(record).update(fields)
        log.handle(record)


def _fields(exchange: _Exchange, took: int, trace_id: str) -> Mapping[str, Any]:
    """What a line says beside its message. Everything is named as in Powertools' lines, or as in our metrics."""
    seen = exchange.seen
    fields = {
        "request_id": exchange.context.request_id,
        "trace_id": trace_id,
        "cold_start": exchange.context.cold_start,
        "method": exchange.scope["method"],
        "path": exchange.scope["path"][:200],
        "status": exchange.status,
        "outcome": _outcome(seen.error, exchange.status),
        "duration_ms": _ms(took),
        "request_bytes": exchange.received.size,
        "response_bytes": exchange.sent.size,
    }
    if seen.timings:
        fields |= {"model": seen.model, "version": seen.version, "rows": seen.rows}
        fields |= {f"{part}_ms": _ms(getattr(seen.timings, part)) for part in ("decode", "queue", "infer", "encode")}
        if seen.timings.batch:
            fields["batch_rows"] = seen.timings.batch
    if seen.loaded:
        fields["load_ms"] = _ms(seen.loaded - seen.loading)
    for name, body in (("request_payload", exchange.received), ("response_payload", exchange.sent)):
        if body.limit:
            fields[name] = body.start.decode(errors="replace")
    return fields


def _outcome(error: BaseException | None, status: int) -> str:
    """As in our metrics; below 500 what isn't counted there, no route for example, is the caller's fault."""
    if error is None:
        return "success" if status < 400 else "error"
    reason = reason_of(error)
    return "invalid" if reason == "error" and status < 500 else reason


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)
