"""Parquet of many small row groups: the rows of one large group, from anywhere, and several groups at a time."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.jobs.formats import parquet_reader
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Cursor, Pace
from inferry.jobs.formats.parquet_reader import ParquetRows
from inferry.service import Service
from inferry.settings import Settings

COUNT = 100
KEEP = ("id", "text", "kind", "ids", "pair", "note")
TABLE = pa.table(
    {
        "x": pa.array([[at, None if at % 7 == 0 else at / 3, 2.5] for at in range(COUNT)], pa.list_(pa.float32())),
        "id": np.arange(COUNT),
        "text": [None if at % 5 == 0 else "ä" * (at % 11) for at in range(COUNT)],
        "kind": pa.array([f"kind {at // 9}" for at in range(COUNT)]).dictionary_encode(),
        "ids": [list(range(at % 4)) for at in range(COUNT)],
        "pair": [{"a": at, "b": str(at)} for at in range(COUNT)],
        "note": pa.nulls(COUNT),
        "unused": [b"\0" * 100] * COUNT,
    }
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = onnx_models.write(tmp_path_factory.mktemp("models"), {"m.onnx": onnx_models.identity("FP32", ("n", 3))})
    service = Service.from_settings(Settings(model_path=str(folder)))
    yield service
    service.close()


def file(sizes: list[int]) -> BytesIO:
    """The table in row groups of these sizes, over and over."""
    target, at = BytesIO(), 0
    with pq.ParquetWriter(target, TABLE.schema) as writer:
        while at < COUNT:
            for size in sizes:
                writer.write_table(TABLE.slice(at, size))
                at += size
    return target


def rows(service: Service, sizes: list[int], start: int = 0, stop: int | None = None, pace: int = 8) -> list[Any]:
    """What is known of each row."""
    options = ReadOptions(service.repository.get("m"), KEEP, Pace(pace), "x.parquet")
    reader = ParquetRows(file(sizes), "", options)
    assert reader.total == COUNT
    found: list[Any] = []
    for chunk in reader.chunks(Cursor(start, start), stop):
        for block in chunk():
            assert 0 < block.end.row - block.start.row <= pace
            (group,) = block.groups
            kept = [block.kept[name].to_pylist() for name in KEEP]
            found += zip(block.rows.tolist(), np.nan_to_num(group.feed["x"], nan=-1).tolist(), *kept, strict=True)
    return found


@pytest.mark.parametrize("limit", [1, 200, parquet_reader.BATCH_BYTES])
@pytest.mark.parametrize("sizes", [[1], [3], [1, 0, 8, 30], [50]])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 1), (1, 2), (10, 31), (37, COUNT), (99, None), (50, 50)])
def test_groups_of_any_size(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int],
    start: int,
    stop: int | None,
    limit: int,
) -> None:
    monkeypatch.setattr(parquet_reader, "BATCH_BYTES", limit)
    found = rows(service, sizes, start, stop)
    columns = [TABLE.column(name).to_pylist() for name in KEEP]
    x = [[-1 if value is None else np.float32(value).item() for value in row] for row in TABLE.column("x").to_pylist()]
    assert found == list(zip(range(1, COUNT + 1), x, *columns, strict=True))[start:stop]


def test_small_groups_are_read_together(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []
    iter_batches = pq.ParquetFile.iter_batches

    def seen(self: Any, size: int, row_groups: list[int], **options: Any) -> Any:
        read.append(row_groups)
        return iter_batches(self, size, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", seen)
    assert len(rows(service, [1])) == COUNT
    monkeypatch.setattr(parquet_reader, "BATCH", 40)
    assert len(rows(service, [1])) == COUNT
    assert list(map(len, read)) == [100, 40, 40, 20]
