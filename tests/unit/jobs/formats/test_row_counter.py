"""The numbers of rows in chunks that several threads make."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from inferry.jobs.formats.blocks import Block, Cursor, numbers
from inferry.jobs.formats.row_counter import RowCounter
from inferry.jobs.pipeline import ordered_map

# Of a chunk: its blocks' rows.
SIZES = [[3], [], [0], [1, 2], [4]]
BLOCKS = [(10, 13), (13, 13), (13, 14), (14, 16), (16, 20)]


def blocks(sizes: Sequence[int], row: int) -> list[Block]:
    """Blocks of so many rows each, behind `row` others."""
    made = []
    for size in sizes:
        made.append(Block(Cursor(row, 0), Cursor(row + size, 0), numbers(row, size)))
        row += size
    return made


def borders(made: Sequence[Block]) -> list[tuple[int, int]]:
    return [(block.start.row, block.end.row) for block in made]


def test_each_chunk_begins_behind_the_one_before_it() -> None:
    numbering = RowCounter(10, None)
    chunks = [numbering.chunk(partial(list, sizes), blocks) for sizes in SIZES]
    assert [part for chunk in chunks for part in borders(chunk())] == BLOCKS
    assert not numbering.is_over


def test_chunks_are_parsed_before_their_rows_have_numbers() -> None:
    """The last is parsed first: the first waits for it."""
    numbering, parsed = RowCounter(10, None), threading.Event()

    def parse(sizes: list[int]) -> list[int]:
        if sizes == SIZES[-1]:
            parsed.set()
        assert parsed.wait(10)
        return sizes

    chunks = [numbering.chunk(partial(parse, sizes), blocks) for sizes in SIZES]
    with ThreadPoolExecutor(len(chunks)) as pool:
        made = list(pool.map(lambda chunk: chunk(), chunks))
    assert [part for some in made for part in borders(some)] == BLOCKS


@pytest.mark.parametrize(("stop", "expected"), [(13, 1), (16, 4), (20, 5)])
def test_behind_the_row_that_ends_the_last_there_are_none(stop: int, expected: int) -> None:
    numbering = RowCounter(10, stop)
    chunks = [numbering.chunk(partial(list, sizes), blocks) for sizes in SIZES]
    assert [part for chunk in chunks for part in borders(chunk())] == BLOCKS[:expected]
    assert numbering.is_over


@pytest.mark.parametrize("stage", ["parse", "blocks"])
def test_nobody_waits_behind_a_chunk_that_failed(stage: str) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError(stage)

    numbering = RowCounter(0, None)
    first = numbering.chunk(fail, blocks) if stage == "parse" else numbering.chunk(list, fail)
    others = [numbering.chunk(list, blocks) for _ in range(2)]
    with pytest.raises(ValueError, match=stage):
        first()
    for chunk in others:
        with pytest.raises(CancelledError):
            chunk()


def test_what_failed_is_what_is_raised_where_threads_make_chunks() -> None:
    numbering = RowCounter(0, None)

    def parse(number: int) -> list[int]:
        if number == 3:
            raise ValueError("the third")
        return [1]

    def chunks() -> Iterator[Any]:
        for number in range(100):
            yield numbering.chunk(partial(parse, number), blocks)

    found: list[Block] = []
    with (
        pytest.raises(ValueError, match="the third"),
        ordered_map(chunks(), lambda block: block, lambda: True, lambda block: block, 4) as made,
    ):
        found.extend(made)
    assert borders(found) == [(0, 1), (1, 2), (2, 3)]
