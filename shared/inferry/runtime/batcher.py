"""Concurrent requests of one model run as one batch."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from inferry.concurrency import Client, FairQueue, nobody
from inferry.errors import InferenceFailed, InferenceTimeout, InferryError, InvalidRequest, QueueFull
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array, joined
from inferry.runtime.session import Run

log = logging.getLogger("inferry")

Key: TypeAlias = tuple[tuple[str, ...], tuple[tuple[str, tuple[int, ...]], ...]]


RunBatch: TypeAlias = Callable[[Feed, tuple[str, ...], float], Awaitable[list[Array]]]
Refute: TypeAlias = Callable[[Mapping[str, Array], int], bool]


@dataclass(slots=True, eq=False)
class _Waiting:
    client: str
    feed: Feed
    outputs: tuple[str, ...]
    deadline: float
    size: int
    future: "asyncio.Future[Run]"
    since: int = field(default_factory=time.perf_counter_ns)
    began: int = 0

    @property
    def key(self) -> Key:
        """Requests of equal keys can be joined along axis 0."""
        return self.outputs, tuple((name, self.feed[name].shape[1:]) for name in sorted(self.feed))


class Batcher:
    """Batches while busy: what arrives during a run goes into the next one, and a lone request runs at once."""

    def __init__(
        self,
        run: RunBatch,
        refute: Refute,
        model: str,
        max_batch_size: int,
        max_delay: float,
        max_waiting: int,
        client: Client = nobody,
    ) -> None:
        """`run` runs one batch; `max_delay` (seconds) is how long a batch that isn't full waits in a crowd.

        `refute` looks at a batch's outputs, by name, and its rows: whether they have not a row for each. `client`:
        whose the request is that is worked on now.
        """
        self._client = client
        self._run = run
        self._refute = refute
        self._model = model
        self._max_batch_size = max_batch_size
        self._max_delay = max_delay
        self._max_waiting = max_waiting
        self._joins = True
        self._waiting: FairQueue[_Waiting] = FairQueue()
        self._running: list[_Waiting] = []
        self._batch: asyncio.Task[list[Array]] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait for the next run."""
        return len(self._waiting)

    async def infer(self, feed: Feed, outputs: tuple[str, ...], deadline: float) -> Run:
        """The request's own outputs. QueueFull, InferenceTimeout, or what its own rows make the model raise."""
        client = self._client()
        if len(self._waiting) >= self._max_waiting:
            self._make_room(client)
        loop = asyncio.get_running_loop()
        size = len(next(iter(feed.values())))
        waiting = _Waiting(client, feed, outputs, deadline, size, loop.create_future())
        timer = loop.call_later(deadline - time.monotonic(), self._expire, waiting)
        self._waiting.add(client, waiting)
        if self._task is None:
            self._task = loop.create_task(self._drain())
        try:
            return await waiting.future
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise
        except InferenceTimeout as exc:
            exc.spent(waiting.since, waiting.began, time.perf_counter_ns())
            raise
        finally:
            timer.cancel()

    def _make_room(self, client: str) -> None:
        """Refuses the last request of whoever has most for that of who has fewer. QueueFull for who has not."""
        full = QueueFull(
            f"{len(self._waiting)} requests wait for model '{self._model}' already (max_queue_size); try later"
        )
        last = self._waiting.surplus(client)
        if last is None:
            raise full
        self._waiting.remove(last.client, last)
        _fail(last, full)

    def _expire(self, waiting: _Waiting) -> None:
        if _fail(
            waiting,
            InferenceTimeout(f"the time for a prediction of model '{self._model}' was over: it is busy, or slow"),
        ):
            self._give_up(waiting)

    def _give_up(self, waiting: _Waiting) -> None:
        """Nobody wants the response any more: its place is free, and a run that is for nobody else ends."""
        if (
            not self._waiting.remove(waiting.client, waiting)
            and self._batch
            and waiting in self._running
            and _is_for_nobody(self._running)
        ):
            self._batch.cancel()

    async def _drain(self) -> None:
        crowded = False
        try:
            while self._waiting:
                if crowded and self._max_delay and self._rows() < self._max_batch_size:
                    await asyncio.sleep(self._max_delay)
                batch = self._take()
                if batch:
                    await self._answer(batch)
                    crowded = len(batch) > 1 or bool(self._waiting)
        finally:
            self._task = None

    def _rows(self) -> int:
        return sum(waiting.size for waiting in self._waiting)

    def _take(self) -> list[_Waiting]:
        """The next request and those that can join it, in the order of their clients' turns; the others stay."""
        batch: list[_Waiting] = []
        gone: list[_Waiting] = []
        room, key = self._max_batch_size, None
        for waiting in self._waiting:
            if waiting.future.done():
                gone.append(waiting)
                continue
            if not batch:
                key = waiting.key
            if (not batch or (self._joins and waiting.key == key)) and waiting.size <= room:
                batch.append(waiting)
                room -= waiting.size
        for waiting in gone:
            self._waiting.remove(waiting.client, waiting)
        for waiting in batch:
            self._waiting.serve(waiting.client, waiting)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        """Gives every request of the batch its outputs or its error."""
        start = time.perf_counter_ns()
        try:
            arrays = await self._run_for(batch)
            rows = sum([waiting.size for waiting in batch])
            if len(batch) > 1 and self._refute(dict(zip(batch[0].outputs, arrays, strict=True)), rows):
                self._joins = False
                raise InferenceFailed("the model's outputs have not a row per row of its inputs")
            parts = _split(arrays, batch)
        except (InferenceFailed, InvalidRequest) as exc:
            await self._answer_alone(batch, exc)
        except asyncio.CancelledError:
            # By `_give_up`, or else the batcher itself is to end.
            if not all(waiting.future.done() for waiting in batch):
                raise
        except Exception as exc:
            told = [_fail(waiting, exc) for waiting in batch]
            # Who asked logs it, with the request's ids.
            if not any(told) and not isinstance(exc, InferryError):
                log.exception("a batch of model '%s' failed, after its requests were given up", self._model)
        else:
            took = time.perf_counter_ns() - start
            for waiting, outputs in zip(batch, parts, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(Run(outputs, start - waiting.since, took, rows))

    async def _run_for(self, batch: list[_Waiting]) -> list[Array]:
        deadline = max(waiting.deadline for waiting in batch)
        for waiting in batch:
            waiting.began = time.perf_counter_ns()
        # A coroutine of its own could not be ended.
        run = self._run(_join(batch), batch[0].outputs, deadline)
        self._running, self._batch = batch, asyncio.ensure_future(run)
        try:
            return await self._batch
        finally:
            self._running, self._batch = [], None

    async def _answer_alone(self, batch: list[_Waiting], exc: Exception) -> None:
        """One request's rows can fail a batch: each is run by itself, so that the error reaches only its owner."""
        if len(batch) == 1:
            _fail(batch[0], exc)
            return
        for waiting in batch:
            if not waiting.future.done():
                await self._answer([waiting])


def _fail(waiting: _Waiting, exc: Exception) -> bool:
    """Whether the request still waited for it."""
    if waiting.future.done():
        return False
    waiting.future.set_exception(exc)
    return True


def _is_for_nobody(batch: list[_Waiting]) -> bool:
    """Whether somebody left, and no other waits. Where all are out of time the run is as well, and ends itself."""
    futures = [waiting.future for waiting in batch]
    return all(future.done() for future in futures) and any(future.cancelled() for future in futures)


def _join(batch: list[_Waiting]) -> Feed:
    if len(batch) == 1:
        return batch[0].feed
    return joined([waiting.feed for waiting in batch])


def _split(arrays: list[Array], batch: list[_Waiting]) -> list[list[Array]]:
    if len(batch) == 1:
        return [arrays]
    ends = np.cumsum([waiting.size for waiting in batch])
    return [[array[end - waiting.size : end] for array in arrays] for end, waiting in zip(ends, batch, strict=True)]
