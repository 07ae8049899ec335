"""What a remote-write store must be told, so that its totals and rates are right for processes that live for seconds.

Counters are never cleared. Each process has an `instance` of its own, so that no two write one series. A series that is
new, or was silent for long, is preceded by its value before: the store would take its first value for no increase at
all. Timestamps only rise. What was sent and not acknowledged may have arrived: from then on the store is told values,
but no value before, which could go back behind one that it has and pass for a counter that began again.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from inferry.observability.catalogue import GAUGE
from inferry.observability.registry import Family, samples
from inferry.observability.sinks import wire

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]

# A rate looks back over some minutes, an instant query over five: what is older is told again.
SILENCE_MS = 60_000
REPEAT_MS = 120_000
# How often the value before is told, a millisecond apart: Prometheus extrapolates a rate by half the mean distance of
# its samples, at each end. One would make an increase half as large again, five a tenth.
BEFORE = 5


class Told(NamedTuple):
    """What the store has of a series; `value` is None where that isn't known."""

    value: float | None
    at: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: its body, how many samples it holds, and what the store has when it takes it."""

    body: bytes
    size: int
    told: dict[Key, Told | None]


class SeriesLog:
    """The series of one process and what the store was told of each."""

    def __init__(self, job: str) -> None:
        self._job = job
        self.renew()

    def renew(self) -> None:
        """A new process: a new instance, of which the store knows nothing."""
        self.instance = f"{socket.gethostname()}-{os.urandom(4).hex()}"
        self._labels: dict[Key, bytes] = {}
        self._told: dict[Key, Told] = {}
        self._last = 0

    def changes(self, families: Sequence[Family], milliseconds: int) -> Batch | None:
        """What the store doesn't know at this time; None when it knows all. Nothing of it counts as told yet."""
        at = self._next(milliseconds)
        told: dict[Key, Told | None] = {}
        parts, size = [], 0
        seen = set()
        for key, value, is_gauge in _values(families):
            seen.add(key)
            points = self._points(self._told.get(key), value, is_gauge, at)
            if points:
                told[key] = Told(value, at)
                parts.append(wire.series(self._label(key), points))
                size += len(points)
        gone = self._told.keys() - seen
        if not parts and not gone:
            return None
        parts += self._stale(gone, at)
        self._last = at
        return Batch(b"".join(parts), size + len(gone), told | dict.fromkeys(gone))

    def farewell(self, milliseconds: int) -> Batch | None:
        """The end of every series that was told; None when none was."""
        at = self._next(milliseconds)
        parts = self._stale(self._told.keys(), at)
        return Batch(b"".join(parts), len(parts), dict.fromkeys(self._told)) if parts else None

    def taken(self, batch: Batch) -> None:
        """The store has it."""
        for key, told in batch.told.items():
            if told is None:
                self._told.pop(key, None)
            else:
                self._told[key] = told

    def doubted(self, batch: Batch) -> None:
        """The store may have it, or a part."""
        for key, told in batch.told.items():
            if told is not None:
                self._told[key] = Told(None, told.at)

    def _next(self, milliseconds: int) -> int:
        # Not later than need be: a function that pushes all the time would run ahead of the clock.
        return max(milliseconds, self._last + 1)

    def _points(self, told: Told | None, value: float, is_gauge: bool, at: int) -> list[tuple[int, float]]:
        if told is None:
            if is_gauge:
                return [(at, value)]
            return _risen(0.0, value, at) if value else []
        if value == told.value:
            return [(at, value)] if is_gauge and at - told.at > REPEAT_MS else []
        if told.value is None or is_gauge or at - told.at <= SILENCE_MS:
            return [(at, value)]
        return _risen(told.value, value, at)

    def _stale(self, keys: Iterable[Key], at: int) -> list[bytes]:
        return [wire.series(self._label(key), [(at, wire.STALE)]) for key in keys]

    def _label(self, key: Key) -> bytes:
        encoded = self._labels.get(key)
        if encoded is None:
            name, labels = key
            all_labels = {**dict(labels), "__name__": name, "instance": self.instance, "job": self._job}
            encoded = self._labels[key] = wire.labels(all_labels)
        return encoded


def _risen(before: float, value: float, at: int) -> list[tuple[int, float]]:
    return [*((at - earlier, before) for earlier in range(BEFORE, 0, -1)), (at, value)]


def _values(families: Sequence[Family]) -> Iterator[tuple[Key, float, bool]]:
    for family in families:
        is_gauge = family.metric.kind == GAUGE
        for sample in samples(family):
            yield (sample.name, sample.labels), sample.value, is_gauge
