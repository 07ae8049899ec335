"""The record of one request on its way: which model predicted it, how long each part took, why it failed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from inferry.observability import context
from inferry.observability.stats import Timings


class Span(Protocol):
    """The span of a request in a trace, as `traces` makes it; only the end of the request is its business here."""

    def end(self, record: "RequestRecord") -> None:
        """Ends the span: the response is sent."""


class Payloads(Protocol):
    """The first bytes of the bodies of request and response, where LOG_PAYLOADS asks for them."""

    def fields(self) -> dict[str, str]:
        """The text of each body, by its field in the line of the log."""


class CapturedTensor(NamedTuple):
    """An input or an output of a request, as `kind` says, in its binary form: `data`, None where that is too large."""

    kind: str
    name: str
    datatype: str
    shape: list[int]
    data: bytes | None
    sha256: str


class Sampler(Protocol):
    """Decides whether the inputs and outputs of a request are kept; `request` and `responses` are the protocol's."""

    def take(self, record: "RequestRecord", request: Any, responses: Any, failed: bool) -> None:
        """Fills in `captured` of a record whose other fields are there, but for its status."""


class RequestSink(Protocol):
    """Where the records of requests go that are over, as the log in PostgreSQL; no sink of metrics."""

    def add(self, record: "RequestRecord") -> None:
        """Takes a record that nobody changes any more. Never waits, never raises."""


class RequestRecord(Timings):
    """One request, filled in where things happen; moments are of time.perf_counter_ns, 0 for what didn't happen."""

    # Written and read several times as fast as attributes whose defaults are the class's.
    __slots__ = (
        "captured",
        "cold_start",
        "digest",
        "ended",
        "loaded",
        "loading",
        "method",
        "model",
        "name",
        "path",
        "payloads",
        "reason",
        "received",
        "route",
        "rows",
        "sampler",
        "sent",
        "sink",
        "span",
        "started",
        "status",
        "taken",
        "trace",
        "version",
    )

    def __init__(self, method: str, path: str, name: str | bytes, trace: str | bytes, started: int) -> None:
        """`name` and `trace`: as `context.named` has them."""
        self.method = method
        self.path = path
        self.name = name
        self.trace = trace
        self.started = started
        self.cold_start = False
        self.model = self.version = self.digest = self.reason = self.route = ""
        self.decode = self.queue = self.infer = self.encode = self.batch = self.cache = 0
        self.cached = False
        self.rows = self.status = self.received = self.sent = 0
        self.taken = self.loading = self.loaded = self.ended = 0
        self.span: Span | None = None
        self.sink: RequestSink | None = None
        self.sampler: Sampler | None = None
        self.captured: tuple[CapturedTensor, ...] = ()
        self.payloads: Payloads | None = None

    def end(self) -> None:
        """The request is over, answered or not."""
        self.ended = time.perf_counter_ns()
        if self.span is not None:
            self.span.end(self)
        if self.sink is not None:
            self.sink.add(self)

    # Read when they are asked for, which is when nobody waits for the response any more.

    @property
    def request_id(self) -> str:
        """The id of the request, which the header x-request-id of the response repeats."""
        return self.name if isinstance(self.name, str) else self.name.decode()

    @property
    def outcome(self) -> str:
        """As in our metrics; below 500 what isn't counted there, no route for example, is the caller's fault."""
        if not self.reason:
            return "success" if self.status < 400 else "error"
        return "invalid" if self.reason == "error" and self.status < 500 else self.reason

    @property
    def trace_id(self) -> str:
        """The id of the trace that the request belongs to; empty without one."""
        return context.trace_id(self.trace)


# The record of the request that a service, or an endpoint, works for; None where nobody keeps one.
current_record: ContextVar[RequestRecord | None] = ContextVar("inferry.observation", default=None)


@contextmanager
def recording(record: RequestRecord | None) -> Iterator[None]:
    """Makes `record` the `current_record` inside the block."""
    token = current_record.set(record)
    try:
        yield
    finally:
        current_record.reset(token)
