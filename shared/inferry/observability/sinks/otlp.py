"""OTLP over HTTP to an OpenTelemetry collector, or a store that takes the same, by OpenTelemetry's own exporter.

The exporter reads its OTEL_EXPORTER_OTLP_* variables itself. What it sends is the state that all sinks read, and not
that of instruments of its own: a request would pay for those.
"""

import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence

from inferry import __version__
from inferry.errors import InvalidSettings, extra
from inferry.observability.catalogue import COUNTER
from inferry.observability.registry import Family
from inferry.observability.sinks.sink import PushFailed
from inferry.observability.stats import Exemplar, Histogram, Labels
from inferry.settings import Settings

try:
    from opentelemetry.exporter.otlp.proto.http import metric_exporter
    from opentelemetry.sdk.metrics import Exemplar as OTelExemplar
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
except ImportError as exc:
    raise InvalidSettings(f"the sink otlp needs OpenTelemetry: {extra('otel')}") from exc

# Those of UCUM; what is counted stands in braces.
_UNITS = {"seconds": "s", "bytes": "By"}
_CUMULATIVE = export.AggregationTemporality.CUMULATIVE
_SCOPE = InstrumentationScope("inferry", __version__)
_log = logging.getLogger(metric_exporter.__name__)


class OTLP:
    """Every push has all totals since the process began: one that is lost loses nothing."""

    immediate = False

    def __init__(self, settings: Settings, _: Mapping[str, str]) -> None:
        self._settings = settings
        self._reason = _Reason()
        # Whoever calls this says what is wrong, and once.
        _log.handlers, _log.propagate = [self._reason], False
        self.renew()

    def push(self, families: Sequence[Family], deadline: float) -> None:
        """Sends everything; METRICS_TIMEOUT is the exporter's end."""
        now = time.time_ns()
        metrics = [_metric(family, now) for family in families]
        scope = export.ScopeMetrics(_SCOPE, metrics, "")
        data = export.MetricsData([export.ResourceMetrics(self._resource, [scope], "")])
        if self._exporter.export(data) is not export.MetricExportResult.SUCCESS:
            raise PushFailed(self._reason.last)

    def close(self, deadline: float) -> None:
        """Does nothing: OTLP has no word for the end of a series."""
        self._exporter.shutdown()

    def renew(self) -> None:
        """Another instance of the service, with connections of its own."""
        settings = self._settings
        self._exporter = metric_exporter.OTLPMetricExporter(timeout=settings.metrics_timeout)
        self._resource = Resource.create(
            {
                "service.name": settings.app_name,
                "service.version": settings.app_version,
                "service.instance.id": str(uuid.uuid4()),
                "deployment.environment.name": settings.environment,
            }
        )


class _Reason(logging.Handler):
    """Keeps what the exporter logs of a failure: it returns nothing but that there was one."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def _metric(family: Family, now: int) -> export.Metric:
    metric = family.metric
    data: export.Sum | export.Gauge | export.Histogram
    if metric.buckets:
        data = export.Histogram(list(_histograms(family, now)), _CUMULATIVE)
    elif metric.kind == COUNTER:
        data = export.Sum(list(_numbers(family, now)), _CUMULATIVE, is_monotonic=True)
    else:
        data = export.Gauge(list(_numbers(family, now)))
    return export.Metric(metric.name, metric.help, _UNITS.get(metric.unit, f"{{{metric.unit}}}"), data)


def _numbers(family: Family, now: int) -> Iterable[export.NumberDataPoint]:
    for labels, value in family.series.items():
        if not isinstance(value, Histogram):
            yield export.NumberDataPoint(_attributes(family, labels), _since(family, labels), now, value)


def _histograms(family: Family, now: int) -> Iterable[export.HistogramDataPoint]:
    for labels, value in family.series.items():
        if isinstance(value, Histogram):
            counts = [count - below for count, below in zip(value.counts, (0, *value.counts), strict=False)]
            yield export.HistogramDataPoint(
                attributes=_attributes(family, labels),
                start_time_unix_nano=_since(family, labels),
                time_unix_nano=now,
                count=value.counts[-1],
                sum=value.total,
                bucket_counts=counts,
                explicit_bounds=family.metric.buckets,
                # Nobody keeps them.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
                exemplars=[_exemplar(one) for one in value.exemplars if one],
            )


def _attributes(family: Family, labels: Labels) -> dict[str, str]:
    return dict(zip(family.metric.labels, labels, strict=True))


def _since(family: Family, labels: Labels) -> int:
    return int(family.created.get(labels, 0) * 1e9)


def _exemplar(exemplar: Exemplar) -> OTelExemplar:
    return OTelExemplar(
        {}, exemplar.value, int(exemplar.at * 1e9), int(exemplar.span_id, 16), int(exemplar.trace_id, 16)
    )
