"""Tensor data in JSON: simdjson's buffers to arrays, without a Python object per element."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.tensors import Array, Datatype, Shape, bfloat16_from_float32, empty

MAX_DEPTH = 100


class Nesting:
    """Accounts for every `[` of a request, which proves the nesting of its tensors without looking at elements.

    simdjson flattens nested arrays and says only how many elements they held, so that `[[1], [2, 3, 4]]` looks like
    a 2x2 tensor. `regular` walks the arrays of a tensor but not their elements, and `arrays` counts what was walked:
    when the text holds no further `[`, there is no further array, and so no ragged one. Otherwise (a `[` in a string,
    an array in a member that we ignore) the caller decodes again, `thorough`.
    """

    def __init__(self, thorough: bool = False) -> None:
        self.arrays = 0
        self.thorough = thorough

    def accounts_for(self, text: bytes) -> bool:
        return bool(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("[")) == self.arrays)

    def regular(self, data: Any, shape: Shape) -> bool:
        """Whether `data` is flat, or nested exactly as `shape`."""
        if len(data) and _is_array(data[0]):
            return len(shape) > 1 and self._level(data, shape)
        self.arrays += 1
        return not (self.thorough and any(map(_is_array, data)))

    def _level(self, data: Any, shape: Shape) -> bool:
        self.arrays += 1
        if len(data) != shape[0]:
            return False
        if len(shape) > 1:
            return all(_is_array(item) and self._level(item, shape[1:]) for item in data)
        return not (self.thorough and any(map(_is_array, data)))


def _is_array(value: Any) -> bool:
    return isinstance(value, list) or hasattr(value, "as_buffer")


def to_array(data: Any, datatype: Datatype, shape: Shape, nesting: Nesting, what: str) -> Array:
    """The array of a tensor's `data`: a list, or simdjson's array; flat or nested as `shape`, row-major.

    `what` names the tensor in messages. InvalidRequest for elements that the datatype can't hold, a count that is
    not the product of `shape`, ragged data and nesting deeper than `MAX_DEPTH`.
    """
    if not _is_array(data):
        raise InvalidRequest(f"'data' of {what} must be an array, got {_kind(data)}")
    if len(shape) > MAX_DEPTH:
        raise InvalidRequest(f"{what} has {len(shape)} dimensions, more than {MAX_DEPTH}")
    flat = _flat(data, datatype, what)
    if len(flat) != math.prod(shape):
        raise InvalidRequest(
            f"unexpected number of elements for {what}: shape {list(shape)} takes {math.prod(shape)}, got {len(flat)}"
        )
    if len(flat) and not nesting.regular(data, shape):
        raise InvalidRequest(
            f"'data' of {what} is ragged: give its {len(flat)} elements as one flat array, "
            f"or nested as the shape {list(shape)}"
        )
    return _typed(flat, datatype, shape, what)


def _flat(data: Any, datatype: Datatype, what: str) -> Array | list[Any]:
    if hasattr(data, "as_buffer") and (datatype.is_float or datatype.is_integer):
        code, dtype = _buffer_type(datatype)
        try:
            return np.frombuffer(data.as_buffer(of_type=code), dtype)
        except (TypeError, ValueError):
            pass  # An element of another type, or out of the range: element by element, to name it or to take a null.
    return [_element(item, datatype, what) for item in _elements(data, what)]


def _buffer_type(datatype: Datatype) -> tuple[str, str]:
    if datatype.is_float:
        return "d", "f8"
    return ("u", "u8") if datatype.name == "UINT64" else ("i", "i8")


def _elements(data: Any, what: str, depth: int = 1) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"'data' of {what} is nested more than {MAX_DEPTH} deep")
    for item in data:
        if _is_array(item):
            yield from _elements(item, what, depth + 1)
        else:
            yield item


def _element(item: Any, datatype: Datatype, what: str) -> Any:
    if datatype.is_float:
        if item is None:
            return math.nan
        valid = isinstance(item, int | float) and not isinstance(item, bool)
    elif datatype.is_integer:
        valid = isinstance(item, int) and not isinstance(item, bool)
    else:
        valid = isinstance(item, bool if datatype.name == "BOOL" else str)
    if not valid:
        raise InvalidRequest(f"'data' of {what} must hold {_wanted(datatype)}, got {_kind(item)}")
    return item


def _wanted(datatype: Datatype) -> str:
    if datatype.is_float:
        return f"numbers or null for {datatype.name}"
    if datatype.is_integer:
        return f"integers for {datatype.name}"
    return "true and false for BOOL" if datatype.name == "BOOL" else "strings for BYTES"


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    return "an array" if _is_array(value) else "an object"


def _typed(flat: Array | list[Any], datatype: Datatype, shape: Shape, what: str) -> Array:
    array = empty(shape, datatype.dtype)
    target = array.reshape(-1)
    if datatype.is_integer:
        _check_range(flat, datatype, what)
        target[:] = flat
    elif datatype.is_float:
        _store_floats(target, flat, datatype, what)
    else:
        target[:] = flat
    return array


def _check_range(flat: Array | list[Any], datatype: Datatype, what: str) -> None:
    limits = np.iinfo(datatype.dtype)
    if not len(flat):
        return
    low, high = (min(flat), max(flat)) if isinstance(flat, list) else (flat.min(), flat.max())
    if low < limits.min or high > limits.max:
        worst = low if low < limits.min else high
        raise InvalidRequest(f"{worst} is out of range for {what}: {datatype.name} holds {limits.min} to {limits.max}")


def _store_floats(target: Array, flat: Array | list[Any], datatype: Datatype, what: str) -> None:
    try:
        with np.errstate(over="raise"):
            if datatype.name == "BF16":
                target[:] = bfloat16_from_float32(np.asarray(flat, np.float64).astype(np.float32))
            else:
                target[:] = flat
    except (FloatingPointError, OverflowError) as exc:
        raise InvalidRequest(f"a number is out of range for {what}: {datatype.name} can't hold it") from exc
