"""Sees every request from outside of the application: a line of the log, and a trace, for each."""

import time
from typing import TYPE_CHECKING, Any

from inferry import context, requestline
from inferry.asgi import ASGIApp, Message, Receive, Scope, Send
from inferry.observation import Observation, observed
from inferry.settings import Settings

if TYPE_CHECKING:
    from inferry.traces import Tracer

_ENCODED = b"content-encoding"
_NONE: dict[str, str] = {}


class Observing:
    """`app` with a request id for each request, its line in the log, and its spans where there is a `tracer`."""

    def __init__(self, app: ASGIApp, settings: Settings, tracer: "Tracer | None") -> None:
        self._app = app
        self._lines = settings.log_format == "json"
        self._payloads = settings.log_payloads
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection. `app` fills in what it knows of the answer, and adds the headers of what is observed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter_ns()
        request_id, header, trace = context.named(scope)
        seen = Observation(request_id, trace, [header])
        if context.KEY in scope and context.is_cold(scope):
            seen.cold_start = True
        span = self._tracer.start(scope, request_id) if self._tracer else None
        if span:
            seen.trace = seen.trace_id or span.trace_id
            seen.headers += span.headers
        payloads = _Payloads(scope, receive, send, self._payloads) if self._payloads else None
        if payloads:
            receive, send = payloads.receive, payloads.send
        token = observed.set(seen)
        try:
            await self._app(scope, receive, send)
        finally:
            observed.reset(token)
            took = time.perf_counter_ns() - start
            if span:
                span.end(seen, start, took)
            if self._lines:
                requestline.write(scope["method"], scope["path"], seen, took, payloads.fields() if payloads else _NONE)


class _Payloads:
    """The first bytes of the two bodies of an exchange, unless they are compressed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._request = _Start(0 if _is_encoded(scope["headers"]) else limit)
        self._response = _Start(limit)
        self._receive, self._send = receive, send

    async def receive(self) -> Message:
        message = await self._receive()
        self._request.add(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_encoded(message["headers"]):
            self._response.limit = 0
        self._response.add(message.get("body", b""))
        await self._send(message)

    def fields(self) -> dict[str, str]:
        bodies = {"request_payload": self._request, "response_payload": self._response}
        return {name: body.start.decode(errors="replace") for name, body in bodies.items() if body.limit}


class _Start:
    """The first `limit` bytes of a body."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.start = b""

    def add(self, part: bytes) -> None:
        if len(self.start) < self.limit:
            self.start += part[: self.limit - len(self.start)]


def _is_encoded(headers: Any) -> bool:
    return any(name == _ENCODED for name, _ in headers)
