"""A file's parts, made from where the last run was ended: reading, predicting and writing at the same time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inferry.errors import TooManyErrors
from inferry.jobs.formats.blocks import Cursor, PredictedBlock, Reader
from inferry.jobs.formats.formats import Writer
from inferry.jobs.pipeline import ordered_map
from inferry.jobs.predictor import Predictor
from inferry.jobs.results import Memory, Part, Results, error_line

# A part is written when it has so many bytes, or so many seconds of work are in it.
PART_BYTES, PART_SECONDS = 16 << 20, 30.0
# Rows from which on a share of errors is judged; a count is judged at once.
JUDGED = 1000
# With less, nothing could go on while the model runs; each more holds a block in memory, or two.
THREADS, MOST_THREADS = 2, 4


@dataclass(slots=True)
class Progress:
    """How far a job is: its rows so far, those of them without a result, and about the share of the file they are."""

    rows: int = 0
    errors: int = 0
    share: float = 0.0


@dataclass(slots=True)
class Counts:
    """How many rows have a result, and how many have none."""

    rows: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """`until`: time.monotonic at which to stop; `max_errors`: a count, or a share as a float; `part_seconds`: of work
    after which what was done is kept.
    """

    until: float | None
    max_errors: int | float | None
    part_seconds: float = PART_SECONDS


class PartWriter:
    """Makes the parts of `results`: those that there are already count, gaps between them are filled.

    `kept`: columns to carry over, each by the name that it has in the results; `constants`: those of them that have one
    value in all rows.
    """

    def __init__(
        self,
        reader: Reader,
        predictor: Predictor,
        writer: Writer,
        kept: Mapping[str, str],
        results: Results,
        limits: Limits,
        progress: Callable[[Progress], None],
        share: Callable[[Cursor], float],
        threads: int,
        constants: Mapping[str, Any],
    ) -> None:
        self.writer = writer
        self._reader, self._predictor, self._results = reader, predictor, results
        self._kept = kept
        self._constants = constants
        self._limits = limits
        self._report = progress
        self._threads = min(max(threads, THREADS), MOST_THREADS)
        self._progress = Progress()
        self._share = share
        self.parts: list[Part] = []
        self.memory: Memory | None = None
        """Data and errors of a lone part, which need not be written before it is published."""
        self.made = Counts()
        """Rows of this run, without those of earlier ones."""

    def all(self) -> bool:
        """All parts of the file; False when there was no time for all. TooManyErrors."""
        return self._fill(Cursor(), None, lone=True)

    def some(self, start: Cursor, stop: int | None) -> bool:
        """The parts of the rows from `start` to `stop`; False when there was no time for all. TooManyErrors."""
        return self._fill(start, stop, lone=False)

    def _fill(self, cursor: Cursor, stop: int | None, lone: bool) -> bool:
        known = self._results.parts()
        self._predictor.expect(
            sum(part.rows + part.errors for part in known.values()), sum(part.seconds for part in known.values())
        )
        while True:
            part = known.get(cursor.row)
            if part is None:
                gap_end = min((row for row in known if row > cursor.row), default=stop)
                if not self._make(cursor, gap_end, lone):
                    return False
                cursor = self.parts[-1].end
            else:
                self._count(part)
                cursor = part.end
            if self.parts[-1].last or (stop is not None and cursor.row >= stop):
                self._judge(final=True)
                return True

    def _count(self, part: Part) -> None:
        self.parts.append(part)
        self._progress.rows += part.rows + part.errors
        self._progress.errors += part.errors
        self._report(self._progress)
        self._judge()

    def _make(self, cursor: Cursor, stop: int | None, lone: bool) -> bool:
        """The parts from `cursor` to the row `stop` or the end of the file; False when the time was over."""
        open_part = _Open(cursor)
        chunks = self._reader.chunks(cursor, stop)
        with ordered_map(chunks, self._predictor.predict, self._is_quick, self._encoded, self._threads) as made:
            for encoded, predicted in made:
                open_part.add(encoded, predicted)
                self._progress.rows += len(predicted.positions) + len(predicted.rejected)
                self._progress.errors += len(predicted.rejected)
                self._progress.share = self._share(predicted.block.end)
                self._report(self._progress)
                try:
                    self._judge()
                except TooManyErrors:
                    self._close(open_part, last=False, lone=False)
                    raise
                if self._is_over():
                    self._close(open_part, last=False, lone=False)
                    return False
                if open_part.is_full(self._limits.part_seconds):
                    self._close(open_part, last=False, lone=False)
                    open_part = _Open(open_part.end)
        last = stop is None or open_part.end.row < stop
        if open_part.end != open_part.start or last:
            self._close(open_part, last, lone and not self.parts)
        return True

    def _is_quick(self) -> bool:
        return self._predictor.is_quick

    def _encoded(self, predicted: PredictedBlock) -> tuple[Any, PredictedBlock]:
        rows = len(predicted.block.rows)
        columns = {**predicted.block.kept, **{name: [value] * rows for name, value in self._constants.items()}}
        predicted.block.kept = {name: columns[column] for name, column in self._kept.items()}
        return self.writer.encode(predicted), predicted

    def _close(self, open_part: "_Open", last: bool, lone: bool) -> None:
        part = open_part.part(last)
        data, errors = self.writer.seal(open_part.blocks), b"".join(open_part.errors)
        if lone and last:
            self.memory = (data, errors)
        else:
            self._results.keep(part, b"".join(data), errors)
        self.parts.append(part)
        self.made.rows += part.rows
        self.made.errors += part.errors

    def _is_over(self) -> bool:
        """Whether the next block might end after the time is over."""
        return self._limits.until is not None and time.monotonic() + self._predictor.pace.seconds > self._limits.until

    def _judge(self, final: bool = False) -> None:
        rows, errors, most = self._progress.rows, self._progress.errors, self._limits.max_errors
        if most is None or not errors:
            return
        allowed = most if isinstance(most, int) else most * rows
        if errors > allowed and (isinstance(most, int) or final or rows >= JUDGED):
            said = f"{most}" if isinstance(most, int) else f"{most:.3g} of all"
            raise TooManyErrors(f"{errors} of {rows} rows have no result, more than --max-errors {said}")


class _Open:
    """A part to which blocks are still added."""

    def __init__(self, start: Cursor) -> None:
        self.start = self.end = start
        self.blocks: list[Any] = []
        self.errors: list[bytes] = []
        self._rows = self._rejected = self._bytes = 0
        self._since = time.monotonic()

    def add(self, encoded: Any, predicted: PredictedBlock) -> None:
        # As one text: each of orjson's own takes many times the memory of its bytes, 32 kB for a line of 900.
        errors = b"".join([error_line(rejected) for rejected in predicted.rejected])
        self.blocks.append(encoded)
        self.errors.append(errors)
        self.end = predicted.block.end
        self._rows += len(predicted.positions)
        self._rejected += len(predicted.rejected)
        self._bytes += _size(encoded) + len(errors)

    def is_full(self, seconds: float) -> bool:
        return self._bytes >= PART_BYTES or time.monotonic() - self._since >= seconds

    def part(self, last: bool) -> Part:
        return Part(self.start, self.end, self._rows, self._rejected, time.monotonic() - self._since, last)


def _size(encoded: Any) -> int:
    return 0 if encoded is None else int(getattr(encoded, "nbytes", 0) or len(encoded))
