"""Has changed models noticed while a server runs."""

import logging
import threading
import time
from collections.abc import Callable

from inferry.errors import InferryError
from inferry.repository.repository import Repository

log = logging.getLogger("inferry")


class Refresher:
    """Refreshes a repository in a thread, `seconds` after it was last asked to; 0 means never."""

    def __init__(self, repository: Repository, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._seconds = seconds
        self._clock = clock
        self._next = clock() + seconds

    def poll(self) -> None:
        """Called at every request: a function that sleeps between requests has no other moment."""
        if not self._seconds or self._clock() < self._next:
            return
        self._next = self._clock() + self._seconds
        threading.Thread(target=self._refresh, name="inferry-refresh", daemon=True).start()

    def _refresh(self) -> None:
        known = {*self._repository.problems}
        try:
            self._repository.refresh()
            for problem in self._repository.problems:
                if problem not in known:
                    log.warning("left out: %s", problem)
        except InferryError as exc:
            log.warning("can't look for changed models: %s", exc)
