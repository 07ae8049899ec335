"""Ends work whose time is over, from one thread, at the price of a dictionary entry per piece of work."""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Terminable(Protocol):
    """ONNX Runtime's RunOptions: setting `terminate` ends the run between two of its nodes."""

    terminate: bool


class Watchdog:
    """Sets `terminate` on what is watched longer than its deadline (seconds on `clock`)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watched: dict[int, tuple[float, Terminable]] = {}
        self._wake = threading.Condition()
        self._next = float("inf")
        self._thread: threading.Thread | None = None

    def watch(self, work: Terminable, deadline: float) -> None:
        """Watches this work until `release`: past `deadline` (seconds on `clock`) its `terminate` is set."""
        self._watched[id(work)] = (deadline, work)
        # The thread looks at the latest when it said it would: most runs need not wake it.
        if deadline < self._next:
            with self._wake:
                self._next = min(self._next, deadline)
                self._start()
                self._wake.notify()

    def release(self, work: Terminable) -> None:
        """The work is done; `terminate` is not set later."""
        self._watched.pop(id(work), None)

    def is_idle(self) -> bool:
        """Whether no work is watched at this moment."""
        return not self._watched

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # dead in a forked child
            self._thread = threading.Thread(target=self._run, name="inferry-watchdog", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            now, last = self._clock(), self._next
            # First: what comes behind this look at all of it says when the next has to be.
            self._next = float("inf")
            soonest = self._look(now)
            with self._wake:
                # With nothing to watch, look again when the last deadline is over: requests seldom stop for long.
                self._next = min(self._next, last if soonest is None and last > now else soonest or float("inf"))
                self._wake.wait(None if self._next == float("inf") else max(0.0, self._next - now))

    def _look(self, now: float) -> float | None:
        """Ends what is over; the earliest of the other deadlines."""
        watched = list(self._watched.values())
        for deadline, work in watched:
            if deadline <= now:
                work.terminate = True
        return min((deadline for deadline, _ in watched if deadline > now), default=None)
