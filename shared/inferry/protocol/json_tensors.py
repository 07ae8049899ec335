"""Tensor data in JSON: simdjson's buffers to arrays, without a Python object per element."""

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.protocol.json_documents import check_size, is_array, is_array_view
from inferry.protocol.tensors import MAX_DIMENSIONS, Array, Datatype, Shape, bfloat16_from_float32, empty, memory

_BUFFERS = {"float": ("d", np.dtype("f8")), "integer": ("i", np.dtype("i8")), "UINT64": ("u", np.dtype("u8"))}

# The Python types that JSON gives for the elements of each kind of tensor: exactly these, as bool is an int to Python.
_TYPES: dict[str, set[type]] = {"float": {float, int}, "integer": {int}, "bool": {bool}, "string": {str}}
_WANTED = {"float": "numbers or null", "integer": "integers", "bool": "true and false", "string": "strings"}


class Nesting:
    """Accounts for every `[` of a request, which proves the nesting of its tensors without looking at elements.

    simdjson flattens nested arrays and says only how many elements they held, so that `[[1], [2, 3, 4]]` looks like
    a 2x2 tensor. `regular` walks the arrays of a tensor but not their elements, and `arrays` counts what was walked:
    when the text holds no further `[`, there is no further array, and so no ragged one. Otherwise (a `[` in a string,
    an array in a member that we ignore) the caller decodes again from lists.
    """

    def __init__(self, text: bytes = b"", truths: bool = True) -> None:
        """`text` is the request's JSON; `truths`: whether it may hold true or false, which are numbers to Python."""
        self.arrays = 0
        self.truths = truths
        self._text = text

    def complete(self) -> bool:
        """Whether every `[` of the text was walked; looks no further than to the first that was not."""
        text, position = self._text, -1
        for _ in range(self.arrays):
            position = text.find(b"[", position + 1)
            if position < 0:
                return False
        return text.find(b"[", position + 1) < 0

    def listed(self, data: Any, shape: Shape, what: str) -> list[Any]:
        """`data` as a list, unless that is ragged or too large."""
        if not self.regular(data, shape):
            raise _ragged(None, shape, what)
        check_size(self._text)
        values: list[Any] = data.as_list()
        return values

    def regular(self, data: Any, shape: Shape) -> bool:
        """Whether `data` is flat, or nested exactly as `shape`, as far as the arrays walked tell."""
        if len(data) and is_array_view(data[0]):
            return len(shape) > 1 and self._level(data, shape)
        self.arrays += 1
        return True

    def _level(self, data: Any, shape: Shape) -> bool:
        self.arrays += 1
        if len(data) != shape[0]:
            return False
        if len(shape) == 1:
            return True
        return all(is_array_view(item) and self._level(item, shape[1:]) for item in data)


def to_array(data: Any, datatype: Datatype, shape: Shape, nesting: Nesting, what: str) -> Array:
    """The array of a tensor's `data`: a list, or simdjson's array; flat or nested as `shape`, row-major.

    `what` names the tensor in messages. InvalidRequest for elements that the datatype can't hold, a count that is
    not the product of `shape`, ragged data and more than `MAX_DIMENSIONS` dimensions.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(f"{what} has {len(shape)} dimensions, more than {MAX_DIMENSIONS}")
    if isinstance(data, list):
        return _from_list(data, datatype, shape, nesting, what)
    if not is_array_view(data):
        raise InvalidRequest(f"'data' of {what} must be an array, got {kind(data)}")
    flat = _buffer(data, datatype)
    if flat is None:
        return _from_list(nesting.listed(data, shape, what), datatype, shape, nesting, what)
    if len(flat) != math.prod(shape):
        raise _miscounted(len(flat), shape, what)
    if not nesting.regular(data, shape):
        raise _ragged(len(flat), shape, what)
    return _stored(flat, datatype, shape, what)


def _buffer(data: Any, datatype: Datatype) -> Array | None:
    """simdjson's buffer of numbers; None for other datatypes, and when an element is not of the kind it should be."""
    if not datatype.is_number:
        return None
    code, dtype = _BUFFERS.get(datatype.name, _BUFFERS[datatype.kind])
    try:
        return np.frombuffer(data.as_buffer(of_type=code), dtype)
    except (TypeError, ValueError):
        return None


def _from_list(data: list[Any], datatype: Datatype, shape: Shape, nesting: Nesting, what: str) -> Array:
    if datatype.is_number and datatype.code and not nesting.truths and len(data) == math.prod(shape):
        try:  # `struct` refuses all that is not a number in range, and what follows says why
            return _packed(data, datatype, shape)
        except (struct.error, OverflowError):
            pass
    if not set(map(type, data)) <= _TYPES[datatype.kind]:
        data = _elements(data, datatype, shape, what)
    if len(data) != math.prod(shape):
        raise _miscounted(len(data), shape, what)
    if not datatype.code:
        return _stored(data, datatype, shape, what)
    try:
        return _packed(data, datatype, shape)
    except (struct.error, OverflowError) as exc:
        if datatype.is_integer:
            _check_range(data, datatype, what)
        raise _overflow(datatype, what) from exc


def _packed(data: list[Any], datatype: Datatype, shape: Shape) -> Array:
    """An array of as many elements; `struct` checks their range as it stores them."""
    count, dtype = len(data), datatype.dtype
    block, offset = memory(count * dtype.itemsize)
    struct.pack_into(f"<{count}{datatype.code}", block, offset, *data)  # type: ignore[arg-type]
    return np.ndarray(shape, dtype, block, offset)


def _elements(data: list[Any], datatype: Datatype, shape: Shape, what: str) -> list[Any]:
    """The elements of a list that is nested, or holds null for NaN; InvalidRequest when they are of a wrong type."""
    flat = list(_flattened(data, shape, what)) if list in map(type, data) else data
    others = set(map(type, flat)) - _TYPES[datatype.kind]
    if not others:
        return flat
    if not datatype.is_float or others != {type(None)}:
        wrong = kind(
            next(item for item in flat if type(item) in others and (item is not None or not datatype.is_float))
        )
        raise InvalidRequest(f"{what} must hold {_WANTED[datatype.kind]} for {datatype.name}, got {wrong}")
    return [math.nan if item is None else item for item in flat]


def _flattened(data: list[Any], shape: Shape, what: str, depth: int = 0) -> Iterator[Any]:
    """The elements of a list that is nested as `shape`."""
    if depth >= len(shape) or len(data) != shape[depth]:
        raise _ragged(None, shape, what)
    last = depth == len(shape) - 1
    for item in data:
        if isinstance(item, list) == last:
            raise _ragged(None, shape, what)
        if last:
            yield item
        else:
            yield from _flattened(item, shape, what, depth + 1)


def _miscounted(count: int, shape: Shape, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"unexpected number of elements for {what}: shape {list(shape)} takes {math.prod(shape)}, got {count}"
    )


def _ragged(count: int | None, shape: Shape, what: str) -> InvalidRequest:
    elements = "its elements" if count is None else f"its {count} elements"
    return InvalidRequest(f"{what} is ragged: give {elements} as one flat array, or nested as the shape {list(shape)}")


def kind(value: Any) -> str:
    """The kind of a JSON value in words ("an array", "a string"), for messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    return "an array" if is_array(value) else "an object"


def _stored(flat: Array | list[Any], datatype: Datatype, shape: Shape, what: str) -> Array:
    array = empty(shape, datatype.dtype)
    target = array.reshape(-1)
    if datatype.is_integer:
        _check_range(flat, datatype, what)
    if not datatype.is_float:
        target[:] = flat
        return array
    try:
        with np.errstate(over="raise"):
            target[:] = _bfloat16(np.asarray(flat, np.float64).astype(np.float32)) if datatype.is_bits else flat
    except (FloatingPointError, OverflowError) as exc:
        raise _overflow(datatype, what) from exc
    return array


def _overflow(datatype: Datatype, what: str) -> InvalidRequest:
    return InvalidRequest(f"a number is out of range for {what}: {datatype.name} can't hold it")


def _check_range(flat: Array | list[Any], datatype: Datatype, what: str) -> None:
    if not len(flat):
        return
    limits = np.iinfo(datatype.dtype)
    low, high = (min(flat), max(flat)) if isinstance(flat, list) else (flat.min(), flat.max())
    if low < limits.min or high > limits.max:
        worst = low if low < limits.min else high
        raise InvalidRequest(f"{worst} is out of range for {what}: {datatype.name} holds {limits.min} to {limits.max}")


def _bfloat16(values: Array) -> Array:
    bits = bfloat16_from_float32(values)
    if np.any((bits & 0x7FFF == 0x7F80) & np.isfinite(values)):
        raise FloatingPointError("overflow")
    return bits
