"""The ONNX file's answers beside those of where it comes from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from inferry.protocol.tensors import Array


class Compared(NamedTuple):
    """An output over all inputs: the largest `difference` as a share of the largest value, 0 where all is the same.

    `problem`: why it can't be the same at all.
    """

    output: str
    difference: float = 0.0
    problem: str = ""


def compare(ours: Sequence[Mapping[str, Array]], theirs: Sequence[Mapping[str, Array]]) -> list[Compared]:
    """Each output that both have, over the runs."""
    names = dict.fromkeys(name for run in theirs for name in run if name in ours[0])
    return [_worst([_compared(name, a[name], b[name]) for a, b in zip(ours, theirs, strict=True)]) for name in names]


def _worst(found: Sequence[Compared]) -> Compared:
    return next((each for each in found if each.problem), max(found, key=lambda each: each.difference))


def _compared(name: str, ours: Array, theirs: Array) -> Compared:
    if ours.size == theirs.size and ours.squeeze().shape == theirs.squeeze().shape:
        ours, theirs = ours.reshape(-1), theirs.reshape(-1)
    else:
        return Compared(name, problem=f"has the shape {list(ours.shape)}, and {list(theirs.shape)} at its origin")
    if theirs.dtype.kind == "b" and ours.dtype.kind == "i":  # classes that converters write as 0 and 1
        theirs = theirs.astype(ours.dtype)
    if ours.dtype.kind != "f" or theirs.dtype.kind not in "fiu":
        differ = int(np.count_nonzero(ours.astype(str) != theirs.astype(str)))
        return Compared(name, problem=f"has {differ} of {ours.size} other values" if differ else "")
    left, right = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(left) & np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        return Compared(name, problem="is not a number in other places")
    most = float(np.abs(left[finite] - right[finite]).max(initial=0))
    size = float(np.abs(right[finite]).max(initial=0))
    return Compared(name, most / size if size else most)
