"""Requests as bytes, for the tests of the protocol: the same document as each of the parsers gets to read it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from inferry.protocol import decoder, json_documents
from inferry.protocol.signature import Known
from inferry.protocol.tensors import Array
from inferry.protocol.types import InferRequest

# Which parser reads a document depends on its size and on what else it holds; what it says must not.
# A small one goes through orjson, a large one through simdjson, one with a NaN through json, and a large one with a
# bracket in a place where it doesn't count through simdjson and lists.
READERS = {
    "small": ("", ""),
    "large": (" " * json_documents.SMALL, ""),
    "token": ("", '"other":NaN,'),
    "bracket": (" " * json_documents.SMALL, '"other":"[",'),
    "ignored array": (" " * json_documents.SMALL, '"other":[[1],[]],'),
}


def document(members: str, reader: str = "small") -> bytes:
    """The JSON object with `members`, in the form that is for this reader."""
    padding, other = READERS[reader]
    return f"{padding}{{{other}{members}}}".encode()


def member(datatype: str, shape: Sequence[Any] | str, data: str, name: str = "x") -> str:
    """An input object whose data is JSON text."""
    shape = shape if isinstance(shape, str) else json.dumps(list(shape))
    return f'{{"name":"{name}","shape":{shape},"datatype":"{datatype}","data":{data}}}'


def with_data(datatype: str, shape: Sequence[Any] | str, data: str, reader: str = "small") -> bytes:
    """A request with one input, `x`, whose data is JSON text."""
    return document(f'"inputs":[{member(datatype, shape, data)}]', reader)


# Of model "m", which has more inputs and outputs than any request of the tests.
MANY = tuple(f"tensor {number}" for number in range(1000))
KNOWN = Known("m", MANY, MANY)


def decode(body: bytes, header_length: int | str | None = None, known: Known = KNOWN) -> InferRequest:
    """What `body` says; a request for model "m"."""
    return decoder.decode(body, None if header_length is None else str(header_length).encode(), known)


def arrays(request: InferRequest) -> dict[str, Array]:
    """The request's inputs by name."""
    return {name: tensor.array for name, tensor in request.inputs.items()}


def same(left: Array, right: Array) -> bool:
    """The same dtype, shape and values, the sign of zero included; NaN is NaN."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return left.tolist() == right.tolist()
    signs = np.signbit(left) == np.signbit(right)
    return bool(np.array_equal(left, right, equal_nan=True) and np.all(signs | np.isnan(left)))


def as_json(value: Mapping[str, Any]) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
