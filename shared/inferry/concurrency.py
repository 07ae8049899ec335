"""Threads that are made when their first work comes, and answers that wait for something.

Most answers of a loaded model wait for nothing. A host that has one request at a time may take such an answer's first
step itself, `coroutine.send(None)`, and is done: an event loop costs more than the prediction of a small model, and
asyncio more to import than all of inferry. What does wait says so first (`on_loop`), so that the host can run the rest
on a loop.
"""

from collections.abc import Generator
from types import coroutine
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


@coroutine
def on_loop() -> Generator[None, None, None]:
    """Returns when an event loop runs this coroutine: at once where one does, else when its host has handed it over."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        yield
