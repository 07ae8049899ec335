"""CloudWatch's Embedded Metric Format on stdout, by Powertools: what was counted since the last line.

Powertools' `Metrics` keeps its state in its class, for all threads; a line here is an object of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from inferry.errors import InvalidSettings, extra
from inferry.observability import catalogue
from inferry.observability.catalogue import GAUGE, MODEL, Metric
from inferry.observability.registry import Family
from inferry.observability.sinks import cloudwatch_names
from inferry.observability.stats import Histogram, Labels
from inferry.settings import Settings

try:
    from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
except ImportError as exc:
    raise InvalidSettings(f"the sink emf needs Powertools: {extra('aws')}") from exc

_UNITS = {"seconds": MetricUnit.Seconds, "bytes": MetricUnit.Bytes}
# What is printed unless EMF_DETAIL asks for more: each name costs as much as a log of 600 MB.
FEW = (
    catalogue.REQUESTS,
    catalogue.FAILURES,
    catalogue.DURATION,
    catalogue.ROWS,
    catalogue.JOB_FILES,
    catalogue.JOB_ROWS,
    catalogue.JOB_ROW_ERRORS,
)
# Its own pushes would be a line at every push. What was answered by route and status, API Gateway counts as well.
_LEFT_OUT = (catalogue.FLUSHES, catalogue.HTTP_REQUESTS)
# The labels beside a model's name and version become a part of the metric's name, but for the reason: an alarm wants
# all failures in one number. Which reasons they had is a field of the line.
_REASON = "reason"

ModelVersion: TypeAlias = tuple[str, ...]


class Observed(NamedTuple):
    """What happened to one metric since the last line."""

    name: str
    unit: MetricUnit
    values: tuple[float, ...]
    reason: str = ""


class EMF:
    """One line per push, and one more for every further model that was at work since the last push."""

    immediate = True

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        cloudwatch_names.check(settings, env)
        self._by_model = settings.emf_detail != "service"
        self._all = settings.emf_detail == "all"
        self._name = settings.app_name
        self.renew()

    def push(self, families: Sequence[Family], deadline: float) -> None:
        """Prints the differences; nothing when there are none."""
        models: dict[ModelVersion, list[Observed]] = defaultdict(list)
        process: list[Observed] = []
        for family in families:
            if self._prints(family.metric):
                for model, one in self._observed(family):
                    by_model = self._by_model and family.metric.labels[:2] == MODEL
                    (models[model] if by_model else process).append(one)
        lines = [self._line(model, observed) for model, observed in models.items()]
        if process:
            alone = self._line((), process)
            if lines:
                lines[0].beside = alone
            else:
                lines.append(alone)
        for line in lines:
            if line.metric_set:  # Powertools prints every hundred by itself
                line.flush_metrics()

    def close(self, deadline: float) -> None:
        """Does nothing: `push` has printed all."""

    def renew(self) -> None:
        """Forgets what was printed: the next push prints all that the metrics count from then on."""
        self._last: dict[tuple[str, Labels], float | Histogram] = {}

    def _prints(self, metric: Metric) -> bool:
        return metric.kind != GAUGE and metric not in _LEFT_OUT if self._all else metric in FEW

    def _observed(self, family: Family) -> Iterator[tuple[ModelVersion, Observed]]:
        metric = family.metric
        for labels, value in family.series.items():
            key = (metric.name, labels)
            values = _difference(metric, self._last.get(key), value)
            self._last[key] = value
            if values:
                named = dict(zip(metric.labels, labels, strict=True))
                model = tuple(name for name in [named.pop(label, "") for label in MODEL] if name)
                reason = named.pop(_REASON, "")
                yield model, Observed(".".join((metric.name, *named.values())), _unit(metric), values, reason)

    def _line(self, model: ModelVersion, observed: Sequence[Observed]) -> "_Line":
        line = _Line()  # its namespace and service may come from Powertools' own variables
        line.namespace = line.namespace or self._name
        line.service = line.service or self._name
        if model:
            line.add_dimensions(service=line.service, **dict(zip(MODEL, model, strict=True)))
        for one in observed:
            for value in one.values:
                line.add_metric(one.name, one.unit, value)
        reasons: Counter[str] = Counter()
        for one in observed:
            if one.reason:
                reasons[one.reason] += int(one.values[0])  # several models may have the same
        if reasons:
            line.add_metadata("reasons", dict(reasons))
        return line


class _Line(EphemeralMetrics):
    """A line with the metrics of another one `beside` its own, which keep their own dimensions."""

    beside: "_Line | None" = None

    def serialize_metric_set(self, *arguments: Any, **options: Any) -> Any:
        line: Any = super().serialize_metric_set(*arguments, **options)
        if self.beside is not None:
            other, self.beside = self.beside.serialize_metric_set(), None
            line["_aws"]["CloudWatchMetrics"] += other["_aws"]["CloudWatchMetrics"]
            line = other | line
        return line


def _unit(metric: Metric) -> MetricUnit:
    return _UNITS.get(metric.unit, MetricUnit.Count)


def _difference(metric: Metric, last: float | Histogram | None, now: float | Histogram) -> tuple[float, ...]:
    """A counter that is lower than it was began again: its model was unloaded, and came anew."""
    if isinstance(now, Histogram):
        known = last if isinstance(last, Histogram) and last.counts[-1] <= now.counts[-1] else None
        return _observations(metric, known, now)
    difference = now - (last if isinstance(last, float | int) and last <= now else 0)
    return (difference,) if difference else ()


def _observations(metric: Metric, last: Histogram | None, now: Histogram) -> tuple[float, ...]:
    """The observations between two moments: a single one as it was, several as the bounds of their buckets."""
    before = last or Histogram((0,) * len(now.counts), 0)
    cumulated = [count - earlier for count, earlier in zip(now.counts, before.counts, strict=True)]
    if cumulated[-1] == 1:
        return (now.total - before.total,)
    counts = [count - below for count, below in zip(cumulated, (0, *cumulated), strict=False)]
    bounds = (*metric.buckets, metric.buckets[-1])
    return tuple(bound for bound, count in zip(bounds, counts, strict=True) for _ in range(count))
