"""What one model version did in this process: the state behind its metrics and the protocol's statistics."""

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, compress
from operator import not_
from typing import Any, NamedTuple, TypeAlias

from inferry import errors
from inferry.observability import catalogue
from inferry.observability.catalogue import Metric

Labels: TypeAlias = tuple[str, ...]

# Reasons of the catalogue; an error that is in none of these classes is an "error".
REASON: dict[type[BaseException], str] = {
    errors.InvalidRequest: "invalid",
    errors.InvalidArgument: "invalid_argument",
    errors.NotSupported: "invalid",
    errors.KeyMissing: "denied",
    errors.KeyRefused: "denied",
    errors.OriginRefused: "denied",
    errors.HostRefused: "denied",
    errors.DataRefused: "denied",
    errors.ResponseTooLarge: "invalid",
    errors.ModelNotFound: "not_found",
    errors.ModelUnavailable: "unavailable",
    errors.QueueFull: "rejected",
    errors.Overloaded: "rejected",
    errors.InferenceTimeout: "timeout",
    Exception: "error",
    BaseException: "canceled",
}

_BOUNDS_NS = tuple(int(seconds * 1e9) for seconds in catalogue.SECONDS)
# Numbers of a response and of a run, of which so many wait to be added up. To do that under the lock each time takes
# 0.9 us more, 4 % of a request (Python 3.11; the row "counting a request" of `make bench`).
_RESPONSE, _RUN = 9, 2
_FOLD = _RESPONSE * 128
# In the place of a batch's rows: the response was kept, and nothing ran.
_CACHED = -1


class Histogram(NamedTuple):
    """How many observations were at most each bucket's bound, the last of which is infinity, and their sum."""

    counts: tuple[int, ...]
    total: float
    exemplars: "tuple[Exemplar | None, ...]" = ()


class Exemplar(NamedTuple):
    """One observation of a bucket: the span that shows it, its value, and when it was made (since the epoch)."""

    trace_id: str
    span_id: str
    value: float
    at: float


@dataclass(slots=True, eq=False, repr=False)
class Duration:
    """How often something was done, and the nanoseconds it took together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def as_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True, eq=False, repr=False)
class Timings:
    """Nanoseconds of one request: `decode` bytes to arrays, `queue` waiting, `infer` running, `encode` the response.

    `batch` counts the rows of the batch that it ran in, 0 when it was in none; `cache` is the time of the response
    cache, and `cached` whether that had all there is to give.
    """

    decode: int = 0
    queue: int = 0
    infer: int = 0
    encode: int = 0
    batch: int = 0
    cache: int = 0
    cached: bool = False


@dataclass(slots=True, eq=False, repr=False)
class _Runs:
    """Runs of as many inferences, and the nanoseconds of their requests' decoding, of the runs, and of encoding."""

    count: int = 0
    decode: int = 0
    infer: int = 0
    encode: int = 0

    def as_dict(self, size: int) -> dict[str, Any]:
        parts = {"compute_input": self.decode, "compute_infer": self.infer, "compute_output": self.encode}
        return {"batch_size": size, **{name: {"count": self.count, "ns": ns} for name, ns in parts.items()}}


class ModelStats:
    """Counts of one model version in this process. Its methods may be called from several threads.

    A row is a row; an inference, in Triton's statistics and metrics, is a row of a model that is `batched` (it has a
    max_batch_size), and else a request.

    `in_flight` belongs to the event loop: whoever takes a request adds one, `succeeded` and `failed` take it off.
    """

    __slots__ = (
        "_answered",
        "_batched",
        "_batches",
        "_buckets",
        "_cache",
        "_decode",
        "_encode",
        "_exemplars",
        "_failures",
        "_hits",
        "_infer",
        "_inferences",
        "_keeps",
        "_last",
        "_lock",
        "_misses",
        "_queue",
        "_received",
        "_requests",
        "_rows",
        "_run",
        "_runs",
        "_sent",
        "_sizes",
        "created",
        "in_flight",
    )

    def __init__(self, batched: bool = True) -> None:
        self._batched = batched
        self._keeps = False
        self.reset()

    def reset(self) -> None:
        """Nothing has happened yet, and no other thread is at work."""
        self._lock = threading.Lock()
        self.created = time.time()
        self.in_flight = 0
        self._requests = self._rows = self._inferences = self._received = self._sent = 0
        self._decode = self._queue = self._infer = self._encode = self._cache = 0
        # Of those requests that a run was for: how many, and their times.
        self._run = _Runs()
        self._hits, self._misses = Duration(), Duration()
        self._buckets = [0] * (len(_BOUNDS_NS) + 1)
        self._exemplars: list[Exemplar | None] = []
        self._failures = {reason: Duration() for reason in catalogue.REASONS}
        self._batches: defaultdict[int, _Runs] = defaultdict(_Runs)
        self._sizes: Counter[int] = Counter()
        # Numbers that are not added up yet. Extending a list is atomic.
        self._answered: list[int] = []
        self._runs: list[int] = []
        self._last = 0

    def serves(self, batched: bool, keeps_responses: bool = False) -> None:
        """From now on requests are of a model with this config."""
        with self._lock:
            self._fold()
            self._batched = batched
            self._keeps = self._keeps or keeps_responses

    def succeeded(self, timings: Timings, rows: int, ended: int, received: int = 0, sent: int = 0) -> None:
        """A request of `rows` rows was answered; its body had `received` bytes, the response's `sent`.

        `ended` is the moment, of time.perf_counter_ns.

        One that was in no batch was a run of its own.
        """
        self.in_flight -= 1
        self._last = ended
        answered = self._answered
        batch, cache = _CACHED if timings.cached else timings.batch, timings.cache
        answered += (timings.decode, timings.queue, timings.infer, timings.encode, batch, rows, received, sent, cache)
        if len(answered) >= _FOLD:
            with self._lock:
                self._fold()

    def failed(self, exc: BaseException, ns: int) -> None:
        """A request was not answered after `ns` nanoseconds, because of `exc`."""
        reason = reason_of(exc)
        with self._lock:
            self.in_flight -= 1
            self._failures[reason if reason in self._failures else "error"].add(ns)

    def cache_hit(self, ns: int) -> None:
        """A response was kept, and found after `ns` nanoseconds."""
        with self._lock:
            self._hits.add(ns)

    def cache_miss(self, ns: int) -> None:
        """One was not, which took `ns` nanoseconds; those of keeping it from now on are among them."""
        with self._lock:
            self._misses.add(ns)

    def traced(self, ns: int, trace_id: str, span_id: str) -> None:
        """A span shows a request that was answered after `ns` nanoseconds: an exemplar of its bucket."""
        self._exemplars = self._exemplars or [None] * len(self._buckets)
        self._exemplars[bisect_left(_BOUNDS_NS, ns)] = Exemplar(trace_id, span_id, ns / 1e9, time.time())

    def executed(self, rows: int, ns: int) -> None:
        """The session ran once, for `rows` rows of a batch, or of a job."""
        runs = self._runs
        runs += (rows, ns)
        if len(runs) >= _FOLD:
            with self._lock:
                self._fold()

    def _fold(self) -> None:
        """Counts what is only written down yet: a request has better things to do than to add it all up."""
        decode, queue, infer, encode, batches, rows, received, sent, cache = _columns(self._answered, _RESPONSE)
        self._decode += sum(decode)
        self._queue += sum(queue)
        self._infer += sum(infer)
        self._encode += sum(encode)
        self._cache += sum(cache)
        self._requests += len(rows)
        self._rows += sum(rows)
        self._received += sum(received)
        self._sent += sum(sent)
        for took in map(sum, zip(decode, queue, infer, encode, cache, strict=True)):
            self._buckets[bisect_left(_BOUNDS_NS, took)] += 1
        if _CACHED in batches:
            ran = [batch != _CACHED for batch in batches]
            decode, infer, encode, rows = ([*compress(column, ran)] for column in (decode, infer, encode, rows))
            batches = [*compress(batches, ran)]
        self._run.count += len(rows)
        self._run.decode += sum(decode)
        self._run.encode += sum(encode)
        sizes, durations = _columns(self._runs, _RUN)
        sizes += compress(rows, map(not_, batches))
        durations += compress(infer, map(not_, batches))
        self._sizes.update(sizes)
        self._inferences += sum(rows) if self._batched else len(rows)
        if sizes or rows:
            parts = [batch or size for batch, size in zip(batches, rows, strict=True)]
            self._add_runs(sizes, durations, parts, decode, encode)

    def _add_runs(
        self, sizes: list[int], durations: list[int], parts: list[int], decode: list[int], encode: list[int]
    ) -> None:
        """Adds runs of these `sizes`, and the requests that were in runs of the sizes in `parts`."""
        found = {*sizes, *parts} if self._batched else {1}
        if len(found) == 1:  # most are, and sums take a third of the time
            run = self._batches[found.pop()]
            run.count += len(sizes)
            run.decode += sum(decode)
            run.infer += sum(durations)
            run.encode += sum(encode)
            return
        for size, ns in zip(sizes, durations, strict=True):
            run = self._batches[size]
            run.count += 1
            run.infer += ns
        for size, decoding, encoding in zip(parts, decode, encode, strict=True):
            run = self._batches[size]
            run.decode += decoding
            run.encode += encoding

    def as_dict(self) -> dict[str, Any]:
        """The protocol's statistics object, without name, version and memory."""
        with self._lock:
            self._fold()
            parts = {
                "success": Duration(self._requests, sum(self._phases())),
                "queue": Duration(self._requests, self._queue),
                "compute_input": Duration(self._run.count, self._run.decode),
                "compute_infer": Duration(self._run.count, self._infer),
                "compute_output": Duration(self._run.count, self._run.encode),
                "fail": self._failed(catalogue.NV_FAILURES),
                "cache_hit": self._hits,
                "cache_miss": self._misses,
            }
            return {
                "last_inference": self._last_inference(),
                "inference_count": self._inferences,
                "execution_count": self._executions(),
                "inference_stats": {name: duration.as_dict() for name, duration in parts.items()},
                "response_stats": {},
                "batch_stats": [runs.as_dict(size) for size, runs in sorted(self._batches.items())],
            }

    def values(self) -> Iterator[tuple[Metric, Labels, float | Histogram]]:
        """The metrics of a model, each with the labels that come behind its name and version."""
        with self._lock:
            self._fold()
            failed = self._failed(self._failures)
            phases = self._phases()
            reasons = {reason: failure.count for reason, failure in self._failures.items()}
            lookups = {catalogue.HIT: self._hits.count, catalogue.MISS: self._misses.count} if self._keeps else {}
            answered = Histogram(tuple(accumulate(self._buckets)), sum(phases) / 1e9, tuple(self._exemplars))
            last = self._last_inference() / 1e3
            counts = (self._requests + failed.count, self._rows, self._received, self._sent, self.in_flight)
            batches = _batch_sizes(self._sizes)
        yield from zip(_COUNTED, ((),) * len(counts), counts, strict=True)
        yield from ((catalogue.FAILURES, (reason,), count) for reason, count in reasons.items())
        yield catalogue.DURATION, (), answered
        names = (*catalogue.PHASES, catalogue.CACHE) if self._keeps else catalogue.PHASES
        yield from ((catalogue.PHASE_SECONDS, (phase,), ns / 1e9) for phase, ns in zip(names, phases, strict=False))
        yield from ((catalogue.RESPONSE_CACHE_LOOKUPS, (outcome,), count) for outcome, count in lookups.items())
        yield catalogue.FAILURE_SECONDS, (), failed.ns / 1e9
        yield catalogue.BATCH_SIZE, (), batches
        if last:
            yield catalogue.LAST_REQUEST, (), last

    def triton(self) -> Iterator[tuple[Metric, Labels, float]]:
        """The same under the names of Triton's metrics, as far as they differ."""
        with self._lock:
            self._fold()
            phases = (sum(self._phases()), self._queue, self._run.decode, self._infer, self._run.encode)
            counts = (self._requests, self._inferences, self._executions(), *(ns // 1000 for ns in phases))
            kept = (self._hits.count, self._misses.count, self._hits.ns // 1000, self._misses.ns // 1000)
            reasons = {name: sum(self._failures[r].count for r in ours) for name, ours in catalogue.NV_REASONS.items()}
        yield from zip(_NV_COUNTED, ((),) * len(counts), counts, strict=True)
        yield from ((catalogue.NV_FAILURE, (reason,), count) for reason, count in reasons.items())
        if self._keeps:
            yield from zip(_NV_CACHE, ((),) * len(kept), kept, strict=True)

    def _phases(self) -> tuple[int, int, int, int, int]:
        return self._decode, self._queue, self._infer, self._encode, self._cache

    def _failed(self, reasons: Iterable[str]) -> Duration:
        failures = [self._failures[reason] for reason in reasons]
        return Duration(sum(failure.count for failure in failures), sum(failure.ns for failure in failures))

    def _last_inference(self) -> int:
        """When the last inference ended, in milliseconds since the epoch; 0 before the first."""
        return (self._last + time.time_ns() - time.perf_counter_ns()) // 1_000_000 if self._last else 0

    def _executions(self) -> int:
        return self._sizes.total()


_COUNTED = (catalogue.REQUESTS, catalogue.ROWS, catalogue.RECEIVED, catalogue.SENT, catalogue.IN_FLIGHT)
_NV_COUNTED = (
    catalogue.NV_SUCCESS,
    catalogue.NV_COUNT,
    catalogue.NV_EXEC_COUNT,
    catalogue.NV_REQUEST,
    catalogue.NV_QUEUE,
    catalogue.NV_INPUT,
    catalogue.NV_INFER,
    catalogue.NV_OUTPUT,
)

_NV_CACHE = (catalogue.NV_HITS, catalogue.NV_MISSES, catalogue.NV_HIT_TIME, catalogue.NV_MISS_TIME)


def _columns(numbers: list[int], width: int) -> list[list[int]]:
    """Takes what is in the list out of it, by its place in a row; what comes meanwhile stays."""
    taken = numbers[: len(numbers) // width * width]
    del numbers[: len(taken)]
    return [taken[column::width] for column in range(width)]


def reason_of(exc: BaseException) -> str:
    """Why a request failed, as the catalogue's label has it."""
    return next(REASON[base] for base in type(exc).__mro__ if base in REASON)


def _batch_sizes(runs: Mapping[int, int]) -> Histogram:
    buckets = [0] * (len(catalogue.BATCH_ROWS) + 1)
    for size, count in runs.items():
        buckets[bisect_left(catalogue.BATCH_ROWS, size)] += count
    return Histogram(tuple(accumulate(buckets)), sum(size * count for size, count in runs.items()))
