"""Numbers of one datatype as those of another, when every one of them stays what it is."""

import numpy as np

from inferry.errors import InvalidRequest
from inferry.protocol.tensors import Array, Datatype, aligned, as_elements, readable


def exact(array: Array, given: Datatype, wanted: Datatype, what: str) -> Array:
    """The values of a `given` datatype in the `wanted` one. InvalidRequest names the first that it doesn't hold.

    `what` says in messages what was sent and what was expected.
    """
    values = readable(array, given)
    with np.errstate(over="ignore", invalid="ignore"):
        converted = as_elements(values, wanted)
        lost = np.flatnonzero(~_same(values, readable(converted, wanted)))
    if lost.size:
        value = values.reshape(-1)[lost[0]]
        raise InvalidRequest(
            f"{what}, which can't hold {value!s} (at {_place(values, int(lost[0]))}) as it is: send {wanted.name}"
        )
    return aligned(converted)


def _same(values: Array, converted: Array) -> Array:
    """Where both are equal; a cast that wrapped around or rounded doesn't lead back to where it came from."""
    if values.dtype.kind == converted.dtype.kind == "f":
        wider = np.promote_types(values.dtype, converted.dtype)
        return _equal(values.astype(wider), converted.astype(wider))
    if converted.dtype.kind == "f":
        return _fits(converted, values.dtype, values)
    if values.dtype.kind == "f":
        return _fits(values, converted.dtype, converted)
    back: Array = converted.astype(values.dtype)
    same: Array = (back == values) & ((converted < 0) == (values < 0))
    return same


def _fits(floats: Array, integers: "np.dtype[np.generic]", found: Array) -> Array:
    """Where a float is the integer that was `found`: within the type's bounds, which are powers of two, and whole."""
    limits, floats = np.iinfo(integers), floats.astype(np.float64)  # type: ignore[type-var]
    inside = (floats >= float(limits.min)) & (floats < 2.0 ** (limits.bits - (limits.min < 0)))
    back = np.where(inside, floats, 0).astype(integers)
    same: Array = inside & (back == found) & (floats == np.trunc(floats))
    return same


def _equal(one: Array, other: Array) -> Array:
    equal: Array = (one == other) | (np.isnan(one) & np.isnan(other))
    return equal


def _place(values: Array, flat: int) -> str:
    return str([int(index) for index in np.unravel_index(flat, values.shape)])
