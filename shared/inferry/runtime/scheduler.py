"""How a model's requests are run: on the event loop, in a thread, or batched."""

import time
from operator import attrgetter, le
from typing import TYPE_CHECKING, TypeAlias

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
# Where what requests have in them, and not how much, says how long a model runs, a slow one can't be told before. Each
# keeps all of the model's off the event loop for this many times as long, so that they have a hundredth of it.
_APART = 100
# So many kinds of quick runs are known of a model.
_KINDS = 128
# Requests with more characters, or strings, never run on the event loop: some models take the square of a length.
_INLINE_CHARACTERS = 4096

# What tells how long a run takes: names of its outputs and inputs, and the inputs' shapes, of strings their lengths.
Kind: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[int, ...], ...]]

_shape = attrgetter("shape")
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
        warm_run: "tuple[int, Kind | None] | None" = None,
    ) -> None:
        """`warm_run`: nanoseconds and kind of a run that tells what a request will take."""
        self._session = session
        self._config = config
        self._row_proof = row_proof
        self._stats = stats
        self._threads = threads
        self._waiting: FairQueue[_InThread] = FairQueue()
        self._arriving = 0
        self._batcher = self._make_batcher()
        # Runs of these kinds are so fast that the event loop may do them itself; those of a batched model only when
        # nobody else waits.
        self._quick: set[Kind] = set()
        # Until when runs on the event loop are watched, and none is known to be quick, in nanoseconds.
        self._watched = self._distrusted = 0
        if warm_run:
            self._learn(*warm_run)

    @property
    def _name(self) -> str:
        return self._session.signature.model

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread or a batch."""
        return len(self._waiting) + (self._batcher.waiting if self._batcher else 0)

    @property
    def knows_quick_runs(self) -> bool:
        """Whether there are runs that need neither a thread nor a batch."""
        return self._batcher is None and bool(self._quick)

    def runs_inline(self, kind: Kind | None) -> bool:
        """Whether the event loop may do such a run itself, by `run_now`."""
        return self._batcher is None and (kind in self._quick or self._is_quick(kind))

    def run_now(
        self, feed: Feed, outputs: tuple[str, ...], deadline: float, kind: Kind | None
    ) -> "tuple[list[Array], int]":
        """The outputs, and the nanoseconds the run took, in this thread."""
        start = time.perf_counter_ns()
        # It takes longer than all else here, and a slow run is mostly the machine's doing.
        cpu = time.thread_time_ns() if start < self._watched else None
        arrays = self._session.run(feed, outputs, deadline)
        took = time.perf_counter_ns() - start
        if took >= INLINE_NS:
            self._was_slow(kind, took, None if cpu is None else time.thread_time_ns() - cpu)
        return arrays, took

    async def run(self, feed: Feed, outputs: tuple[str, ...], deadline: float, kind: Kind | None) -> Run:
        """The same from a thread or within a batch. QueueFull and InferenceTimeout while it waits."""
        await on_loop()
        # Optional inputs need not have a row for each row.
        if (
            self._batcher is None
            or feed.keys() != self._session.signature.required
            or self._row_proof.verdict.rows != PROVEN
        ):
            return await self._wait_for_thread(feed, outputs, deadline, kind)
        self._arriving += 1
        try:
            if self._arriving == 1 and self._is_quick(kind) and await self._is_alone():
                arrays, took = self.run_now(feed, outputs, deadline, kind)
                return Run(arrays, 0, took)
            return await self._batcher.infer(feed, outputs, deadline)
        finally:
            self._arriving -= 1

    async def _wait_for_thread(self, feed: Feed, outputs: tuple[str, ...], deadline: float, kind: Kind | None) -> Run:
        client = self._threads.client()
        if len(self._waiting) >= self._config.max_queue_size:
            self._make_room(client)
        start = time.perf_counter_ns()
        waiting = self._in_thread(client, feed, outputs, deadline, kind)
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
        self, client: str, feed: Feed, outputs: tuple[str, ...], deadline: float, kind: Kind | None
    ) -> "_InThread":
        cancellation = Cancellation()
        arguments = (feed, outputs, deadline, kind, cancellation)
        return _InThread(client, self._threads.run(client, self._run_in_thread, *arguments), cancellation)

    def _run_in_thread(
        self, feed: Feed, outputs: tuple[str, ...], deadline: float, kind: Kind | None, cancellation: Cancellation
    ) -> "tuple[list[Array], int]":
        # A busy event loop holds the interpreter's lock for milliseconds: only CPU time tells how long the run was.
        start, cpu = time.perf_counter_ns(), time.thread_time_ns()
        try:
            arrays = self._session.run(feed, outputs, deadline, cancellation)
        except Exception:
            self._session.release([])
            raise
        took, cpu = time.perf_counter_ns() - start, time.thread_time_ns() - cpu
        self._learn(cpu, kind)
        return self._session.release(arrays), took

    async def _is_alone(self) -> bool:
        """Whether no other request of the model came at the same time: those wait for their turn of the event loop."""
        import asyncio

        await asyncio.sleep(0)
        return self._arriving == 1

    async def _run_batch(self, feed: Feed, outputs: tuple[str, ...], deadline: float) -> list[Array]:
        # It is for several clients, and stands behind nothing else of one of them.
        arrays, took = await self._in_thread("", feed, outputs, deadline, kind_of(feed, outputs)).result(None)
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

    def _is_quick(self, kind: Kind | None) -> bool:
        if kind in self._quick:
            return True
        if kind is None or not any(_covers(known, kind) for known in [*self._quick]):
            return False
        self._add(kind)
        return True

    def _add(self, kind: Kind) -> None:
        if len(self._quick) >= _KINDS:
            self._quick.clear()
        self._quick.add(kind)

    def _forget(self, kind: Kind) -> None:
        self._quick = {known for known in [*self._quick] if not _covers(known, kind)}

    def _learn(self, ns: int, kind: Kind | None) -> None:
        """From the time of a run, its own and not the machine's."""
        if kind is None:
            return
        if ns >= INLINE_NS:
            self._forget(kind)
        elif time.perf_counter_ns() >= self._distrusted:
            self._add(kind)

    def _was_slow(self, kind: Kind | None, took: int, cpu: int | None) -> None:
        """On the event loop, where it should not be: `cpu` is how long itself, None where nobody has watched it."""
        if kind is not None:
            self._forget(kind)  # the next one is in a thread, which tells
        until = time.perf_counter_ns() + _APART * took
        if cpu is not None and cpu >= INLINE_NS:
            self._distrusted = until
            self._quick = set()
            until += _APART * took
        self._watched = max(self._watched, until)


def kind_of(feed: Feed, outputs: tuple[str, ...]) -> Kind | None:
    """What tells how long a run will take; None where nothing does."""
    shapes = []
    for array in feed.values():
        if array.dtype.hasobject:
            lengths = _lengths(feed)
            return lengths and (outputs, tuple(feed), (*map(_shape, feed.values()), lengths))
        shapes.append(array.shape)
    return outputs, tuple(feed), tuple(shapes)


def _lengths(feed: Feed) -> tuple[int, int] | None:
    """The number of characters of all strings, and of the longest, by powers of 2; None for many."""
    arrays = [array for array in feed.values() if array.dtype.hasobject]
    if sum(map(_size, arrays)) > _INLINE_CHARACTERS:
        return None
    lengths = [len(text) for array in arrays for text in array.flat]
    characters = sum(lengths)
    if characters > _INLINE_CHARACTERS:
        return None
    return characters.bit_length(), max(lengths, default=0).bit_length()


def _covers(known: Kind, kind: Kind) -> bool:
    """Whether such a run takes no less time, as no axis of an input is shorter, whatever the order of inputs."""
    if known[0] != kind[0] or len(known[2]) != len(kind[2]):
        return False
    if known[1] != kind[1]:
        if {*known[1]} != {*kind[1]}:
            return False
        places = [known[1].index(name) for name in kind[1]]
        shapes = (*(known[2][place] for place in places), *known[2][len(places) :])
    else:
        shapes = known[2]
    return all(len(one) == len(other) and all(map(le, one, other)) for one, other in zip(kind[2], shapes, strict=True))
