"""How a model's requests are run: on the event loop, in a thread, or batched."""

import sys
import time
from operator import attrgetter
from typing import TYPE_CHECKING

from inferry.concurrency import FairQueue, Threads, on_loop
from inferry.errors import InferenceTimeout, QueueFull
from inferry.observability.stats import ModelStats
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array
from inferry.runtime.cancellation import Cancellation
from inferry.runtime.model_config import ModelConfig
from inferry.runtime.row_proof import RowProof
from inferry.runtime.session import Run, Session
from inferry.runtime.verdicts import PROVEN

if TYPE_CHECKING:
    from asyncio import Future

    from inferry.runtime.batcher import Batcher

# A hop to a thread and back costs about as much as a small model's run, and a run of this many nanoseconds holds up the
# other requests of an event loop no longer than their own work does.
INLINE_NS = 1_000_000
# A busy machine makes any single run a slow one.
PATIENCE = 3
# So many characters count as one more element. Of requests with over `_INLINE_CHARACTERS`, or as many strings, nothing
# is learned, and they never run on the event loop: some models take the square of a string's length.
_CHARACTERS, _INLINE_CHARACTERS = 8, 4096
_MANY = sys.maxsize

_size = attrgetter("size")


class _InThread:
    """A run that has a thread, or waits for one."""

    def __init__(self, client: str, run: "Future[tuple[list[Array], int]]", cancellation: Cancellation) -> None:
        self.client = client
        self.cancellation = cancellation
        self._run = run
        self._refusal: QueueFull | None = None

    async def result(self, seconds: float | None) -> tuple[list[Array], int]:
        """Its outputs, and the nanoseconds it took; it ends when this is cancelled. TimeoutError after `seconds`."""
        import asyncio

        try:
            return await asyncio.wait_for(self._run, seconds)
        except asyncio.CancelledError:
            self.cancellation.cancel()
            if self._refusal is not None:
                raise self._refusal from None
            raise

    def refuse(self, refusal: QueueFull) -> None:
        """Gives it up."""
        self._refusal = refusal
        self._run.cancel()


class Scheduler:
    """Runs one model's requests, as many at a time as there are `threads`, and counts the batches."""

    def __init__(
        self,
        session: Session,
        config: ModelConfig,
        row_proof: RowProof,
        stats: ModelStats,
        threads: Threads,
        warm_run: tuple[int, int] | None = None,
    ) -> None:
        """`warm_run`: nanoseconds and elements of a run that tells what a request will take."""
        self._session = session
        self._config = config
        self._row_proof = row_proof
        self._stats = stats
        self._threads = threads
        self._waiting: FairQueue[_InThread] = FairQueue()
        self._arriving = 0
        self._batcher = self._make_batcher()
        # Requests of up to this many elements are known to run so fast that the event loop may do it itself; those of a
        # batched model only when nobody else waits.
        self._quick_elements = self.inline_elements = -1
        self._slow = 0
        if warm_run:
            self._learn(*warm_run)

    @property
    def _name(self) -> str:
        return self._session.signature.model

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread or a batch."""
        return len(self._waiting) + (self._batcher.waiting if self._batcher else 0)

    def run_now(
        self, feed: Feed, outputs: tuple[str, ...], deadline: float, elements: int
    ) -> "tuple[list[Array], int]":
        """The outputs, and the nanoseconds the run took, in this thread. `elements` is how many `feed` holds."""
        start = time.perf_counter_ns()
        arrays = self._session.run(feed, outputs, deadline)
        took = time.perf_counter_ns() - start
        if took >= INLINE_NS or elements > self._quick_elements:
            self._learn(took, elements)
        else:
            self._slow = 0
        return arrays, took

    async def run(self, feed: Feed, outputs: tuple[str, ...], deadline: float, elements: int) -> Run:
        """The same from a thread or within a batch. QueueFull and InferenceTimeout while it waits."""
        await on_loop()
        # Optional inputs need not have a row for each row.
        if (
            self._batcher is None
            or feed.keys() != self._session.signature.required
            or self._row_proof.verdict.rows != PROVEN
        ):
            return await self._wait_for_thread(feed, outputs, deadline, elements)
        self._arriving += 1
        try:
            if self._arriving == 1 and elements <= self._quick_elements and await self._is_alone():
                arrays, took = self.run_now(feed, outputs, deadline, elements)
                return Run(arrays, 0, took)
            return await self._batcher.infer(feed, outputs, deadline)
        finally:
            self._arriving -= 1

    async def _wait_for_thread(self, feed: Feed, outputs: tuple[str, ...], deadline: float, elements: int) -> Run:
        client = self._threads.client()
        if len(self._waiting) >= self._config.max_queue_size:
            self._make_room(client)
        start = time.perf_counter_ns()
        waiting = self._in_thread(client, feed, outputs, deadline, elements)
        self._waiting.add(client, waiting)
        try:
            arrays, took = await waiting.result(deadline - time.monotonic())
        except TimeoutError as exc:
            timeout = InferenceTimeout(
                f"the time for a prediction of model '{self._name}' was over: it is busy, or slow"
            )
            timeout.spent(start, waiting.cancellation.began, time.perf_counter_ns())
            raise timeout from exc
        except InferenceTimeout as exc:
            exc.spent(start, waiting.cancellation.began, time.perf_counter_ns())
            raise
        finally:
            self._waiting.remove(client, waiting)
        return Run(arrays, time.perf_counter_ns() - start - took, took)

    def _make_room(self, client: str) -> None:
        """Refuses the last request of whoever has most for that of who has fewer. QueueFull for who has not."""
        full = QueueFull(
            f"{len(self._waiting)} requests wait for model '{self._name}' already (max_queue_size); try later"
        )
        last = self._waiting.surplus(client)
        if last is None or last.cancellation.began:
            raise full
        self._waiting.remove(last.client, last)
        last.refuse(full)

    def _in_thread(
        self, client: str, feed: Feed, outputs: tuple[str, ...], deadline: float, elements: int
    ) -> "_InThread":
        cancellation = Cancellation()
        arguments = (feed, outputs, deadline, elements, cancellation)
        return _InThread(client, self._threads.run(client, self._run_in_thread, *arguments), cancellation)

    def _run_in_thread(
        self, feed: Feed, outputs: tuple[str, ...], deadline: float, elements: int, cancellation: Cancellation
    ) -> "tuple[list[Array], int]":
        # A busy event loop holds the interpreter's lock for milliseconds: only CPU time tells how long the run was.
        start, cpu = time.perf_counter_ns(), time.thread_time_ns()
        try:
            arrays = self._session.run(feed, outputs, deadline, cancellation)
        except Exception:
            self._session.release([])
            raise
        took, cpu = time.perf_counter_ns() - start, time.thread_time_ns() - cpu
        self._learn(cpu, elements)
        return self._session.release(arrays), took

    async def _is_alone(self) -> bool:
        """Whether no other request of the model came at the same time: those wait for their turn of the event loop."""
        import asyncio

        await asyncio.sleep(0)
        return self._arriving == 1

    async def _run_batch(self, feed: Feed, outputs: tuple[str, ...], deadline: float) -> list[Array]:
        # It is for several clients, and stands behind nothing else of one of them.
        arrays, took = await self._in_thread("", feed, outputs, deadline, count_elements(feed)).result(None)
        self._stats.executed(len(next(iter(feed.values()))), took)
        return arrays

    def _make_batcher(self) -> "Batcher | None":
        config = self._config
        if config.dynamic_batching is None or self._row_proof.verdict.rows != PROVEN:
            return None
        from inferry.runtime.batcher import Batcher

        delay = config.dynamic_batching.max_queue_delay_us / 1e6
        refute = self._row_proof.refute
        return Batcher(
            self._run_batch,
            refute,
            self._name,
            config.max_batch_size,
            delay,
            config.max_queue_size,
            self._threads.client,
        )

    def _learn(self, ns: int, elements: int) -> None:
        if elements >= _MANY:
            return
        if ns < INLINE_NS:
            self._slow = 0
            self._quick_elements = max(self._quick_elements, elements)
        elif elements <= self._quick_elements:
            self._slow += 1
            if self._slow == PATIENCE:
                self._slow, self._quick_elements = 0, elements // 2
        if self._batcher is None:
            self.inline_elements = self._quick_elements


def count_elements(feed: Feed) -> int:
    """How many elements all inputs have together, for their run's time: long strings count as many."""
    elements: int = sum(map(_size, feed.values()))
    for array in feed.values():
        if array.dtype.hasobject:
            return elements + _of_characters(feed)
    return elements


def _of_characters(feed: Feed) -> int:
    """What the characters of all strings count as."""
    arrays = [array for array in feed.values() if array.dtype.hasobject]
    if sum(map(_size, arrays)) > _INLINE_CHARACTERS:
        return _MANY
    characters = sum(len(text) for array in arrays for text in array.flat)
    return characters // _CHARACTERS if characters <= _INLINE_CHARACTERS else _MANY
