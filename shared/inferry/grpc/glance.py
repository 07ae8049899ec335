"""What a large ModelInferRequest says in its first fields, without a message made of it.

Two bytes of an empty input become a hundred of protobuf's memory, and all of a message is made while nobody else has
the interpreter's lock: what has too many parts is refused before, and what is not only numbers goes to another process.
"""

from collections.abc import Iterator
from typing import NamedTuple

from inferry.errors import InvalidRequest
from inferry.grpc.messages import ModelInferRequest, no_message
from inferry.protocol.tensors import MAX_DIMENSIONS
from inferry.runtime import protobuf

# As many fields and parameters a request and its inputs and outputs may have together, and as long a shape may be: each
# number takes ten bytes at most.
_FIELDS, _SHAPE = 4096, 10 * MAX_DIMENSIONS

_REQUEST = ModelInferRequest.DESCRIPTOR.fields_by_name
_NAME, _VERSION = _REQUEST["model_name"].number, _REQUEST["model_version"].number
_INPUTS, _OUTPUTS = _REQUEST["inputs"].number, _REQUEST["outputs"].number
_INPUT = _REQUEST["inputs"].message_type.fields_by_name
_DATATYPE, _DIMENSIONS, _CONTENTS = (_INPUT[name].number for name in ("datatype", "shape", "contents"))


class Glance(NamedTuple):
    """The model that a message is for, and whether its inputs are raw numbers, which take no time to read."""

    model: str
    version: str
    is_raw: bool


def glance(data: bytes) -> Glance:
    """Of a message of any size. InvalidRequest when it is none, or has more parts than any request."""
    model, version, raw = "", "", True
    try:
        for count, (inside, number, value) in enumerate(_fields(memoryview(data))):
            if count >= _FIELDS:
                raise InvalidRequest(f"the request has more than {_FIELDS} fields, in inputs, outputs and parameters")
            if inside == _INPUTS:
                if number == _DIMENSIONS and isinstance(value, memoryview) and len(value) > _SHAPE:
                    raise InvalidRequest(f"an input's shape has more than {MAX_DIMENSIONS} dimensions")
                if number == _CONTENTS or (number == _DATATYPE and protobuf.text(value) == "BYTES"):
                    raw = False
            elif not inside and number == _NAME:
                model = protobuf.text(value)
            elif not inside and number == _VERSION:
                version = protobuf.text(value)
    except (IndexError, TypeError, ValueError) as exc:
        raise no_message(ModelInferRequest) from exc
    return Glance(model, version, raw)


def _fields(message: memoryview) -> Iterator[tuple[int, int, protobuf.Value]]:
    """The fields of a message and those of its inputs and outputs, with the number of what they are in, or 0."""
    for number, value in protobuf.fields(message):
        yield 0, number, value
        if number in (_INPUTS, _OUTPUTS):
            for part in protobuf.fields(value):
                yield number, *part
