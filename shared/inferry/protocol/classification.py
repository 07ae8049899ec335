"""Triton's classification extension: an output's k best classes as `value:index[:label]` strings."""

import math
from collections.abc import Sequence

import numpy as np

from inferry.errors import InvalidRequest
from inferry.protocol.tensors import DATATYPES, Array, Tensor
from inferry.protocol.types import InferResponse

MAX_CLASSES = 1_000_000


def applied(response: InferResponse) -> list[Tensor]:
    """The outputs of a response, those that are to be said by class so."""
    classes = response.classes or {}
    return [top(tensor, *classes[tensor.name]) if tensor.name in classes else tensor for tensor in response.outputs]


def top(tensor: Tensor, k: int, batched: bool, labels: Sequence[str]) -> Tensor:
    """BYTES of shape [B, k] for a batched output, [k] otherwise, best first; equal values in the order of their index.

    A row is all of an output's elements but for axis 0 of a batched one.
    """
    datatype, array = tensor.datatype, tensor.array
    if not (datatype.is_integer or datatype.name in ("FP32", "FP64")):
        raise InvalidRequest(
            f"class result not available for output '{tensor.name}' due to unsupported type '{datatype.name}'"
        )
    classes = math.prod(array.shape[1:]) if batched else array.size
    rows = array.reshape(len(array) if batched else 1, classes)
    if classes > MAX_CLASSES:
        raise InvalidRequest(f"output '{tensor.name}' has {classes} classes, more than {MAX_CLASSES}")
    k = min(k, classes)
    result = np.empty((len(rows), k), object)
    for index, row in enumerate(rows):
        result[index] = [_text(row, position, labels) for position in _best(row, k)]
    return Tensor(tensor.name, DATATYPES["BYTES"], result if batched else result[0])


def _best(row: Array, k: int) -> Array:
    if row.dtype.kind == "f":
        return np.argsort(-row, kind="stable")[:k]  # NaN comes last
    # Stable and descending: sort the reversed row upwards, and read it backwards.
    order = len(row) - 1 - np.argsort(row[::-1], kind="stable")[::-1]
    return order[:k]


def _text(row: Array, index: int, labels: Sequence[str]) -> str:
    value = row[index]
    text = f"{value:.6f}" if row.dtype.kind == "f" else str(value)
    return f"{text}:{index}:{labels[index]}" if index < len(labels) else f"{text}:{index}"
