"""Brings a process's metrics to its sinks: at intervals, after an invocation, and at the end."""

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

from inferry.observability.registry import Metrics
from inferry.observability.sinks.sink import PushFailed, Sink, open_sinks
from inferry.settings import Settings

log = logging.getLogger("inferry")


class Pusher:
    """Pushes to several sinks. Nothing that goes wrong reaches the caller: it is counted, and logged once."""

    def __init__(self, metrics: Metrics, sinks: Mapping[str, Sink], *, interval: float, timeout: float) -> None:
        """`interval`: seconds between pushes of the thread; `timeout`: seconds that one sink may take for one push."""
        self._metrics = metrics
        self._sinks = sinks
        self._interval = interval
        self._timeout = timeout
        self._lock = threading.RLock()  # a signal's handler may push while its own thread does
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing: set[str] = set()
        self._due = -math.inf
        self.waits = any(not sink.immediate for sink in sinks.values())
        _renew_in_children(self)

    def start(self) -> "Pusher":
        """Pushes at every interval from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="inferry-metrics", daemon=True)
        self._thread.start()
        return self

    def push(self, *, immediate: bool | None = None) -> None:
        """Pushes now: to all sinks, or to those that are `immediate`, or to the others."""
        with self._lock:
            for name, sink in self._sinks.items():
                if immediate is None or sink.immediate is immediate:
                    self._push(name, sink)

    def push_what_waits(self) -> None:
        """Pushes to the sinks that need the network, at most once in an interval; `close` pushes the rest."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._interval
            self.push(immediate=False)

    def close(self) -> None:
        """Pushes for the last time, and tells the sinks that the process ends."""
        self._end.set()
        self.push()
        with self._lock:
            for name, sink in self._sinks.items():
                # One that just failed gets no time to fail again.
                self._close(name, sink, 0 if name in self._failing else self._timeout)

    def renew(self) -> None:
        """The process starts from the memory of another: after a fork, or a snapshot. It has counted nothing yet."""
        self._lock = threading.RLock()
        self._due = -math.inf
        self._metrics.reset()
        for sink in self._sinks.values():
            sink.renew()
        if self._thread is not None and not self._thread.is_alive():
            self.start()

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            self.push()

    def _push(self, name: str, sink: Sink) -> None:
        try:
            sink.push(self._metrics.collect(), time.monotonic() + self._timeout)
        except Exception as exc:  # noqa: BLE001  a sink must not end the thread
            self._failed(name, exc)
        else:
            self._metrics.flushed(name)
            if name in self._failing:
                self._failing.remove(name)
                log.info("metrics reach %s again", name)

    def _close(self, name: str, sink: Sink, seconds: float) -> None:
        try:
            sink.close(time.monotonic() + seconds)
        except Exception as exc:  # noqa: BLE001
            self._failed(name, exc)

    def _failed(self, name: str, exc: Exception) -> None:
        self._metrics.flush_failed(name, exc.dropped if isinstance(exc, PushFailed) else 0)
        if name in self._failing:
            return
        self._failing.add(name)
        log.warning("metrics don't reach %s: %s", name, exc, exc_info=None if isinstance(exc, PushFailed) else exc)


def open_pusher(settings: Settings, metrics: Metrics, env: Mapping[str, str]) -> Pusher | None:
    """What pushes to the sinks of METRICS_SINKS; None when they need no pushing. InvalidSettings."""
    sinks = open_sinks(settings, env)
    if not sinks:
        return None
    return Pusher(metrics, sinks, interval=settings.metrics_interval, timeout=settings.metrics_timeout)


def process_age() -> float:
    """Seconds since this process was started: proc(5), field 22 of its status, in ticks since the boot."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def _renew_in_children(pusher: Pusher) -> None:
    known = weakref.ref(pusher)

    def renew() -> None:
        if (found := known()) is not None:
            found.renew()

    os.register_at_fork(after_in_child=renew)
