"""The parts of a job: the memory of errors, and how far the job is."""

import tracemalloc
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from inferry.jobs.formats.blocks import Block, Cursor, PredictedBlock, Rejected
from inferry.jobs.part_writer import Progress, _Open
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings


def test_memory_of_errors() -> None:
    """Rows without a result take the memory of their lines in the report, and no more."""
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


@pytest.mark.parametrize(("name", "line"), [("x.jsonl", b'{"x":[1,2,3]}\n'), ("x.csv", b"1,2,3\n")])
def test_progress_of_text(tmp_path: Path, name: str, line: bytes) -> None:
    """A row at a time of a file that is read at once: what is left to do counts, not what is left to read."""
    onnx_models.write(tmp_path / "models", {"m.onnx": onnx_models.identity()})
    header = b"a,b,c\n" if name.endswith("csv") else b""
    (tmp_path / name).write_bytes(header + line * 10)
    service = Service.from_settings(Settings(model_path=str(tmp_path / "models")))
    shares: list[float] = []

    def seen(progress: Progress) -> None:
        shares.append(progress.share)

    run(Job(input=str(tmp_path / name), output=f"{tmp_path}/out/"), service, progress=seen, attempt=3)
    service.close()
    size = len(header + line * 10)
    assert shares == [(len(header) + len(line) * (at + 1)) / size for at in range(10)]
