"""What is kept of every request: its id, its line in the log, its row in the request log, its trace."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inferry.http.asgi import Headers, Message, Receive, Scope, Send, below, below_base
from inferry.observability import context
from inferry.observability.access_log import PROBES, Request
from inferry.observability.record import RequestRecord, RequestSink, Sampler
from inferry.observability.registry import Metrics
from inferry.settings import Settings

if TYPE_CHECKING:
    from inferry.observability.traces import Tracer

_ENCODED = b"content-encoding"


class Observer:
    """Sees to an id for each request, its line in the log, and its spans where there is a `tracer`.

    `sink` has the record of each that is over, with what `sampler` keeps of its inputs and outputs.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        tracer: "Tracer | None",
        sink: RequestSink | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        self._make_record = Request if settings.log_format == "json" else RequestRecord
        self._payloads = settings.log_payloads
        self._tracer = tracer
        self._sink = sink
        self._sampler = sampler
        self._metrics = metrics
        self._base = settings.base_path.rstrip("/")

    def begin(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> tuple[RequestRecord, Headers, Receive, Send]:
        """The record of a request that comes, headers for its response, and `receive` and `send` to use from now on."""
        record, added = self.record(scope, headers)
        if self._payloads:
            record.payloads = payloads = _Payloads(scope, self._payloads)
            receive, send = payloads.received(receive), payloads.sent(send)
        return record, added, receive, send

    def record(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[RequestRecord, Headers]:
        """The record of a request that comes, and headers for its response.

        Whoever answers the request fills the record in, and ends it.
        """
        started = time.perf_counter_ns()
        platform = scope[context.KEY] if context.KEY in scope else None  # noqa: SIM401  a call for every request
        name, header, trace = context.named(platform, headers)
        record = self._make_record(scope["method"], scope["path"], name, trace, started)
        if platform and platform.get("cold_start"):
            record.cold_start = True
        record.sink, record.sampler = self._sink, self._sampler
        added = [header]
        if self._tracer and not self._is_probe(scope):
            record.span = span = self._tracer.start(scope, record.request_id, self._metrics)
            record.trace = span.trace_id
            added += span.headers
        return record, added

    def _is_probe(self, scope: Scope) -> bool:
        """Whether it asks for liveness or readiness, as machines do every few seconds: that is not worth a trace."""
        root, path = scope.get("root_path", ""), scope["path"]
        return (below_base(self._base, root, path) if self._base else below(root, path)).rstrip("/") in PROBES


class _Payloads:
    """The first bytes of the two bodies of an exchange, unless they are compressed."""

    def __init__(self, scope: Scope, limit: int) -> None:
        self._request = _Start(0 if _is_encoded(scope["headers"]) else limit)
        self._response = _Start(limit)

    def received(self, receive: Receive) -> Receive:
        async def received() -> Message:
            message = await receive()
            self._request.add(message.get("body", b""))
            return message

        return received

    def sent(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_encoded(message["headers"]):
                self._response.limit = 0
            self._response.add(message.get("body", b""))
            await send(message)

        return sent

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
