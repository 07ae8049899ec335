"""Pools of threads that are made when their first work comes: many processes never have any."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class Threads:
    """Up to `count` threads; belongs to one event loop."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> "ThreadPoolExecutor":
        """The threads, the same ones each time."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
        return self._pool

    def close(self) -> None:
        """Lets go of the threads; what runs ends first."""
        if self._pool is not None:
            self._pool.shutdown()
