"""Plain values in the objects of JSON lines, a text or a number for each input or column, as arrays of all rows."""

from collections.abc import Collection, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from inferry.jobs.formats.casting import cast
from inferry.protocol.signature import Feed, TensorSpec, fits
from inferry.protocol.tensors import Array, Shape, aligned

Members: TypeAlias = tuple[str, ...]

# What JSON gives for the values of each kind. A float may be missing.
_TYPES: dict[str, set[type]] = {
    "float": {float, int, bool, type(None)},
    "integer": {int, bool},
    "bool": {bool},
    "string": {str},
}


class PlainColumns:
    """The inputs of objects that hold one plain value in each of the members that the inputs are in."""

    def __init__(self, inputs: Sequence[tuple[Members, TensorSpec]], others: Collection[str]) -> None:
        """`others`: members that make another row of an object."""
        self._inputs = [(names, spec, _row(names, spec)) for names, spec in inputs]
        self._others = frozenset(others)

    def feed(self, objects: Sequence[Any]) -> Feed | None:
        """The inputs of all rows; None when one needs a look."""
        try:
            if not all(map(self._others.isdisjoint, objects)):
                return None
            return {spec.name: _array(objects, names, spec, row) for names, spec, row in self._inputs}
        except (KeyError, TypeError, OverflowError):
            return None


def _row(names: Members, spec: TensorSpec) -> Shape | None:
    """The shape of a row of the values of these members, None when there is none."""
    if not spec.is_fixed and len(names) == 1:  # a value that is missing would be refused
        return None if spec.datatype.is_float else _fitted((), spec)
    return _fitted((len(names),) if len(names) > 1 else (), spec)


def _fitted(shape: Shape, spec: TensorSpec) -> Shape | None:
    row = spec.fitted(shape)
    return row if row is not None and (spec.shape == () or fits((1, *row), spec.shape)) else None


def _array(objects: Sequence[Any], names: Members, spec: TensorSpec, row: Shape | None) -> Array:
    """An input. KeyError, TypeError or OverflowError for values that are something else."""
    found: Any = map(itemgetter(*names), objects)
    values = list(chain.from_iterable(found) if len(names) > 1 else found)
    datatype = spec.datatype
    if row is None or not set(map(type, values)) <= _TYPES[datatype.kind]:
        raise TypeError(spec.name)
    array = np.array(values, np.float64 if datatype.is_float else datatype.dtype)
    array, lost = cast(array, datatype, spec.name)
    if lost is not None:
        raise OverflowError(spec.name)
    return aligned(array.reshape(len(objects), *row))
