"""Entries in the memory of this process, the least recently used of which goes first."""

import time
from collections import OrderedDict

from inferry.observability.registry import Metrics

# What an entry of no bytes takes: its key, its place, its time.
OVERHEAD = 256


class Memory:
    """So many bytes of entries at most. Belongs to one event loop."""

    def __init__(self, most: int, seconds: float, metrics: Metrics) -> None:
        """`seconds`: how long an entry is kept."""
        self._most = most
        self._seconds = seconds
        self._metrics = metrics
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self.size = 0

    async def get(self, key: bytes, seconds: float = 0) -> bytes | None:
        """The entry at `key`, which is the last to go from now on."""
        if key not in self._entries:
            return None
        entry, until = self._entries[key]
        if until <= time.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    async def set(self, key: bytes, entry: bytes, seconds: float = 0) -> None:
        """Keeps an entry, in the place of others where there is no room."""
        if key in self._entries:
            self._drop(key)
        size = len(entry) + OVERHEAD
        if size > self._most:
            return
        while self.size + size > self._most:
            self._drop(next(iter(self._entries)))
            self._metrics.response_evicted()
        self._entries[key] = entry, time.monotonic() + self._seconds
        self.size += size

    def _drop(self, key: bytes) -> None:
        self.size -= len(self._entries.pop(key)[0]) + OVERHEAD
