"""Outputs as the bytes of an entry, and back."""

from collections.abc import Sequence

import orjson

from inferry.errors import InvalidRequest
from inferry.protocol.tensors import Array, Datatype, Tensor, from_bytes, is_shape, to_bytes

_LENGTH = 4


def encode(arrays: Sequence[Array], datatypes: Sequence[Datatype]) -> bytes:
    """The bytes of these outputs. ValueError for strings that are no text."""
    parts = [to_bytes(Tensor("", datatype, array)) for datatype, array in zip(datatypes, arrays, strict=True)]
    head = orjson.dumps([(array.shape, len(part)) for array, part in zip(arrays, parts, strict=True)])
    return b"".join((len(head).to_bytes(_LENGTH, "little"), head, *parts))


def decode(entry: bytes, datatypes: Sequence[Datatype]) -> list[Array]:
    """The outputs in an entry. ValueError where it is none of such outputs, however it came about."""
    content = memoryview(entry)
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    try:
        arrays = []
        for datatype, (lengths, size) in zip(datatypes, orjson.loads(content[_LENGTH:start]), strict=True):
            shape = tuple(lengths)
            if not is_shape(shape):
                raise ValueError(shape)
            arrays.append(from_bytes(datatype, shape, content[start : start + size], "a kept output"))
            start += size
    except (TypeError, InvalidRequest) as exc:
        raise ValueError("not an entry") from exc
    if start != len(content):
        raise ValueError("bytes behind an entry")
    return arrays
