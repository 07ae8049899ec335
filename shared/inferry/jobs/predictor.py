"""Blocks of rows to their outputs: in batches of the model's best size, a row that fails by itself."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from inferry.errors import InferenceTimeout, InferryError, InvalidRequest, NotSupported
from inferry.jobs.formats.blocks import Block, Group, Pace, PredictedBlock, Rejected, Values
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array, aligned, joined
from inferry.runtime.model import Model
from inferry.runtime.verdicts import NONE, PROVEN, SINGLE, UNPROVEN

# Without max_batch_size: so many values of inputs, and rows, are few enough for a run of any model at first.
ELEMENTS, MOST = 131_072, 2048
# A run that is over so soon is mostly what each one costs, whatever is in it: the next have more, up to so many times.
RUN_SECONDS, GROWTH = 1e-3, 4
# A block should take about so long: a job that has to end looks at the time between two of them.
BLOCK_SECONDS, BLOCK_BATCHES, BLOCK_BYTES = 1.0, 64, 16 << 20
# One of short runs is shorter, so that there is one for each thread, and much longer than what each costs.
QUICK_SECONDS = 1e-2
# Rows of the first block, where nothing is known of how long one takes; and how many times more the next may have.
FIRST, STEP = 64, 32
# Runs that take less have too little that a session's own threads could share: each has a thread. Side by side they
# take longer, up to so many times.
SHORT, SLOWER = 5e-3, 4

BatchOutputs: TypeAlias = tuple[Array, list[Array]]
"""Positions in a block, and for each output an array with a row for each."""


class Predictor:
    """Runs a model over blocks, `batch_size` rows at a time; 0 lets the model's config or its inputs say."""

    def __init__(self, model: Model, batch_size: int, timeout: float, most: int = 0) -> None:
        """`most`: rows that no block has more of; 0: as many as the time that they take allows."""
        self._model = model
        self._signature = model.session.signature
        self._proof = model.row_proof
        self._timeout = timeout
        self._limit = min([size for size in (batch_size, self._signature.max_batch_size) if size], default=0)
        self._names = tuple(self._signature.outputs)
        self._growth = 1
        self.is_quick = False
        """Whether runs are so short that several blocks should be predicted at once."""
        self._largest = most or sys.maxsize
        self.pace = Pace(min(self._limit or self._first(), self._largest))

    def expect(self, rows: int, seconds: float) -> None:
        """So many rows took so long in an earlier run: where they are slow, the first block has fewer of them."""
        if rows and seconds:
            self.pace.rows = min(self.pace.rows, max(int(rows * BLOCK_SECONDS / seconds), 1))

    def check_rows(self) -> None:
        """NotSupported when the model takes no rows, only whole requests."""
        verdict = self._proof.verdict
        if verdict.rows == NONE:
            raise NotSupported(
                f"model '{self._model.name}' takes no rows, as {verdict.reason}: export it with a dynamic batch axis, "
                "or give a JSONL file of whole requests of the protocol"
            )

    @property
    def is_settled(self) -> bool:
        """Whether there is a verdict on the model's rows."""
        return self._proof.verdict.rows != UNPROVEN

    def settle(self, block: Block) -> None:
        """Has the verdict on the model's rows before a layout of results depends on it, by the rows of `block`."""
        if not self.is_settled:
            for group in block.groups:
                if len(next(iter(group.feed.values()))) > 1:
                    self._joins(group.feed)
        if not self.is_settled:
            self._model.prove_rows()

    def _first(self) -> int:
        """Rows of the first block: those that take a tenth of what a block should, if they are as the example is; of
        slow ones as many as take all of it, up to FIRST.
        """
        if not self._model.warm_run:
            return FIRST
        nanoseconds, _ = self._model.warm_run
        return max(
            1, min(FIRST, int(BLOCK_SECONDS * 1e9 / nanoseconds)), min(int(BLOCK_SECONDS * 1e8 / nanoseconds), MOST)
        )

    def predict(self, block: Block) -> PredictedBlock:
        """The block's outputs; rows for which the model fails are rejected. Several threads may ask at once."""
        start = time.perf_counter()
        predicted = self._predict_requests(block) if block.requests else self._predict_rows(block)
        self._set_pace(time.perf_counter() - start, len(block.rows), sum(map(_bytes, predicted.outputs.values())))
        return predicted

    def _set_pace(self, seconds: float, rows: int, size: int) -> None:
        """So many rows in the next block as are done soon and have outputs that are not too large, in whole batches."""
        batch = self._limit or MOST
        self.pace.seconds = seconds
        if not rows:
            return
        most = QUICK_SECONDS if self.is_quick else BLOCK_SECONDS
        wanted = min(int(rows * most / max(seconds, 1e-6)), int(rows * BLOCK_BYTES / max(size, 1)))
        wanted = max(min(wanted, BLOCK_BATCHES * batch, STEP * max(rows, self.pace.rows)), 1)
        self.pace.rows = min(wanted // batch * batch or wanted, self._largest)

    def _predict_rows(self, block: Block) -> PredictedBlock:
        rejected: list[Rejected] = []
        batches: list[BatchOutputs] = []
        for group, rows in self._batches(block):
            feed = {name: aligned(array[rows]) for name, array in group.feed.items()}
            positions = np.arange(rows.start, rows.stop) if group.positions is None else group.positions[rows]
            batches += self._rows(feed, positions, block, rejected)
        positions, outputs = _assembled(batches, self._names)
        return PredictedBlock(
            block, positions, outputs, sorted((*block.rejected, *rejected), key=lambda item: item.row)
        )

    def _batches(self, block: Block) -> Iterator[tuple[Group, slice]]:
        for group in block.groups:
            count, start = len(next(iter(group.feed.values()))), 0
            while start < count:
                # Asked each time: a run may have ended it.
                most = self._most(group.feed) if count > 1 and self._joins(group.feed) else 1
                stop = min(start + most, count)
                yield group, slice(start, stop)
                start = stop

    def _joins(self, feed: Feed) -> bool:
        return feed.keys() == self._signature.required and self._proof.joins(feed, time.monotonic() + self._timeout)

    def _joins_others(self, feed: Feed) -> bool:
        """Whether a request could be one of several, if the model's rows may run together: its inputs have rows."""
        lengths = {array.shape[:1] for array in feed.values()}
        return len(lengths) == 1 and lengths != {()} and self._proof.verdict.rows in (PROVEN, UNPROVEN)

    def _most(self, feed: Feed) -> int:
        """The most rows that a run over such inputs may have."""
        if self._proof.verdict.rows == SINGLE:
            return 1
        return self._limit or _batch_size(feed, self._growth)

    def _rows(self, feed: Feed, positions: Array, block: Block, rejected: list[Rejected]) -> Iterator[BatchOutputs]:
        """One run; when it fails two of half its rows, until each row that fails is alone."""
        count = len(positions)
        try:
            outputs = self._session_run(feed if count > 1 else self._alone(feed), self._names)
        except InferryError as exc:
            if isinstance(exc, InferenceTimeout):
                self._limit = max(count // 2, 1)
            if count == 1:
                at = int(positions[0])
                rejected.append(Rejected(int(block.rows[at]), None, str(exc), block.raw(at)))
                return
            parts = [slice(count // 2), slice(count // 2, None)]
        else:
            if count == 1:
                yield positions, self._own(outputs)
                return
            if not self._proof.refute(dict(zip(self._names, outputs, strict=True)), count):
                yield positions, outputs
                return
            parts = [slice(at, at + 1) for at in range(count)]
        for part in parts:
            smaller = {name: aligned(array[part]) for name, array in feed.items()}
            yield from self._rows(smaller, positions[part], block, rejected)

    def _alone(self, feed: Feed) -> Feed:
        """A row as a run of its own takes it: a scalar has no axis."""
        specs = self._signature.inputs
        return {name: array.reshape(()) if specs[name].shape == () else array for name, array in feed.items()}

    def _own(self, outputs: Sequence[Array]) -> list[Array]:
        """The outputs of a row that ran alone, each with one row: of an output without rows that is all of it."""
        has_rows = self._proof.verdict.outputs
        return [
            array if name in has_rows and array.shape[:1] == (1,) else array[np.newaxis]
            for name, array in zip(self._names, outputs, strict=True)
        ]

    def _session_run(self, feed: Feed, names: Sequence[str]) -> list[Array]:
        start = time.perf_counter_ns()
        arrays = self._model.session.run(feed, names, time.monotonic() + self._timeout)
        took = time.perf_counter_ns() - start
        rows = _rows(next(iter(feed.values()))) if feed else 1
        self._model.stats.executed(rows, took)
        self._grow(took / 1e9, rows >= self._most(feed))
        return arrays

    def _grow(self, seconds: float, full: bool) -> None:
        """More rows in a run when one with all that it may have was quick, fewer when one was not."""
        self.is_quick = seconds < SHORT * SLOWER if self.is_quick else full and seconds < SHORT
        if full and seconds < RUN_SECONDS:
            self._growth = min(self._growth * 2, GROWTH)
        elif seconds > 4 * RUN_SECONDS:
            self._growth = max(self._growth // 2, 1)

    def _predict_requests(self, block: Block) -> PredictedBlock:
        """Requests of the protocol: neighbours that differ only in their rows run as one."""
        rejected: list[Rejected] = []
        outputs: list[Any] = []
        positions: list[int] = []
        for run in self._neighbours(block, rejected):
            for position, arrays in self._run_requests(run, block, rejected):
                positions.append(position)
                outputs.append(arrays)
        order = sorted(range(len(positions)), key=positions.__getitem__)
        everything = sorted((*block.rejected, *rejected), key=lambda item: item.row)
        found = {"": [outputs[index] for index in order]}
        return PredictedBlock(block, np.array([positions[index] for index in order], np.int64), found, everything)

    def _neighbours(self, block: Block, rejected: list[Rejected]) -> Iterator[list[tuple[int, Feed]]]:
        """Requests that may run as one, up to the batch size together."""
        run: list[tuple[int, Feed]] = []
        key: Any = None
        rows = 0
        for position, request in enumerate(block.requests):
            try:
                feed = self._signature.feed(request)
                self._signature.requested(request)
            except InvalidRequest as exc:
                rejected.append(Rejected(int(block.rows[position]), None, str(exc), block.raw(position)))
                continue
            size, kind = self._signature.rows(request), _kind(feed)
            joins = kind == key and self._joins_others(feed)
            if run and not (joins and rows + size <= self._most(feed)):
                yield run
                run, rows = [], 0
            run.append((position, feed))
            key, rows = kind, rows + size
        if run:
            yield run

    def _run_requests(
        self, run: list[tuple[int, Feed]], block: Block, rejected: list[Rejected]
    ) -> Iterator[tuple[int, list[Array]]]:
        """The outputs of each request; when a run fails two of half its requests, until each that fails is alone."""
        feed = joined([feed for _, feed in run]) if len(run) > 1 else run[0][1]
        if len(run) > 1 and not self._joins(feed):
            yield from self._run_each(run, block, rejected)
            return
        try:
            arrays = self._session_run(feed, self._names)
        except InferryError as exc:
            if len(run) == 1:
                position = run[0][0]
                rejected.append(Rejected(int(block.rows[position]), None, str(exc), block.raw(position)))
                return
            half = len(run) // 2
            yield from self._run_requests(run[:half], block, rejected)
            yield from self._run_requests(run[half:], block, rejected)
            return
        if len(run) == 1:
            yield run[0][0], arrays
            return
        sizes = [self._signature.rows(block.requests[position]) for position, _ in run]
        if self._proof.refute(dict(zip(self._names, arrays, strict=True)), sum(sizes)):
            yield from self._run_each(run, block, rejected)
            return
        start = 0
        for (position, _), size in zip(run, sizes, strict=True):
            yield position, [array[start : start + size] for array in arrays]
            start += size

    def _run_each(
        self, run: list[tuple[int, Feed]], block: Block, rejected: list[Rejected]
    ) -> Iterator[tuple[int, list[Array]]]:
        for one in run:
            yield from self._run_requests([one], block, rejected)


def _bytes(values: Values) -> int:
    if isinstance(values, np.ndarray):
        return int(values.nbytes)
    return sum(_bytes(value) for value in values if isinstance(value, np.ndarray | list))


def _batch_size(feed: Feed, growth: int) -> int:
    row = sum(array.size // max(_rows(array), 1) for array in feed.values())
    return max(1, min(MOST * growth, ELEMENTS * growth // max(row, 1)))


def _rows(array: Array) -> int:
    return len(array) if array.ndim else 1


def _kind(feed: Feed) -> Any:
    return tuple((name, array.ndim, array.shape[1:]) for name, array in feed.items())


def _assembled(batches: Sequence[BatchOutputs], names: Sequence[str]) -> tuple[Array, Mapping[str, Values]]:
    """The outputs of all batches in the order of their rows; an output whose rows have different shapes is a list."""
    if not batches:
        return np.empty(0, np.int64), {name: [] for name in names}
    positions = np.concatenate([positions for positions, _ in batches])
    order = None if bool(np.all(positions[1:] > positions[:-1])) else np.argsort(positions)
    outputs: dict[str, Values] = {}
    for index, name in enumerate(names):
        arrays = [arrays[index] for _, arrays in batches]
        if len({array.shape[1:] for array in arrays}) == 1:
            together = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
            outputs[name] = together if order is None else together[order]
        else:
            rows = [row for array in arrays for row in array]
            outputs[name] = rows if order is None else [rows[at] for at in order.tolist()]
    return (positions if order is None else positions[order]), outputs
