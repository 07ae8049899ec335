"""Arrays from files to a model's datatypes: every value as it is, or its row is refused; none is wrapped or cut."""

from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.protocol.tensors import Array, Datatype, as_elements, readable

# NumPy's kinds of numbers that may become a datatype of each kind.
_WORDS = {
    "U": "text",
    "S": "bytes",
    "b": "true and false",
    "c": "complex numbers",
    "M": "dates and times",
    "m": "durations",
    "V": "objects",
    "O": "nothing, or values of several kinds",
}
_FROM = {"float": "fiub", "integer": "iubf", "bool": "b", "string": "OUT"}


def cast(values: Array, datatype: Datatype, what: str) -> tuple[Array, Array | None]:
    """`values` in the datatype's own dtype, and a mask of those that it can't hold, None when there are none.

    `what` names the values in messages. InvalidRequest when no value of this kind can be one of the datatype.
    """
    if values.dtype.kind not in _FROM[datatype.kind]:
        raise InvalidRequest(f"{what} holds {_words(values.dtype)}, but {datatype.name} is expected")
    if datatype.is_float:
        return _floats(values, datatype)
    if datatype.is_integer:
        return _integers(values, datatype)
    return values if values.dtype == datatype.dtype else values.astype(datatype.dtype), None


def _words(dtype: "np.dtype[Any]") -> str:
    """What values are, as people say it, and NumPy's word for it."""
    return f"{_WORDS.get(dtype.kind, 'numbers')} ({dtype})"


def _floats(values: Array, datatype: Datatype) -> tuple[Array, Array | None]:
    if values.dtype == datatype.dtype and not datatype.is_bits:
        return values, None
    with np.errstate(over="ignore"):
        narrow = as_elements(values, datatype)
    finite = np.isfinite(readable(narrow, datatype))
    if finite.all():
        return narrow, None
    lost = ~finite & np.isfinite(values)
    return narrow, lost if lost.any() else None


def _integers(values: Array, datatype: Datatype) -> tuple[Array, Array | None]:
    if values.dtype == datatype.dtype or not values.size or values.dtype.kind == "b":
        return values.astype(datatype.dtype, copy=False), None
    limits = np.iinfo(datatype.dtype)
    if values.dtype.kind == "f":
        lost = ~((np.trunc(values) == values) & (values >= float(limits.min)) & (values < float(limits.max) + 1))
        return np.where(lost, 0, values).astype(datatype.dtype), lost if lost.any() else None
    if values.min() >= limits.min and values.max() <= limits.max:
        return values.astype(datatype.dtype), None
    # Python's numbers compare exactly with NumPy's of any size.
    lost = (values < limits.min) | (values > limits.max)
    return values.astype(datatype.dtype), lost
