"""What ONNX Runtime itself says of each request, and whether another answer is the same."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from tried import Array

Outputs: TypeAlias = Mapping[str, Any]
"""Output name to array, or to what JSON has of it."""

# Of the output's largest magnitude.
TOLERANCE, HALF_TOLERANCE = 1e-4, 1e-2


class Refused(Exception):
    """A door that gives no answer, with its reason."""


class Direct:
    """The model without inferry."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(path), options)
        self.names = [output.name for output in self._session.get_outputs()]
        self.free = all(spec.shape and not isinstance(spec.shape[0], int) for spec in self._session.get_inputs())

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self.names, self._session.run(None, dict(feed)), strict=True))


direct = cache(Direct)


def difference(outputs: Outputs, expected: Mapping[str, Array], *, rows: bool, whole: Sequence[str] = ()) -> str:
    """What is different, or nothing. With `rows` they are one row's: all but the `whole` ones have lost an axis."""
    if outputs.keys() != expected.keys():
        return f"outputs {list(outputs)} instead of {list(expected)}"
    found = (_of_one(name, outputs[name], array, rows and name not in whole) for name, array in expected.items())
    return next(filter(None, found), "")


def _of_one(name: str, value: Any, expected: Array, rows: bool) -> str:
    array = np.asarray(value, object) if expected.dtype.kind in "OU" else _numbers(value, expected.dtype)
    if array.shape not in _shapes(expected, rows):
        return f"{name} has the shape {list(array.shape)} instead of {list(expected.shape)}"
    if expected.dtype.kind != "f":
        return "" if np.array_equal(array.reshape(-1), expected.reshape(-1)) else f"{name} differs"
    got, wanted = array.reshape(-1).astype(np.float64), expected.reshape(-1).astype(np.float64)
    largest = np.max(np.abs(wanted[np.isfinite(wanted)]), initial=0)
    tolerance = HALF_TOLERANCE if expected.dtype.itemsize == 2 else TOLERANCE
    if np.allclose(got, wanted, rtol=0, atol=tolerance * largest, equal_nan=True):
        return ""
    return f"{name} differs by {np.nanmax(np.abs(got - wanted)):.3g} where its largest value is {largest:.3g}"


def _numbers(value: Any, dtype: np.dtype[Any]) -> Array:
    """JSON has null for NaN."""
    array = np.asarray(value)
    return np.asarray(value, np.float64) if array.dtype == object and dtype.kind == "f" else array


def _shapes(expected: Array, rows: bool) -> Sequence[tuple[int, ...]]:
    if not rows:
        return [expected.shape]
    return [expected.shape[1:], ()] if expected.size == 1 else [expected.shape[1:]]
