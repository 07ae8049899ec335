"""NPY files of every version, and headers that lie."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from arrayfiles import LIES, headed, npy
from inferry.errors import InvalidFile
from inferry.protocol.npy import Header, read_array, read_header

NAMED = np.zeros(2, [("ü", "<f4"), ("日", "<i8")])
ARRAYS = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "a single value": np.array(7.5),
    "no rows": np.zeros((0, 3)),
    "text": np.array(["one", "ü"]),
    "fields": np.array([(1.5, 2)], [("a", "<f4"), ("b", "<i8", (1,))]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str) -> None:
    array = read_array(npy(ARRAYS[name]), "x")
    assert (array.dtype, array.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
    assert array.tolist() == ARRAYS[name].tolist()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions(version: tuple[int, int]) -> None:
    content = BytesIO()
    np.lib.format.write_array(content, ARRAYS["floats"], version)
    header = read_header(BytesIO(content.getvalue()), len(content.getvalue()), "x")
    assert header == Header((2, 3), False, np.dtype("<f4"), len(content.getvalue()) - 24)


def test_names_of_fields_in_utf_8() -> None:
    with pytest.warns(UserWarning, match="3.0"):
        content = npy(NAMED)
    assert read_array(content, "x").dtype == NAMED.dtype


@pytest.mark.parametrize("name", LIES)
def test_headers_that_lie(name: str) -> None:
    content, said = LIES[name]
    for read in (read_array, lambda content, what: read_header(BytesIO(content), len(content), what)):
        with pytest.raises(InvalidFile) as caught:
            read(content, "x.npy")
        assert said in str(caught.value)
        assert "x.npy" in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_header_of_python_2() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 2L), }\n"
    with pytest.warns(UserWarning, match="Python 2"):
        assert read_array(headed(header), "x").tolist() == [[0, 0]]


def test_the_memory_is_shared() -> None:
    content: Any = bytearray(npy(ARRAYS["floats"]))
    array = read_array(content, "x")
    content[-4:] = np.float32(9).tobytes()
    assert array[1, 2] == 9
