"""The class names of outputs: whether those of a config.json fit a model, and which classes a response's values are."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from inferry.errors import InvalidModel
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import Array, Shape

# Integers that count something; those of quantised scores are shorter.
_INDICES = ("INT32", "INT64", "UINT32", "UINT64")
_SCORES = ("FP16", "FP32", "FP64", "INT8", "UINT8", "INT16", "UINT16")


class Classes(NamedTuple):
    """`labels` of an output's scores, in their order; `best` is the class of each row, or of each vector in it."""

    labels: dict[str, Sequence[str]]
    best: list[dict[str, Any]]


def check(labels: Mapping[str, Sequence[str]], signature: Signature, what: str, shared: bool) -> None:
    """InvalidModel when `labels` don't fit the outputs; those `shared` with other versions may name theirs too."""
    specs = signature.outputs
    unknown = [name for name in labels if name not in specs]
    if unknown and not (shared and labels.keys() & specs.keys()):
        raise InvalidModel(
            f"'labels' in config.json name output '{unknown[0]}', which {what} doesn't have; "
            f"its outputs are {', '.join(map(repr, specs))}"
        )
    for name in labels.keys() & specs.keys():
        width = len(specs[name].labels) or _width(specs[name].shape)
        if not are_indices(specs[name], len(labels[name])):
            _compare(name, len(labels[name]), width, what)


def check_run(labels: Mapping[str, Sequence[str]], signature: Signature, arrays: Sequence[Array], what: str) -> None:
    """The same for the outputs of a run, all of them: it tells how many scores there are where the file doesn't."""
    for (name, spec), array in zip(signature.outputs.items(), arrays, strict=True):
        if name in labels and spec.datatype.name in _SCORES:
            _compare(name, len(labels[name]), _width(array.shape), what)


def _compare(output: str, count: int, width: int, what: str) -> None:
    if count == 0 or width not in (count, -1):
        expected = f"{width} are expected, one for each of its values" if width != -1 else "one is needed at least"
        raise InvalidModel(f"'labels' in config.json have {count} names for output '{output}' of {what}: {expected}")


def are_indices(spec: TensorSpec, count: int) -> bool:
    """Whether an output's values are numbers of classes, of which there are `count`, and not a score for each."""
    return count > 0 and spec.datatype.name in _INDICES and _width(spec.shape) != count


def named(
    labels: Mapping[str, Sequence[str]], signature: Signature, arrays: Mapping[str, Array], rows: int
) -> Classes | None:
    """The classes in the outputs that have a row per row; None where no output has labels that fit it."""
    known: dict[str, Sequence[str]] = {}
    best: list[dict[str, Any]] = [{} for _ in range(rows)]
    for name, array in arrays.items():
        names = _best(signature.outputs[name], array, labels.get(name, ())) if array.shape[:1] == (rows,) else None
        if names is None:
            continue
        if not are_indices(signature.outputs[name], len(labels[name])):
            known[name] = labels[name]
        for row, value in zip(best, names.tolist(), strict=True):
            row[name] = value[0] if isinstance(value, list) and len(value) == 1 else value
    return Classes(known, best) if any(best) else None


def _best(spec: TensorSpec, array: Array, labels: Sequence[str]) -> Array | None:
    """The name of the best score of each vector, or of each index; None for what is neither of these labels."""
    names = np.array([*labels, None], object)
    if are_indices(spec, len(labels)):
        return names[np.where((array >= 0) & (array < len(labels)), array, len(labels)).astype(np.intp)]
    if not labels or spec.datatype.name not in (*_SCORES, *_INDICES) or array.ndim < 2:
        return None
    scores = array.reshape(_without_ones(array.shape))
    if scores.shape[-1] != len(labels):
        return None
    valid = scores == scores
    found = np.where(valid, scores, _least(scores.dtype)).argmax(-1)
    return names[np.where(valid.any(-1), found, len(labels))]


def _least(dtype: Any) -> Any:
    return dtype.type(-np.inf) if dtype.kind == "f" else np.iinfo(dtype).min


def _width(shape: Shape | None) -> int:
    """The scores of a vector, which is the last axis; -1 when it may have any length."""
    if shape is None:
        return -1
    return _without_ones(shape)[-1] if shape else 1


def _without_ones(shape: Shape) -> Shape:
    """Networks for images leave axes of their size behind the classes: [batch, 1000, 1, 1]."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
