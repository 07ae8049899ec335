"""What happened in this process, as the metrics of the catalogue: the one state that every sink reads."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from inferry import __version__
from inferry.observability import catalogue
from inferry.observability.catalogue import Metric
from inferry.observability.stats import Histogram, Labels, ModelStats, reason_of


class Family(NamedTuple):
    """A metric and its series: the values of its labels, in their order, to what was measured.

    `created`: since when a counter or a histogram has been counting, in seconds since the epoch.
    """

    metric: Metric
    series: Mapping[Labels, float | Histogram]
    created: Mapping[Labels, float] = MappingProxyType({})


class Gauge(NamedTuple):
    """What a gauge says at the moment it is asked."""

    metric: Metric
    labels: Labels
    value: float


class Sample(NamedTuple):
    """One number with a name and labels, as Prometheus knows it."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Metrics:
    """The one state of a process that all sinks read. Its methods may be called from several threads."""

    def __init__(self, price_second: float = 0.0, price_request: float = 0.0) -> None:
        """The prices are USD of a second of an answered request, and of the request; without any there is no cost."""
        self._prices = (price_second, price_request)
        self._models: dict[tuple[str, str], ModelStats] = {}
        self._watched: list[Callable[[], Iterable[Gauge]]] = []
        self.reset()

    def reset(self) -> None:
        """Nothing has happened yet: for a process that starts from the memory of another one, without its threads."""
        self._lock = threading.Lock()
        self._began = time.time()
        counters = [metric for metric in catalogue.CATALOGUE if metric.kind == catalogue.COUNTER]
        # A counter that is there before its first event has a rate at its first event.
        self._counts: dict[Metric, dict[Labels, float]] = {
            metric: {} if metric.labels else {(): 0} for metric in counters
        }
        self._loaded: dict[Labels, float] = {}
        # Plain numbers: every request adds to them. Of responses by method, route and status.
        self.cache_hits = 0
        self.responses: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        for stats in self._models.values():
            stats.reset()

    def model(self, name: str, version: str) -> ModelStats:
        """The counts of a model version; the same object for as long as the process lives."""
        with self._lock:
            return self._models.setdefault((name, version), ModelStats())

    def found(self, name: str, version: str) -> ModelStats:
        """The same for reading: a version that did nothing yet gets no series."""
        with self._lock:
            return self._models.get((name, version)) or ModelStats()

    def forget(self, name: str, version: str) -> None:
        """A version that there will not be again has no series any more."""
        with self._lock:
            self._models.pop((name, version), None)
            for counts in self._counts.values():
                for labels in [labels for labels in counts if labels[:2] == (name, version)]:
                    del counts[labels]
            self._loaded.pop((name, version), None)

    def refused(self, exc: BaseException) -> None:
        """A request for a prediction failed before its model was known, or loaded."""
        reason = reason_of(exc)
        self._add(catalogue.REQUESTS, ("", ""))
        self._add(catalogue.FAILURES, ("", "", reason if reason in catalogue.EARLY_REASONS else "error"))

    def loaded(self, model: str, version: str, seconds: float) -> None:
        self._add(catalogue.LOADS, (model, version, catalogue.SUCCESS))
        self._add(catalogue.LOAD_SECONDS, (model, version), seconds)
        with self._lock:
            self._loaded[model, version] = time.time()

    def load_failed(self, model: str, version: str) -> None:
        self._add(catalogue.LOADS, (model, version, catalogue.FAILED))

    def cache_missed(self) -> None:
        self._add(catalogue.CACHE_MISSES)

    def evicted(self) -> None:
        self._add(catalogue.CACHE_EVICTIONS)

    def response_evicted(self) -> None:
        self._add(catalogue.RESPONSE_CACHE_EVICTIONS)

    def response_cache_failed(self, reason: str) -> None:
        """The store of responses was of no use to a request, for a reason of the catalogue."""
        self._add(catalogue.RESPONSE_CACHE_FAILURES, (reason,))

    def cold_start(self, init_seconds: float) -> None:
        """The first request of a function's environment came `init_seconds` after the environment's start."""
        self._add(catalogue.COLD_STARTS)
        self._add(catalogue.INIT_SECONDS, (), init_seconds)

    def job_rows(self, model: str, version: str, rows: int, row_errors: int = 0) -> None:
        """A batch job predicted `rows` rows, and could not predict `row_errors` others."""
        self._add(catalogue.JOB_ROWS, (model, version), rows)
        self._add(catalogue.JOB_ROW_ERRORS, (model, version), row_errors)

    def job_file(self, model: str, version: str, failed: bool = False) -> None:
        """A file of a batch job is done; its rows were counted by `job_rows`."""
        self._add(catalogue.JOB_FILES, (model, version, catalogue.FAILED if failed else catalogue.SUCCESS))

    def flushed(self, sink: str) -> None:
        self._add(catalogue.FLUSHES, (sink,))

    def flush_failed(self, sink: str, dropped: int = 0) -> None:
        """A push did not arrive; `dropped` of its samples won't be sent again."""
        self._add(catalogue.FLUSH_FAILURES, (sink,))
        self._add(catalogue.DROPPED, (sink,), dropped)

    def logged(self, sink: str, rows: int) -> None:
        """A sink of requests took so many rows."""
        self._add(catalogue.LOG_ROWS, (sink,), rows)

    def not_logged(self, sink: str, rows: int) -> None:
        """So many rows did not get into a sink of requests, and won't."""
        self._add(catalogue.LOG_DROPPED, (sink,), rows)

    def watch(self, gauges: Callable[[], Iterable[Gauge]]) -> None:
        """`gauges` is called whenever the metrics are read."""
        self._watched.append(gauges)

    def collect(self) -> list[Family]:
        """All metrics of the catalogue that have a series, in its order."""
        found: dict[Metric, dict[Labels, float | Histogram]] = {metric: {} for metric in catalogue.CATALOGUE}
        with self._lock:
            models = list(self._models.items())
            for metric, counts in self._counts.items():
                found[metric].update(counts)
            found[catalogue.LAST_LOAD].update(self._loaded)
        found[catalogue.CACHE_HITS][()] = self.cache_hits
        found[catalogue.HTTP_REQUESTS].update(
            {(method, route, str(status)): count for (method, route, status), count in self.responses.copy().items()}
        )
        found[catalogue.BUILD_INFO][(__version__,)] = 1
        for labels, stats in models:
            for metric, more, value in stats.values():
                found[metric][labels + more] = value
        if any(self._prices):
            of_second, of_request = self._prices
            for model, taken in found[catalogue.DURATION].items():
                if isinstance(taken, Histogram):
                    found[catalogue.COST][model] = taken.total * of_second + taken.counts[-1] * of_request
        for gauge in self._gauges():
            found[gauge.metric][gauge.labels] = gauge.value
        begun: dict[Labels, float] = {labels: stats.created for labels, stats in models}
        return [Family(metric, some, self._created(metric, some, begun)) for metric, some in found.items() if some]

    def _created(self, metric: Metric, series: Iterable[Labels], models: Mapping[Labels, float]) -> dict[Labels, float]:
        if metric.kind == catalogue.GAUGE:
            return {}
        return {labels: models.get(labels[:2], self._began) for labels in series}

    def triton(self) -> list[Family]:
        """The metrics of every model under the names that Triton gives them."""
        found: dict[Metric, dict[Labels, float | Histogram]] = {metric: {} for metric in catalogue.TRITON}
        with self._lock:
            models = list(self._models.items())
        for labels, stats in models:
            for metric, more, value in stats.triton():
                found[metric][labels + more] = value
        for gauge in self._gauges():
            if gauge.metric is catalogue.QUEUED:
                found[catalogue.NV_PENDING][gauge.labels] = gauge.value
        return [Family(metric, series) for metric, series in found.items() if series]

    def _gauges(self) -> Iterator[Gauge]:
        for gauges in self._watched:
            yield from gauges()

    def _add(self, metric: Metric, labels: Labels = (), amount: float = 1) -> None:
        with self._lock:
            counts = self._counts[metric]
            counts[labels] = counts.get(labels, 0) + amount


def samples(family: Family) -> Iterator[Sample]:
    """The family's numbers: a histogram is one for each bucket, their sum and their count."""
    metric = family.metric
    for values, value in family.series.items():
        labels = tuple(zip(metric.labels, values, strict=True))
        if not isinstance(value, Histogram):
            yield Sample(metric.name, labels, value)
            continue
        for bound, count in zip((*map(_le, metric.buckets), "+Inf"), value.counts, strict=True):
            yield Sample(f"{metric.name}_bucket", (*labels, ("le", bound)), count)
        yield Sample(f"{metric.name}_sum", labels, value.total)
        yield Sample(f"{metric.name}_count", labels, value.counts[-1])


def _le(bound: float) -> str:
    """As Prometheus 3 writes it, whatever it reads: what is pushed must be the same series as what is scraped."""
    return str(float(bound))
