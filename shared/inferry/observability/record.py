"""What is seen of one request on its way: by whom it was predicted, how long each part took, why it failed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from inferry.observability import context
from inferry.observability.stats import Timings


class Span(Protocol):
    """Of a trace."""

    def end(self, seen: "Observation") -> None:
        """The answer is sent."""


class Payloads(Protocol):
    """The starts of the two bodies."""

    def fields(self) -> dict[str, str]:
        """By their names in the log."""


class Observation(Timings):
    """Filled in where things happen; moments are of time.perf_counter_ns, 0 for what didn't happen."""

    # Written and read several times as fast as attributes whose defaults are the class's.
    __slots__ = (
        "cold_start",
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
        "sent",
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
        self.model = self.version = self.reason = self.route = ""
        self.decode = self.queue = self.infer = self.encode = self.batch = 0
        self.rows = self.status = self.received = self.sent = 0
        self.taken = self.loading = self.loaded = self.ended = 0
        self.span: Span | None = None
        self.payloads: Payloads | None = None

    def end(self) -> None:
        """The request is over, answered or not."""
        self.ended = time.perf_counter_ns()
        if self.span is not None:
            self.span.end(self)

    # Read when they are asked for, which is when nobody waits for the answer any more.

    @property
    def request_id(self) -> str:
        """The one that the answer repeats."""
        return self.name if isinstance(self.name, str) else self.name.decode()

    @property
    def trace_id(self) -> str:
        """Empty without a trace."""
        return context.trace_id(self.trace)


# What is seen of the request that a service, or an endpoint, works for; None where nobody looks.
observed: ContextVar[Observation | None] = ContextVar("inferry.observation", default=None)


@contextmanager
def looked_at(seen: Observation | None) -> Iterator[None]:
    """Makes `seen` the one that is `observed` inside."""
    token = observed.set(seen)
    try:
        yield
    finally:
        observed.reset(token)
