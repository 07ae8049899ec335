"""Row numbers where a file's chunks are made side by side, and nobody knows how many rows are in one before it is."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from inferry.jobs.formats.blocks import Block, Chunk

T = TypeVar("T")


class RowCounter:
    """Each chunk begins with the row behind the last of the one before it."""

    def __init__(self, row: int, stop: int | None) -> None:
        """`row` rows are before the first chunk; `stop`: the row that ends the last, None for the file's end."""
        self.is_over = False
        """Whether the row `stop` was reached: chunks that were taken meanwhile make no blocks."""
        self._stop = stop
        self._border = Future[int]()
        self._border.set_result(row)

    def chunk(self, parse: Callable[[], T], blocks: Callable[[T, int], Sequence[Block]]) -> Chunk:
        """The next chunk, of `blocks` of what `parse` returns and of the rows before it.

        Several may `parse` at a time; for the rows before it each waits until the one before it is made.
        """
        before, after = self._border, Future[int]()
        self._border = after

        def make() -> Sequence[Block]:
            try:
                parsed, row = parse(), before.result()
                made = [] if self.is_over else blocks(parsed, row)
                end = made[-1].end.row if made else row
                self.is_over = self.is_over or end == self._stop
                after.set_result(end)
                return made
            finally:
                # Who waits behind a chunk that failed must not wait for ever.
                after.cancel()

        return make
