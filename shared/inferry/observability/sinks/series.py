"""Which samples a remote-write store needs, so that the totals and rates of short-lived processes are right.

Counters are never cleared. Each process has an `instance` of its own, so that no two write one series. A series that is
new, or was silent for long, is preceded by its value before: the store would take its first value for no increase at
all. Timestamps only rise. What was refused is sent again, with its value before. What was sent and not acknowledged may
have arrived: from then on values are sent, but no value before, which could go back behind one that it has and
pass for a counter that began again.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from inferry.observability.catalogue import GAUGE
from inferry.observability.registry import Family, samples
from inferry.observability.sinks import wire

Points: TypeAlias = list[tuple[int, float]]
Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]

# A rate looks back over some minutes, an instant query over five: what is older is sent again.
SILENCE_MS = 60_000
REPEAT_MS = 120_000
# How often the value before is sent, a millisecond apart: Prometheus extrapolates a rate by half the mean distance of
# its samples, at each end. One would make an increase half as large again, five a tenth.
BEFORE = 5
# VictoriaMetrics looks for a value of before in the five minutes ahead of a window. Where it finds none it takes one
# below 110 for one that rose from zero, and counts it again. So what didn't change is sent in such intervals: later,
# when it changes, or before the hour is over that stores look back.
GAP_MS = 299_500
PAST_MS = 45 * 60_000
# Samples of a request, at which no more series are added: stores and gateways refuse large ones.
MOST = 5_000


class Acknowledged(NamedTuple):
    """The newest sample of a series that the store has: its value, None where unknown, and its milliseconds."""

    value: float | None
    at: int


@dataclass(slots=True)
class Batch:
    """One request: the parts of its body, its time in milliseconds, how many samples it holds, and what the store will
    have acknowledged of each series once it takes it; None: that the series has ended."""

    body: list[bytes]
    at: int
    size: int
    acknowledged: dict[Key, Acknowledged | None]


class SeriesLog:
    """The series of one process, and which sample of each the store has acknowledged."""

    def __init__(self, job: str) -> None:
        self._job = job
        self.renew()

    def renew(self) -> None:
        """A new process: a new instance, of which the store knows nothing."""
        self.instance = f"{socket.gethostname()}-{os.urandom(4).hex()}"
        self._labels: dict[Key, list[bytes]] = {}
        self._acknowledged: dict[Key, Acknowledged] = {}
        self._last = 0

    def changes(self, families: Sequence[Family], milliseconds: int) -> Iterator[Batch]:
        """What the store lacks at this time. Nothing of a batch counts before `taken` or `doubted` is called."""
        return self._batches(self._changed(families, at := self._next(milliseconds)), at)

    def farewell(self, milliseconds: int) -> Iterator[Batch]:
        """The end of every series that the store has."""
        at = self._next(milliseconds)
        return self._batches(((key, [(at, wire.STALE)], None) for key in list(self._acknowledged)), at)

    def _changed(self, families: Sequence[Family], at: int) -> Iterator[tuple[Key, Points, Acknowledged | None]]:
        current = set()
        for key, value, is_gauge in _values(families):
            current.add(key)
            if points := self._points(self._acknowledged.get(key), value, is_gauge, at):
                yield key, points, Acknowledged(value, at)
        for key in self._acknowledged.keys() - current:
            yield key, [(at, wire.STALE)], None

    def _batches(self, changed: Iterable[tuple[Key, Points, Acknowledged | None]], at: int) -> Iterator[Batch]:
        batch = Batch([], at, 0, {})
        for key, points, acknowledged in changed:
            batch.body += wire.series(self._label(key), points)
            batch.acknowledged[key] = acknowledged
            batch.size += len(points)
            self._last = at
            if batch.size >= MOST:
                yield batch
                batch = Batch([], at, 0, {})
        if batch.size:
            yield batch

    def taken(self, batch: Batch) -> None:
        """The store has acknowledged the batch."""
        for key, acknowledged in batch.acknowledged.items():
            if acknowledged is None:
                self._acknowledged.pop(key, None)
            else:
                self._acknowledged[key] = acknowledged

    def doubted(self, batch: Batch) -> None:
        """Nobody knows whether the store has the batch, or a part of it."""
        for key, acknowledged in batch.acknowledged.items():
            if acknowledged is not None:
                self._acknowledged[key] = Acknowledged(None, acknowledged.at)

    def _next(self, milliseconds: int) -> int:
        # Not later than need be: a function that pushes all the time would run ahead of the clock.
        return max(milliseconds, self._last + 1)

    def _points(self, acknowledged: Acknowledged | None, value: float, is_gauge: bool, at: int) -> Points:
        if acknowledged is None:
            if is_gauge:
                return [(at, value)]
            return _risen(0.0, value, at) if value else []
        silence = at - acknowledged.at
        if value == acknowledged.value:
            if silence <= (REPEAT_MS if is_gauge else PAST_MS):
                return []
            return [(at, value)] if is_gauge else [*_unchanged(acknowledged.at, value, at), (at, value)]
        if acknowledged.value is None or is_gauge or silence <= SILENCE_MS:
            return [(at, value)]
        return [*_unchanged(acknowledged.at, acknowledged.value, at), *_risen(acknowledged.value, value, at)]

    def _label(self, key: Key) -> list[bytes]:
        encoded = self._labels.get(key)
        if encoded is None:
            name, labels = key
            all_labels = {**dict(labels), "__name__": name, "instance": self.instance, "job": self._job}
            encoded = self._labels[key] = wire.labels(all_labels)
        return encoded


def _risen(before: float, value: float, at: int) -> Points:
    return [*((at - earlier, before) for earlier in range(BEFORE, 0, -1)), (at, value)]


def _unchanged(since: int, value: float, at: int) -> Points:
    """The value at times between the last one and now, as far back as a store takes them."""
    first = max(since + 1, at - PAST_MS - GAP_MS)
    return [(earlier, value) for earlier in range(at - GAP_MS, first, -GAP_MS)][::-1]


def _values(families: Sequence[Family]) -> Iterator[tuple[Key, float, bool]]:
    for family in families:
        is_gauge = family.metric.kind == GAUGE
        for sample in samples(family):
            yield (sample.name, sample.labels), sample.value, is_gauge
