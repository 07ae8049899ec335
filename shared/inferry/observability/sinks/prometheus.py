"""Prometheus' text format, version 0.0.4."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from inferry.observability.registry import Family, Metrics, samples

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# The lines of a family's samples, by the lines of its help and type.
Page: TypeAlias = dict[str, str]

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def text(metrics: Metrics) -> str:
    """All metrics of a process, Triton's included."""
    return joined([page([*metrics.collect(), *metrics.triton()])])


def page(families: Iterable[Family], labels: Mapping[str, str] | None = None) -> Page:
    """The families as text, every sample with these further `labels`."""
    more = tuple((labels or {}).items())
    return {_head(family): "".join(_lines(family, more)) for family in families}


def joined(pages: Iterable[Page]) -> str:
    """One text of several pages: the format wants a family's samples in one place."""
    families: dict[str, list[str]] = {}
    for found in pages:
        for head, lines in found.items():
            families.setdefault(head, [head]).append(lines)
    return "".join(part for parts in families.values() for part in parts)


def _head(family: Family) -> str:
    metric = family.metric
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"


def _lines(family: Family, more: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for sample in samples(family):
        pairs = sample.labels + more
        labels = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)
        yield f"{sample.name}{{{labels}}} {sample.value}\n" if labels else f"{sample.name} {sample.value}\n"
