"""A part that grows: rows without a result take the memory of their lines in the report, and no more."""

import tracemalloc

import numpy as np
from inferry.jobs.formats.blocks import Block, Cursor, PredictedBlock, Rejected
from inferry.jobs.part_writer import _Open


def test_memory_of_errors() -> None:
    row = {f"column {number}": str(number) for number in range(64)}
    rejected = [Rejected(number + 1, "column 1", "no number", row) for number in range(200)]
    block = Block(Cursor(), Cursor(200, 1), np.empty(0, np.int64))
    open_part = _Open(Cursor())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    open_part.add(b"", PredictedBlock(block, block.rows, {}, rejected))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    lines = b"".join(open_part.errors)
    assert lines.count(b"\n") == open_part.part(last=True).errors == 200
    assert after - before < 1.5 * len(lines)
