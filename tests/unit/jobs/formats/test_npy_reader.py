"""NPY files whose rows are laid out in other ways: over the whole array, and a row that is all of it."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import onnx_models
import pytest
from arrayfiles import npy
from inferry.errors import InvalidFile
from inferry.jobs.formats import npy_reader
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Cursor, Pace
from inferry.service import Service
from inferry.settings import Settings

ARRAY = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadOptions]:
    model = onnx_models.identity("FP32", ("n", 2, 3))
    folder = onnx_models.write(tmp_path_factory.mktemp("models"), {"m.onnx": model})
    service = Service.from_settings(Settings(model_path=str(folder)))
    yield ReadOptions(service.repository.get("m"), (), Pace(3), "x.npy")
    service.close()


def rows(array: Any, wanted: ReadOptions, start: int = 0) -> list[Any]:
    reader = npy_reader.NpyRows(BytesIO(npy(array)), "", wanted)
    assert [cursor.row for cursor in reader.borders(1)] == [*range(1, reader.total)]
    blocks = [block for chunk in reader.chunks(Cursor(start, start)) for block in chunk()]
    return [row for block in blocks for group in block.groups for row in group.feed["x"].tolist()]


@pytest.mark.parametrize("start", [0, 2])
def test_fortran_order(wanted: ReadOptions, start: int) -> None:
    assert rows(np.asfortranarray(ARRAY), wanted, start) == ARRAY[start:].tolist()


def test_a_large_array_in_fortran_order_is_refused(wanted: ReadOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy_reader, "FORTRAN", ARRAY.nbytes - 1)
    with pytest.raises(
        InvalidFile, match=r"x\.npy is in Fortran order, and with 96 bytes too large to turn: save np.asc"
    ):
        rows(np.asfortranarray(ARRAY), wanted)
    assert rows(ARRAY, wanted) == ARRAY.tolist()


def test_one_row(wanted: ReadOptions) -> None:
    assert rows(ARRAY[1], wanted) == [ARRAY[1].tolist()]
    assert rows(ARRAY[:1], wanted) == [ARRAY[0].tolist()]


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (2,), (1, 2, 4)])
def test_what_is_no_row_is_refused(wanted: ReadOptions, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidFile, match=r"but those of input 'x' of model 'm' have the shape \[2, 3\]"):
        rows(np.zeros(shape, np.float32), wanted)
