"""The rows that wait to be written, and the thread that writes them: no request waits for either."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from inferry.errors import InvalidSettings, extra
from inferry.observability.access_log import is_probe
from inferry.observability.record import RequestRecord
from inferry.observability.registry import Metrics
from inferry.settings import Settings

log = logging.getLogger("inferry")

# Bytes of rows that wait at most: about 28,000 rows.
_MOST = 8 * 2**20
# So many records become rows at once, on the event loop, while the processor still has them: in a thread and a second
# later each would take three times as long. And so many rows are written together.
_AT_ONCE, _TOGETHER = 100, 5_000
# Seconds until what came is written, and between two tries of a store that fails.
_INTERVAL, _LONGEST = 1.0, 30.0
# Seconds that the end of the process waits for what is left.
LAST_SECONDS = 3.0


class NotWritten(Exception):
    """Rows did not get into the store; the text says why, and what to do.

    `lost`: whether to give them up, as they can't be written, or may have been: nothing is there twice.
    """

    def __init__(self, reason: str, lost: bool = False) -> None:
        super().__init__(reason)
        self.lost = lost


class Block(NamedTuple):
    """Several records as their store has them; `size` is how many they are, `weight` about how many bytes."""

    size: int
    weight: int
    content: Any


class Store(Protocol):
    """Where rows go; `name` is a label's value."""

    name: str

    def block(self, records: Sequence[RequestRecord]) -> Block:
        """What is to be written of requests that are over. It is quick: requests wait."""

    def write(self, blocks: Sequence[Block]) -> None:
        """Writes all of them, or none and raises NotWritten. Takes a bounded time of the one thread that calls it."""

    def close(self) -> None:
        """The process ends."""


class RequestLog:
    """Takes the records of requests that are over, and has their rows written by a thread of its own.

    While the store is away or slow they wait, and once there are too many of them new ones are dropped and counted.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        most: int = _MOST,
        interval: float = _INTERVAL,
    ) -> None:
        """`most`: bytes of rows that wait; `interval`: seconds until they are written."""
        self._store = store
        self._metrics = metrics
        self._most = most
        self._interval = interval
        self._records: list[RequestRecord] = []
        # All that wait, and how large they are; the first of them are being written, or were not.
        self._waiting: deque[Block] = deque()
        self._size = self._count = 0
        # Of the time since the store took something last: whether more came than may wait, how many rows were dropped.
        self._is_full = False
        self._dropped = 0
        # All of the above is changed behind it, but for a record that is appended.
        self._lock = threading.Lock()
        # Why the store takes nothing, and seconds until it is tried again; the thread's.
        self._reason, self._pause = "", 0.0
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="inferry-request-log", daemon=True)
        metrics.logged(store.name, 0)
        metrics.not_logged(store.name, 0)

    def start(self) -> "RequestLog":
        """Writes from now on."""
        self._thread.start()
        return self

    def add(self, record: RequestRecord) -> None:
        """Takes a record that nobody changes any more. Never waits, never raises."""
        records = self._records
        records.append(record)
        if len(records) >= _AT_ONCE:
            self._make_rows()

    def close(self) -> None:
        """Writes what is left, for a few seconds at most; drops the rest."""
        self._end.set()
        self._wake.set()
        self._thread.join(LAST_SECONDS)
        self._make_rows()
        if self._count:
            self._metrics.not_logged(self._store.name, self._count)
            log.warning("%d requests of the last seconds are missing in %s", self._count, self._store.name)

    def _make_rows(self) -> None:
        """Makes rows of the records that came, unless too many wait already."""
        with self._lock:
            taken = self._records[:]
            # What comes meanwhile stays.
            del self._records[: len(taken)]
            some = [record for record in taken if record.taken or not is_probe(record)]
            if not some:
                return
            if self._size >= self._most:
                self._overflow(len(some))
                return
            try:
                block = self._store.block(some)
            except Exception:
                # One bad record would else be the end of requests that are fine.
                log.exception("%d requests can't be written to %s", len(some), self._store.name)
                self._drop(len(some))
                return
            self._waiting.append(block)
            self._size += block.weight
            self._count += block.size
            is_enough = self._count >= _TOGETHER
        if is_enough:
            self._wake.set()

    def _overflow(self, count: int) -> None:
        self._drop(count)
        if not self._is_full:
            self._is_full = True
            log.warning(
                "%d requests wait to be written to %s, and those that come are dropped until it takes them (%s)",
                *(self._count, self._store.name, self._reason or "it takes fewer than come"),
            )

    def _drop(self, count: int) -> None:
        self._metrics.not_logged(self._store.name, count)
        self._dropped += count

    def _run(self) -> None:
        while not self._end.is_set():
            # While the store fails, much to write is no reason to try sooner.
            (self._end if self._pause else self._wake).wait(self._pause or self._interval)
            self._wake.clear()
            self._make_rows()
            self._write()
        self._store.close()

    def _write(self) -> None:
        """Writes all that waits, until that fails; at the end of the process until its time is over."""
        until = time.monotonic() + LAST_SECONDS
        while blocks := self._next():
            try:
                self._store.write(blocks)
            except Exception as exc:  # noqa: BLE001  nothing may end the thread
                self._failed(blocks, exc)
                return
            self._metrics.logged(self._store.name, self._done(blocks))
            self._succeeded()
            if self._end.is_set() and time.monotonic() > until:
                return

    def _next(self) -> list[Block]:
        """The blocks that are written next, which wait on until they are."""
        with self._lock:
            found: list[Block] = []
            count = 0
            for block in self._waiting:
                found.append(block)
                count += block.size
                if count >= _TOGETHER:
                    break
            return found

    def _done(self, blocks: Sequence[Block]) -> int:
        """Nothing more is to be done with these: how many rows they had."""
        with self._lock:
            count = 0
            for block in blocks:
                self._waiting.popleft()
                self._size -= block.weight
                count += block.size
            self._count -= count
            return count

    def _failed(self, blocks: Sequence[Block], exc: Exception) -> None:
        self._pause = min(2 * self._pause or self._interval, _LONGEST)
        if not isinstance(exc, NotWritten) or exc.lost:
            count = self._done(blocks)
            with self._lock:
                self._drop(count)
        reason = str(exc) or type(exc).__name__
        if reason != self._reason:
            self._reason = reason
            log.warning(
                "requests don't get into %s, and wait: %s",
                *(self._store.name, reason),
                exc_info=None if isinstance(exc, NotWritten) else exc,
            )

    def _succeeded(self) -> None:
        with self._lock:
            dropped, self._dropped, self._is_full = self._dropped, 0, False
        if self._reason or dropped:
            log.warning("requests get into %s again; %d were dropped", self._store.name, dropped)
        self._reason, self._pause = "", 0.0


def open_request_log(settings: Settings, metrics: Metrics) -> RequestLog | None:
    """The log of requests that REQUEST_LOG_URL asks for; None without. InvalidSettings."""
    store = open_store(settings)
    return RequestLog(store, metrics) if store is not None else None


def open_store(settings: Settings) -> Store | None:
    """The store at REQUEST_LOG_URL, which is not asked for anything yet. InvalidSettings."""
    if not settings.request_log_url:
        return None
    try:
        from inferry.observability.request_log.postgres import Postgres
    except ImportError as exc:
        raise InvalidSettings(f"REQUEST_LOG_URL needs psycopg: {extra('postgres')} ({exc})") from exc
    return Postgres(settings)
