"""What Prometheus scrapes: its own text format, version 0.0.4, and OpenMetrics 1.0.0."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from inferry.observability import process_metrics
from inferry.observability.catalogue import COUNTER, GAUGE
from inferry.observability.registry import Family, Metrics, Sample, samples
from inferry.observability.stats import Exemplar, Histogram, Labels

# The lines of a family's samples, by the lines of its help and type.
Page: TypeAlias = dict[str, str]


class Format(NamedTuple):
    """`name` is its own among FORMATS, `end` what a page ends with."""

    name: str
    content_type: str
    end: str = ""


TEXT = Format("text", "text/plain; version=0.0.4; charset=utf-8")
OPENMETRICS = Format("openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8", "# EOF\n")
FORMATS = {form.name: form for form in (TEXT, OPENMETRICS)}

# What a scrape gets in a format.
Scrape: TypeAlias = Callable[[Format], str]

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_TOTAL = "_total"
# Of an Accept header so much is read.
_ACCEPT = 1024


def accepted(accept: str) -> Format:
    """OpenMetrics where an Accept header names it, as with prometheus_client; else the text that everybody reads."""
    for part in accept[:_ACCEPT].lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        if kind == "application/openmetrics-text" and "q=0" not in parameters:
            return OPENMETRICS
    return TEXT


def text(metrics: Metrics, form: Format = TEXT) -> str:
    """All metrics of a process, Triton's and the system's included."""
    return joined([page(families(metrics), form)], form)


def families(metrics: Metrics) -> list[Family]:
    """The families of metrics that a scrape of one process gets."""
    return [*metrics.collect(), *metrics.triton(), *process_metrics.families()]


def page(families: Iterable[Family], form: Format = TEXT, labels: Mapping[str, str] | None = None) -> Page:
    """The families as text, every sample with these further `labels`."""
    more = tuple((labels or {}).items())
    if form is OPENMETRICS:
        return {_open_head(family): "".join(_open_lines(family, more)) for family in families}
    return {_head(family): "".join(_line(sample, more) for sample in samples(family)) for family in families}


def joined(pages: Iterable[Page], form: Format = TEXT) -> str:
    """One text of several pages: the formats want a family's samples in one place."""
    families: dict[str, list[str]] = {}
    for found in pages:
        for head, lines in found.items():
            families.setdefault(head, [head]).append(lines)
    return "".join([*(part for parts in families.values() for part in parts), form.end])


def _head(family: Family) -> str:
    metric = family.metric
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"


def _line(sample: Sample, more: Labels | tuple[tuple[str, str], ...], end: str = "\n") -> str:
    pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in (*sample.labels, *more)]
    return f"{sample.name}{{{','.join(pairs)}}} {sample.value}{end}" if pairs else f"{sample.name} {sample.value}{end}"


def _open_head(family: Family) -> str:
    """OpenMetrics' counters end in _total, and their families don't; Triton's counters do neither."""
    name, kind = family.metric.name, family.metric.kind
    if kind == COUNTER:
        name, kind = (name.removesuffix(_TOTAL), kind) if name.endswith(_TOTAL) else (name, "unknown")
    return f"# TYPE {name} {kind}\n# HELP {name} {family.metric.help}\n"


def _open_lines(family: Family, more: tuple[tuple[str, str], ...]) -> Iterator[str]:
    metric = family.metric
    created = f"{metric.name.removesuffix(_TOTAL)}_created"
    for labels, value in family.series.items():
        exemplars = iter(value.exemplars if isinstance(value, Histogram) else ())
        for sample in samples(Family(metric, {labels: value})):
            exemplar = next(exemplars, None)
            yield _line(sample, more, _exemplar(exemplar) if exemplar else "\n")
        if labels in family.created and metric.kind != GAUGE:
            names = tuple(zip(metric.labels, labels, strict=True))
            yield _line(Sample(created, names, family.created[labels]), more)


def _exemplar(exemplar: Exemplar) -> str:
    span = f'trace_id="{exemplar.trace_id}",span_id="{exemplar.span_id}"'
    return f" # {{{span}}} {exemplar.value} {exemplar.at:.3f}\n"
