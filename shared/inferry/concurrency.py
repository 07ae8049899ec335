"""Threads that are made when their first work comes, and coroutines that say when they need an event loop.

Most predictions of a loaded model wait for nothing. A caller that has one request at a time may take the first step of
its coroutine itself, `coroutine.send(None)`, and is done: an event loop costs more than the prediction of a small
model, and asyncio more to import than all of inferry. What does wait says so first (`on_loop`), so that the caller
can run the rest on a loop.
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from concurrent.futures import ThreadPoolExecutor


T = TypeVar("T")


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
        """Ends the threads, once what runs has ended."""
        if self._pool is not None:
            self._pool.shutdown()


class Elsewhere(Protocol):
    """What runs a function of a module, with arguments that can be pickled, and raises what it raises."""

    async def __call__(self, function: Callable[..., T], *arguments: Any, deadline: float) -> T:
        """InferenceTimeout at `deadline` (time.monotonic)."""


class Pause:
    """Between many small steps of one request on the event loop: lets the others have twice the time that it had.

    What is over soon need not wait.
    """

    _SOON, _TURN = 0.02, 0.001

    def __init__(self) -> None:
        self._began = self._since = time.perf_counter()

    async def __call__(self) -> None:
        now = time.perf_counter()
        if now - self._since < self._TURN or now - self._began < self._SOON:
            return
        await on_loop()
        import asyncio

        await asyncio.sleep(2 * min(now - self._since, self._SOON))
        self._since = time.perf_counter()


class Turns:
    """Turns of an event loop for what takes milliseconds of it: however many want one, the others run in between.

    Whoever has one does its work without waiting for anything.
    """

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[Future[None]] = deque()

    async def __call__(self) -> None:
        """Returns in a turn that nobody else has, at once where nobody wants one."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self._taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._taken = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: "AbstractEventLoop") -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                loop.call_soon(self._next, loop)  # behind the work of this one
                return
        self._taken = False


@coroutine
def on_loop() -> Generator[None, None, None]:
    """Returns when an event loop runs this coroutine: at once where one does, else when its host has handed it over."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        yield
