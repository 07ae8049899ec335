"""How a model's requests are run: on the event loop, in a thread, or batched."""

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from inferry.errors import InferenceTimeout, QueueFull
from inferry.signature import Feed
from inferry.tensors import Array

if TYPE_CHECKING:
    from inferry.batching import Batcher, Run
    from inferry.model import Model

# A hop to a thread and back costs about as much as a small model's run, and a run of this many seconds holds up the
# other requests of an event loop no longer than their own work does.
INLINE_SECONDS = 0.001


class Execution:
    """Runs one model's requests, as many at a time as `pool` has threads, and counts the session's runs."""

    def __init__(self, model: "Model", pool: Executor) -> None:
        self._model = model
        self._session = model.session
        self._pool = pool
        self._waiting = 0
        self._batcher = self._make_batcher()
        # Requests of up to this many elements are known to run in less than INLINE_SECONDS.
        self._inline_elements = -1
        if model.warm_run:
            self._learn(*model.warm_run)

    def is_quick(self, feed: Feed) -> bool:
        """Whether a request like this was seen to run so fast that the event loop may do it."""
        return self._batcher is None and _elements(feed) <= self._inline_elements

    def run_now(self, feed: Feed, outputs: tuple[str, ...], deadline: float) -> "tuple[list[Array], int]":
        """The outputs, and the nanoseconds the run took, in this thread."""
        start = time.perf_counter_ns()
        arrays = self._session.run(feed, outputs, deadline)
        took = time.perf_counter_ns() - start
        self._learn(took / 1e9, _elements(feed))
        self._model.stats.executed(_batch_size(feed), took)
        return arrays, took

    async def run(self, feed: Feed, outputs: tuple[str, ...], deadline: float) -> "Run":
        """The same from a thread or within a batch. QueueFull and InferenceTimeout while it waits."""
        from inferry.batching import Run

        if self._batcher:
            return await self._batcher.infer(feed, outputs, deadline)
        if self._waiting >= self._model.config.max_queue_size:
            raise QueueFull(
                f"{self._waiting} requests wait for model '{self._model.name}' already (max_queue_size); try later"
            )
        self._waiting += 1
        start = time.perf_counter_ns()
        try:
            arrays, took = await self._in_thread(feed, outputs, deadline)
        finally:
            self._waiting -= 1
        return Run(arrays, time.perf_counter_ns() - start - took, took)

    async def _in_thread(self, feed: Feed, outputs: tuple[str, ...], deadline: float) -> tuple[list[Array], int]:
        import asyncio

        run = asyncio.get_running_loop().run_in_executor(self._pool, self.run_now, feed, outputs, deadline)
        try:
            return await asyncio.wait_for(run, deadline - time.monotonic())
        except TimeoutError as exc:
            raise InferenceTimeout(
                f"the time for a prediction of model '{self._model.name}' was over: it is busy, or slow"
            ) from exc

    async def _run_batch(self, feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        import asyncio

        loop = asyncio.get_running_loop()
        arrays, _ = await loop.run_in_executor(self._pool, self.run_now, feed, tuple(outputs), deadline)
        return arrays

    def _make_batcher(self) -> "Batcher | None":
        config = self._model.config
        if config.dynamic_batching is None:
            return None
        from inferry.batching import Batcher

        delay = config.dynamic_batching.max_queue_delay_us / 1e6
        return Batcher(self._run_batch, self._model.name, config.max_batch_size, delay, config.max_queue_size)

    def _learn(self, seconds: float, elements: int) -> None:
        if seconds < INLINE_SECONDS:
            self._inline_elements = max(self._inline_elements, elements)
        elif elements <= self._inline_elements:
            self._inline_elements = elements // 2


def _elements(feed: Feed) -> int:
    return sum([array.size for array in feed.values()])


def _batch_size(feed: Feed) -> int:
    """Rows of a request: axis 0 of its first input, 1 for scalars."""
    shape = next(iter(feed.values())).shape
    return int(shape[0]) if shape else 1
