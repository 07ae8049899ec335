"""Files in NumPy's NPY format, whose headers are believed only as far as what is behind them bears them out.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import math
from collections.abc import Callable
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from inferry.errors import InferryError, InvalidFile
from inferry.protocol.tensors import MAX_DIMENSIONS, Array, Buffer, Shape, is_countable


class Header(NamedTuple):
    """What is behind it: `by_column` says in Fortran's order, `offset` in bytes where it starts."""

    shape: Shape
    by_column: bool
    dtype: "np.dtype[Any]"
    offset: int


def read_header(file: BinaryIO, size: int, what: str) -> Header:
    """The header of `file`, which has `size` bytes. InvalidFile when it is none, or not of what is behind it.

    `what` names the file in messages.
    """
    try:
        shape, by_column, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        offset = file.tell()
    except InferryError:
        raise  # the store's
    except Exception as exc:  # NumPy evaluates the header, which may raise anything
        raise InvalidFile(f"{what} is not an NPY file: its header can't be read") from exc
    _check_dtype(dtype, what)
    _check_shape(shape, what)
    expected, found = math.prod(shape) * dtype.itemsize, size - offset
    if found != expected:
        raise InvalidFile(
            f"{what} is {'cut off' if found < expected else 'longer than its header says'}: {dtype!s:.80} "
            f"{list(shape)} has {expected} bytes, {found} are behind the header"
        )
    return Header(shape, by_column, dtype, offset)


def read_array(content: Buffer, what: str) -> Array:
    """The array in a file's `content`, whose memory it shares. InvalidFile as `read_header`."""
    header = read_header(io.BytesIO(content), len(content), what)
    order: Literal["F", "C"] = "F" if header.by_column else "C"
    return np.ndarray(header.shape, header.dtype, content, header.offset, order=order)


def _check_dtype(dtype: "np.dtype[Any]", what: str) -> None:
    if dtype.hasobject:
        raise InvalidFile(f"{what} holds Python objects, which are not read: save numbers or text")
    if not dtype.itemsize or dtype.subdtype:
        raise InvalidFile(f"the header of {what} names elements of {dtype!s:.80}, which no array can have")


def _check_shape(shape: Any, what: str) -> None:
    is_shape = isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)
    if not is_shape or len(shape) > MAX_DIMENSIONS or not is_countable(shape):
        raise InvalidFile(f"the header of {what} names the shape {shape!r:.80}, which no array can have")


def _read_header_3_0(file: BinaryIO) -> tuple[Shape, bool, "np.dtype[Any]"]:
    """As 2.0, whose text is Latin-1: here it is UTF-8, which names of fields may need."""
    shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.names:
        dtype.names = tuple(name.encode("latin-1").decode() for name in dtype.names)
    return shape, by_column, dtype


_HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): _read_header_3_0,
}
