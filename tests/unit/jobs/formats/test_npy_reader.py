"""NPY files whose rows are laid out in other ways: over the whole array, and a row that is all of it."""

import errno
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import onnx_models
import pytest
from arrayfiles import npy, npz
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
@pytest.mark.parametrize("window", [1, 24, 48, 71, 1 << 20])
def test_fortran_order(wanted: ReadOptions, monkeypatch: pytest.MonkeyPatch, start: int, window: int) -> None:
    """Rows of 24 bytes, turned one at a time, two, and all."""
    monkeypatch.setattr(npy_reader, "WINDOW", window)
    assert rows(np.asfortranarray(ARRAY), wanted, start) == ARRAY[start:].tolist()


@pytest.mark.parametrize("dtype", [">f4", "<f4", "f2", ">f2", ">f8", ">i4", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_orders_and_sizes(wanted: ReadOptions, dtype: str, order: Any) -> None:
    array = (ARRAY % 2).astype(dtype, order=order)
    assert rows(array, wanted) == (ARRAY % 2).tolist()


def test_one_row_in_fortran_order(wanted: ReadOptions) -> None:
    assert rows(np.asfortranarray(ARRAY[1]), wanted) == [ARRAY[1].tolist()]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_in_fortran_order(wanted: ReadOptions, monkeypatch: pytest.MonkeyPatch, save: Any) -> None:
    monkeypatch.setattr(npy_reader, "WINDOW", 48)
    file = BytesIO()
    save(file, x=np.asfortranarray(ARRAY), other=ARRAY)
    reader = npy_reader.NpzRows(file, "", wanted)
    blocks = [block for chunk in reader.chunks(Cursor(1, 1)) for block in chunk()]
    assert [row for block in blocks for group in block.groups for row in group.feed["x"].tolist()] == ARRAY[1:].tolist()


def test_an_archive_in_fortran_order_that_finds_no_room(wanted: ReadOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(npy_reader.shutil, "copyfileobj", full)
    with pytest.raises(InvalidFile, match=r"x in x\.npy is in Fortran order, .* 96 bytes are copied to .*: .*No space"):
        npy_reader.NpzRows(BytesIO(npz(x=np.asfortranarray(ARRAY))), "", wanted)


def test_one_row(wanted: ReadOptions) -> None:
    assert rows(ARRAY[1], wanted) == [ARRAY[1].tolist()]
    assert rows(ARRAY[:1], wanted) == [ARRAY[0].tolist()]


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (2,), (1, 2, 4)])
def test_what_is_no_row_is_refused(wanted: ReadOptions, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidFile, match=r"but those of input 'x' of model 'm' have the shape \[2, 3\]"):
        rows(np.zeros(shape, np.float32), wanted)
