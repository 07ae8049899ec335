"""What an ONNX file says of itself and ONNX Runtime doesn't tell: opset, producer, ZipMap's labels.

Weights are skipped, not read, but for those of 8 bits.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inferry import numerics
from inferry.errors import InvalidModel
from inferry.numerics import Numerics
from inferry.protobuf import Value
from inferry.protobuf import fields as _fields
from inferry.protobuf import integers as _integers
from inferry.protobuf import text as _text

# Field numbers of onnx.proto3.
_MODEL_PRODUCER, _MODEL_PRODUCER_VERSION, _MODEL_GRAPH, _MODEL_OPSETS = 2, 3, 7, 8
_GRAPH_NODES, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 1, 11, 12
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_SHAPE = 2
_NODE_OUTPUTS, _NODE_OP_TYPE, _NODE_ATTRIBUTES = 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS = 1, 8, 9
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_NOTHING = memoryview(b"")


@dataclass(slots=True)
class ModelFile:
    """`opsets` by operator domain ("" is ONNX's own), `labels` by the name of a ZipMap node's output.

    `unranked`: the graph's inputs and outputs whose shape isn't stated; ONNX Runtime shows them as scalars.
    """

    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    numerics: Numerics = field(default_factory=Numerics)
    unranked: set[str] = field(default_factory=set)


def read(path: Path) -> ModelFile:
    """The facts of the ONNX file at `path`. InvalidModel when it isn't protobuf."""
    try:
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        facts = _model(view)
        facts.numerics = numerics.read(view)
        return facts
    except OSError as exc:
        raise InvalidModel(f"{path.name} can't be read: {exc.strerror}") from exc
    except (IndexError, ValueError, TypeError) as exc:
        raise InvalidModel(f"{path.name} is not an ONNX file: {exc or 'it ends too early'}") from exc


def _model(view: memoryview) -> ModelFile:
    facts, version = ModelFile(), ""
    for number, value in _fields(view):
        if number == _MODEL_PRODUCER:
            facts.producer = _text(value)
        elif number == _MODEL_PRODUCER_VERSION:
            version = _text(value)
        elif number == _MODEL_OPSETS:
            opset = dict(_fields(value))
            facts.opsets[_text(opset.get(_OPSET_DOMAIN, _NOTHING))] = int(opset.get(_OPSET_VERSION, 0))
        elif number == _MODEL_GRAPH:
            facts.labels = dict(_zipmaps(value))
            facts.unranked = set(_unranked(value))
    facts.producer = f"{facts.producer} {version}".strip()
    return facts


def _zipmaps(graph: Value) -> Iterator[tuple[str, list[str]]]:
    for number, node in _fields(graph):
        if number == _GRAPH_NODES:
            parts = list(_fields(node))
            if any(key == _NODE_OP_TYPE and _text(value) == "ZipMap" for key, value in parts):
                output = next((_text(value) for key, value in parts if key == _NODE_OUTPUTS), "")
                yield (
                    output,
                    [label for key, value in parts if key == _NODE_ATTRIBUTES for label in _labels(value)],
                )


def _unranked(graph: Value) -> Iterator[str]:
    for number, info in _fields(graph):
        if number in (_GRAPH_INPUTS, _GRAPH_OUTPUTS):
            parts = dict(_fields(info))
            tensor = dict(_fields(parts.get(_VALUE_TYPE, _NOTHING))).get(_TYPE_TENSOR)
            if tensor is not None and _TENSOR_SHAPE not in dict(_fields(tensor)):
                yield _text(parts.get(_VALUE_NAME, _NOTHING))


def _labels(attribute: Value) -> list[str]:
    parts = list(_fields(attribute))
    if not any(_text(value).startswith("classlabels_") for key, value in parts if key == _ATTRIBUTE_NAME):
        return []
    labels = [_text(value) for key, value in parts if key == _ATTRIBUTE_STRINGS]
    for key, value in parts:
        if key == _ATTRIBUTE_INTS:
            labels += [str(number) for number in _integers(value)]
    return labels
