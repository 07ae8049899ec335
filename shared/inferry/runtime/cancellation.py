"""What ends a run that nobody waits for any more."""

import threading
import time

from inferry.runtime.watchdog import Terminable


class Cancellation:
    """Of one run: `cancel` may come from another thread, before the run, in it and after it."""

    __slots__ = ("_lock", "_work", "began", "cancelled")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: Terminable | None = None
        self.cancelled = False
        self.began = 0
        """The moment, of time.perf_counter_ns, at which the run began; 0 while it hasn't."""

    def cancel(self) -> None:
        """Ends the run between two of its nodes, or at once when it has not begun; does nothing when it is over."""
        with self._lock:
            self.cancelled = True
            if self._work is not None:
                self._work.terminate = True

    def begin(self, work: Terminable) -> None:
        """Notes that the run begins: from now on `cancel` ends this `work`."""
        self.began = time.perf_counter_ns()
        with self._lock:
            self._work = work
            if self.cancelled:
                work.terminate = True

    def end(self) -> bool:
        """The run is over: `terminate` is not set later. Whether it was set."""
        with self._lock:
            self._work = None
            return self.cancelled
