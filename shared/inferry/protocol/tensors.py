"""Datatypes of the protocol, of NumPy and of ONNX in one table, and tensors as bytes."""

import binascii
import math
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from ctypes import addressof, c_char
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from inferry.errors import InvalidRequest

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Shape: TypeAlias = tuple[int, ...]
Buffer: TypeAlias = bytes | bytearray | memoryview

# The same request must give the same bits on every host of one kind of CPU with one number of threads, and ONNX
# Runtime's last bit depends on where its inputs start: every input starts on this boundary (bytes).
ALIGNMENT = 64

MAX_DIMENSIONS = 64  # NumPy's limit
# Strings that are freed at a time.
_FREED = 50_000

# To look for the boundary takes as long as storing 64 numbers: small arrays share a block, each with a part (bytes) of
# its own that nobody else gets. The block goes with the last of them. It saves 0.4 us for each small input, of a
# request's 20 (Python 3.11, row `overhead`).
_SMALL, _AT_A_TIME = 1024, 16
_cells: list[tuple[Array, int]] = []


class Datatype(NamedTuple):
    """One row of the table. BF16 travels as its 16 raw bits in uint16, BYTES as `str` objects.

    `is_bits`: `dtype` holds the bits of numbers that NumPy has no type for; see `readable` and `as_elements`.
    `code` is how `struct` packs Python's values into elements; empty where it can't.
    """

    name: str
    dtype: np.dtype[Any]
    onnx: str
    config: str
    kind: str
    is_float: bool
    is_integer: bool
    is_number: bool
    is_bits: bool
    code: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.name,)  # there is one of each, in other processes as well


# NumPy's characters for C types, and those that `struct` has for the same sizes; only its "<" forms check floats.
_CODES = {code: code for code in "?bBhHiIqQefd"} | {"l": "q", "L": "Q"}


def _datatype(name: str, dtype: str, onnx: str, kind: str) -> Datatype:
    is_float, is_integer = kind == "float", kind == "integer"
    elements = np.dtype(dtype)
    is_bits = onnx == "bfloat16"
    code = "" if is_bits else _CODES.get(elements.char, "")
    is_number = is_float or is_integer
    onnx, config = f"tensor({onnx})", "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}"
    return Datatype(name, elements, onnx, config, kind, is_float, is_integer, is_number, is_bits, code)


DATATYPES = {
    name: _datatype(name, dtype, onnx, kind)
    for name, dtype, onnx, kind in (
        ("BOOL", "?", "bool", "bool"),
        ("UINT8", "u1", "uint8", "integer"),
        ("UINT16", "<u2", "uint16", "integer"),
        ("UINT32", "<u4", "uint32", "integer"),
        ("UINT64", "<u8", "uint64", "integer"),
        ("INT8", "i1", "int8", "integer"),
        ("INT16", "<i2", "int16", "integer"),
        ("INT32", "<i4", "int32", "integer"),
        ("INT64", "<i8", "int64", "integer"),
        ("FP16", "<f2", "float16", "float"),
        ("BF16", "<u2", "bfloat16", "float"),
        ("FP32", "<f4", "float", "float"),
        ("FP64", "<f8", "double", "float"),
        ("BYTES", "O", "string", "string"),
    )
}


def _named(name: str) -> Datatype:
    return DATATYPES[name]


BY_ONNX = {datatype.onnx: datatype for datatype in DATATYPES.values()}


@dataclass(slots=True, eq=False, repr=False)
class Tensor:
    """A named array with the datatype it has on the wire."""

    name: str
    datatype: Datatype
    array: Array


@lru_cache(maxsize=1024)
def is_countable(shape: Shape) -> bool:
    """NumPy counts elements and bytes in 63 bits, whatever an axis of length 0 makes of the product."""
    return (math.prod(shape) or math.prod(filter(None, shape))) < 2**58


@lru_cache(maxsize=1024)
def is_shape(lengths: Shape) -> bool:
    """Whether an array of NumPy's may have these lengths."""
    return len(lengths) <= MAX_DIMENSIONS and min(lengths, default=0) >= 0 and is_countable(lengths)


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """An uninitialised C-ordered array that starts on an `ALIGNMENT` boundary; BYTES arrays are plain ones."""
    if dtype.hasobject:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, *memory(math.prod(shape) * dtype.itemsize))


def memory(size: int) -> tuple[Array, int]:
    """Memory for `size` bytes, and the offset in it at which an `ALIGNMENT` boundary is."""
    if size > _SMALL:
        return _block(size)
    while True:
        try:
            return _cells.pop()
        except IndexError:
            block, offset = _block(_SMALL * _AT_A_TIME)
            _cells.extend([(block, offset + _SMALL * cell) for cell in range(_AT_A_TIME)])


def _block(size: int) -> tuple[Array, int]:
    block = np.empty(size + ALIGNMENT, np.uint8)
    return block, -addressof(c_char.from_buffer(block)) % ALIGNMENT  # type: ignore[arg-type]


def aligned(array: Array) -> Array:
    """`array` itself when it starts on an `ALIGNMENT` boundary and is C-ordered, else a copy that does."""
    if array.dtype.hasobject:
        return array
    if array.flags.c_contiguous and array.__array_interface__["data"][0] % ALIGNMENT == 0:
        return array
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def joined(feeds: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Arrays of the same names, those of each feed behind those of the one before along axis 0, aligned."""
    whole = {}
    for name, first in feeds[0].items():
        parts = [feed[name] for feed in feeds]
        target = empty((sum(map(len, parts)), *first.shape[1:]), first.dtype)
        whole[name] = np.concatenate(parts, out=target)
    return whole


def let_go(arrays: Iterable[Array]) -> None:
    """Frees the strings of large arrays that nobody needs any more, in a thread: together they would take as long as
    they took to make, and nobody else had the interpreter's lock meanwhile.
    """
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, len(flat) if array.dtype.hasobject else 0, _FREED):
            since = time.perf_counter()
            flat[start : start + _FREED] = None
            time.sleep(1.5 * (time.perf_counter() - since))


def from_bytes(datatype: Datatype, shape: Shape, raw: Buffer, what: str) -> Array:
    """The array whose elements are `raw`: little-endian, row-major, BYTES with 4-byte length prefixes.

    `what` names the tensor in messages ("input 'x' for model 'm'"). InvalidRequest when the size doesn't fit.
    """
    if datatype.dtype.hasobject:
        return _strings_from_bytes(shape, memoryview(raw), what)
    expected = math.prod(shape) * datatype.dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequest(
            f"input byte size mismatch for {what}. Expected {expected} bytes for shape {list(shape)} of "
            f"{datatype.name}, got {len(raw)}"
        )
    if datatype.name == "BOOL":
        _check_bools(raw, what)
    block, offset = memory(expected)
    # As bytes: the body may start them anywhere, and copying unaligned numbers one by one takes three times as long.
    memoryview(block)[offset : offset + expected] = raw  # type: ignore[arg-type]
    return np.ndarray(shape, datatype.dtype, block, offset)


def from_base64(strings: Array, what: str) -> Array:
    """The text that each string is in base64. InvalidRequest for what is not base64, or not of UTF-8."""
    texts = np.empty(strings.size, object)
    for index, string in enumerate(strings.reshape(-1)):
        try:
            raw = binascii.a2b_base64(string, strict_mode=True)
        except ValueError as exc:
            raise InvalidRequest(
                f"string {index} of {what} is not base64, as its 'content_type' says: {string[:40]!r}"
            ) from exc
        texts[index] = as_text(raw, index, what)
    return texts.reshape(strings.shape)


def to_bytes(tensor: Tensor) -> Buffer:
    """The tensor's binary form, the inverse of `from_bytes`; a view of the array's memory where it has that form."""
    if not tensor.datatype.dtype.hasobject:
        return memoryview(np.ascontiguousarray(tensor.array).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    encoded = [str(item).encode() for item in tensor.array.reshape(-1)]
    return b"".join(part for item in encoded for part in (struct.pack("<I", len(item)), item))


def bfloat16_from_float32(values: Array) -> Array:
    """Raw bits of the nearest bfloat16, ties to even; NaN stays NaN.

    Rounding as in Eigen's bfloat16: add 0x7FFF plus the lowest kept bit, then drop the lower half.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def float32_from_bfloat16(bits: Array) -> Array:
    """The float32 values whose upper halves are `bits`; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def readable(array: Array, datatype: Datatype) -> Array:
    """The values of an array in a type that NumPy has: float32 for BF16's bits, and what the array is for others."""
    return float32_from_bfloat16(array) if datatype.is_bits else array


def as_elements(values: Array, datatype: Datatype) -> Array:
    """Numbers as the elements of a datatype, rounded as NumPy does, to BF16's bits as Eigen does."""
    return bfloat16_from_float32(values.astype(np.float32)) if datatype.is_bits else values.astype(datatype.dtype)


def to_list(tensor: Tensor) -> Sequence[Any] | Array:
    """The tensor's elements, flat and row-major, in a form that orjson writes as a JSON array.

    Non-finite floats become `null` there; InvalidRequest for text that JSON can't hold.
    """
    datatype, flat = tensor.datatype, tensor.array.ravel()
    if datatype.code:
        return flat
    if datatype.is_bits:
        return float32_from_bfloat16(flat)
    return [_utf8(item, tensor.name) for item in flat]


def _utf8(item: Any, name: str) -> str:
    text = str(item)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"output '{name}' is not valid UTF-8; request it with binary_data=true") from exc
    return text


def _check_bools(raw: Buffer, what: str) -> None:
    if np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise InvalidRequest(f"a BOOL of {what} is a byte other than 0 and 1")


def _strings_from_bytes(shape: Shape, raw: memoryview, what: str) -> Array:
    expected = math.prod(shape)
    # Every element has a 4-byte prefix: a shape that promises more can't be met, whatever its size claims.
    if expected * 4 > len(raw):
        raise InvalidRequest(
            f"expected {expected} string(s) for {what}, but {len(raw)} bytes can't hold as many 4-byte lengths"
        )
    items, offset = [], 0
    for index in range(expected):
        item, offset = _string_at(raw, offset, index, what)
        items.append(item)
    if offset != len(raw):
        raise InvalidRequest(f"unexpected {len(raw) - offset} trailing bytes after {expected} string(s) of {what}")
    array = np.empty(expected, object)
    array[:] = items
    return array.reshape(shape)


def _string_at(raw: memoryview, offset: int, index: int, what: str) -> tuple[str, int]:
    start = offset + 4
    end = start + int.from_bytes(raw[offset:start], "little") if start <= len(raw) else len(raw) + 1
    if end > len(raw):
        raise InvalidRequest(f"string {index} of {what} is cut off: its 4-byte length exceeds the bytes that follow")
    return as_text(raw[start:end], index, what), end


def as_text(raw: Buffer, index: int, what: str) -> str:
    """The text of a tensor's string `index`. InvalidRequest when it is not UTF-8."""
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidRequest(
            f"string {index} of {what} is not valid UTF-8; ONNX strings are UTF-8 text, send other bytes as UINT8"
        ) from exc
