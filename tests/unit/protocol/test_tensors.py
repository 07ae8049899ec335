"""Tensors as bytes: the layout of every datatype, and what is refused."""

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from inferry.errors import InvalidRequest
from inferry.protocol.tensors import (
    ALIGNMENT,
    BY_ONNX,
    DATATYPES,
    Tensor,
    aligned,
    bfloat16_from_float32,
    empty,
    float32_from_bfloat16,
    from_bytes,
    to_bytes,
    to_list,
)

WHAT = "input 'x' for model 'm'"

# Datatype, elements, and the bytes that the protocol gives them: little-endian, back to back.
LAYOUTS = [
    ("BOOL", [True, False], "01 00"),
    ("UINT8", [0, 255], "00 ff"),
    ("UINT16", [1, 65535], "0100 ffff"),
    ("UINT32", [1, 2**32 - 1], "01000000 ffffffff"),
    ("UINT64", [1, 2**64 - 1], "0100000000000000 ffffffffffffffff"),
    ("INT8", [-1, -128], "ff 80"),
    ("INT16", [-2, 32767], "feff ff7f"),
    ("INT32", [-2, 258], "feffffff 02010000"),
    ("INT64", [2**53 + 1, -(2**63)], "0100000000002000 0000000000000080"),
    ("FP16", [1.0, -2.0, 65504.0, 2.0**-24], "003c 00c0 ff7b 0100"),
    ("BF16", [0x3F80, 0xC000], "803f 00c0"),
    ("FP32", [1.0, -2.0], "0000803f 000000c0"),
    ("FP64", [1.0, 0.1], "000000000000f03f 9a9999999999b93f"),
    ("BYTES", ["a", "é", "\x00", ""], "01000000 61 02000000 c3a9 01000000 00 00000000"),
]


def tensor(datatype: str, items: list[Any], shape: tuple[int, ...] | None = None) -> Tensor:
    array = np.array(items, DATATYPES[datatype].dtype)
    return Tensor("x", DATATYPES[datatype], array if shape is None else array.reshape(shape))


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """The same dtype, shape and bits; NaN is NaN."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tolist() == right.tolist()


@pytest.mark.parametrize(("datatype", "items", "layout"), LAYOUTS, ids=[row[0] for row in LAYOUTS])
def test_layout(datatype: str, items: list[Any], layout: str) -> None:
    given = tensor(datatype, items)
    assert bytes(to_bytes(given)) == bytes.fromhex(layout)
    assert same(from_bytes(DATATYPES[datatype], (len(items),), bytes.fromhex(layout), WHAT), given.array)


def test_every_datatype_has_a_layout() -> None:
    assert [row[0] for row in LAYOUTS] == list(DATATYPES)


def test_names() -> None:
    """The names of each datatype in the protocol, in ONNX Runtime and in Triton's configuration."""
    assert [(d.name, d.onnx, d.config) for d in DATATYPES.values()] == [
        ("BOOL", "tensor(bool)", "TYPE_BOOL"),
        ("UINT8", "tensor(uint8)", "TYPE_UINT8"),
        ("UINT16", "tensor(uint16)", "TYPE_UINT16"),
        ("UINT32", "tensor(uint32)", "TYPE_UINT32"),
        ("UINT64", "tensor(uint64)", "TYPE_UINT64"),
        ("INT8", "tensor(int8)", "TYPE_INT8"),
        ("INT16", "tensor(int16)", "TYPE_INT16"),
        ("INT32", "tensor(int32)", "TYPE_INT32"),
        ("INT64", "tensor(int64)", "TYPE_INT64"),
        ("FP16", "tensor(float16)", "TYPE_FP16"),
        ("BF16", "tensor(bfloat16)", "TYPE_BF16"),
        ("FP32", "tensor(float)", "TYPE_FP32"),
        ("FP64", "tensor(double)", "TYPE_FP64"),
        ("BYTES", "tensor(string)", "TYPE_STRING"),
    ]
    assert {datatype.onnx: datatype for datatype in DATATYPES.values()} == BY_ONNX


def test_kinds() -> None:
    assert [d.name for d in DATATYPES.values() if not d.is_number] == ["BOOL", "BYTES"]
    assert [d.name for d in DATATYPES.values() if d.is_float] == ["FP16", "BF16", "FP32", "FP64"]
    assert [d.name for d in DATATYPES.values() if d.is_integer] == [
        *("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
    ]


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (2, 3), (1, 1, 6)])
def test_shapes_come_back(datatype: str, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape))
    given = tensor(datatype, ["ab", "c", "", "é", "e", "f"][:count] if datatype == "BYTES" else [1] * count, shape)
    raw = bytes(to_bytes(given))
    assert same(from_bytes(DATATYPES[datatype], shape, raw, WHAT), given.array)


def test_bytes_of_an_array_that_is_not_contiguous() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3).T
    assert bytes(to_bytes(Tensor("x", DATATYPES["INT16"], array))) == struct.pack("<6h", 0, 3, 1, 4, 2, 5)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "message"),
    [
        (
            "FP32",
            (2, 3),
            b"\0" * 20,
            f"input byte size mismatch for {WHAT}. Expected 24 bytes for shape [2, 3] of FP32, got 20",
        ),
        (
            "INT8",
            (0,),
            b"\0",
            f"input byte size mismatch for {WHAT}. Expected 0 bytes for shape [0] of INT8, got 1",
        ),
        ("BOOL", (3,), b"\0\1\2", f"a BOOL of {WHAT} is a byte other than 0 and 1"),
        ("BYTES", (1,), b"\1\0\0\0ab", f"unexpected 1 trailing bytes after 1 string(s) of {WHAT}"),
        ("BYTES", (0,), b"\0\0\0\0", f"unexpected 4 trailing bytes after 0 string(s) of {WHAT}"),
        (
            "BYTES",
            (1,),
            b"\2\0\0\0a",
            f"string 0 of {WHAT} is cut off: its 4-byte length exceeds the bytes that follow",
        ),
        (
            "BYTES",
            (2,),
            b"\1\0\0\0a\1\0\0",
            f"string 1 of {WHAT} is cut off: its 4-byte length exceeds the bytes that follow",
        ),
        (
            "BYTES",
            (1,),
            b"\xff\xff\xff\xffa",
            f"string 0 of {WHAT} is cut off: its 4-byte length exceeds the bytes that follow",
        ),
        (
            "BYTES",
            (2,),
            b"\3\0\0\0abc",
            f"expected 2 string(s) for {WHAT}, but 7 bytes can't hold as many 4-byte lengths",
        ),
        (
            "BYTES",
            (2**50,),
            b"\0\0\0\0",
            f"expected {2**50} string(s) for {WHAT}, but 4 bytes can't hold as many 4-byte lengths",
        ),
        (
            "BYTES",
            (2,),
            b"\1\0\0\0a\1\0\0\0\xff",
            f"string 1 of {WHAT} is not valid UTF-8; ONNX strings are UTF-8 text, send other bytes as UINT8",
        ),
        (
            "BYTES",
            (1,),
            b"\3\0\0\0\xed\xa0\x80",  # a lone surrogate
            f"string 0 of {WHAT} is not valid UTF-8; ONNX strings are UTF-8 text, send other bytes as UINT8",
        ),
    ],
)
def test_refused_bytes(datatype: str, shape: tuple[int, ...], raw: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_bytes(DATATYPES[datatype], shape, raw, WHAT)
    assert str(caught.value) == message


def test_from_bytes_copies_to_the_boundary() -> None:
    """The body of a request starts anywhere, and its tensors anywhere in it."""
    body = memoryview(bytes(range(1, 250)))
    for start in range(8):
        array = from_bytes(DATATYPES["FP32"], (2, 3), body[start : start + 24], WHAT)
        assert array.__array_interface__["data"][0] % ALIGNMENT == 0
        assert array.tobytes() == bytes(body[start : start + 24])


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5)])
def test_aligned(shape: tuple[int, ...]) -> None:
    good = empty(shape, np.dtype("f4"))
    good[...] = 7
    assert aligned(good) is good
    shifted = np.frombuffer(b"\1" + good.tobytes(), np.uint8)[1:].view(np.dtype("f4")).reshape(shape)
    for array in (shifted, good.T[::-1] if good.ndim else good):
        copy = aligned(array)
        assert copy.__array_interface__["data"][0] % ALIGNMENT == 0
        assert copy.flags.c_contiguous
        assert same(copy, array)


def test_small_arrays_share_no_byte() -> None:
    """Whatever thread asks for them, and as long as they live: blocks that end with a part at their edge included."""
    sizes = (0, 1, 63, 1000, 1023, 1024, 1025)

    def filled(number: int) -> tuple[int, np.ndarray]:
        array = empty((sizes[number % len(sizes)],), DATATYPES["UINT8"].dtype)
        assert array.size == 0 or array.__array_interface__["data"][0] % ALIGNMENT == 0
        array[:] = number % 251
        return number, array

    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(filled, range(2000)))
    assert all((array == number % 251).all() for number, array in arrays)


def test_aligned_leaves_strings_alone() -> None:
    arrays = [np.array(["a"] * size, object) for size in range(1, 50)]
    assert all(aligned(array) is array for array in arrays)


# Every float32 whose upper half is near a rounding decision, and every special one; ml_dtypes is Google's own bfloat16.
HALVES = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
FLOATS = np.concatenate([HALVES | np.uint32(low) for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).view(np.float32)


def test_bfloat16_rounds_as_ml_dtypes() -> None:
    ours = bfloat16_from_float32(FLOATS)
    numbers = ~np.isnan(FLOATS)
    theirs = FLOATS[numbers].astype(ml_dtypes.bfloat16).view(np.uint16)
    assert np.array_equal(ours[numbers], theirs)
    assert np.isnan(ours[~numbers].view(ml_dtypes.bfloat16).astype(np.float32)).all()


def test_bfloat16_back_to_float32() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    expected = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(float32_from_bfloat16(bits), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("datatype", "items", "expected"),
    [
        ("FP32", [[1.5, -0.0], [2.0, 3.0]], [1.5, -0.0, 2.0, 3.0]),
        ("BF16", [[0x3FC0], [0xC000]], [1.5, -2.0]),
        ("BYTES", [["a", "é"]], ["a", "é"]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("BOOL", [True], [True]),
    ],
)
def test_to_list(datatype: str, items: list[Any], expected: list[Any]) -> None:
    assert list(to_list(tensor(datatype, items))) == expected


def test_to_list_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_list(tensor("BYTES", ["good", "\ud800"]))
    assert str(caught.value) == "output 'x' is not valid UTF-8; request it with binary_data=true"
