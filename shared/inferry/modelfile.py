"""What an ONNX file says of itself and ONNX Runtime doesn't tell: opset, producer, ZipMap's labels, external data.

Reads the protobuf wire format of onnx.proto3 directly: the onnx package would cost 100 ms and 20 MB to import for it.
Weights are skipped, not read.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = int | memoryview

_EMPTY = memoryview(b"")

# Field numbers of onnx.proto3.
_MODEL_PRODUCER, _MODEL_PRODUCER_VERSION, _MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 2, 3, 7, 8, 25
_GRAPH_NODES, _GRAPH_INITIALIZERS, _GRAPH_SPARSE = 1, 5, 15
_FUNCTION_NODES, _FUNCTION_ATTRIBUTES = 7, 11
_NODE_OUTPUTS, _NODE_OP_TYPE, _NODE_ATTRIBUTES = 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS = 1, 5, 6, 8, 9
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 10, 11, 22, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL, _TENSOR_DATA_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_EXTERNAL = 1
# Graphs in graphs; ONNX Runtime's own reader of protobuf stops at 100 messages in one another.
_DEEPEST = 50


@dataclass(slots=True)
class ModelFile:
    """`opsets` by operator domain ("" is ONNX's own), `labels` by the name of a ZipMap node's output.

    `locations`: the files that hold the tensors' external data, as the file names them, each once and sorted.
    `problem`: why it is no ONNX file; the rest is empty then.
    """

    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    locations: tuple[str, ...] = ()
    problem: str = ""


def read(path: Path) -> ModelFile:
    """The facts of the ONNX file at `path`, which nobody may change meanwhile. OSError."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size:
            return parse(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path.name)
    return parse(b"", path.name)


def parse(content: bytes | mmap.mmap, name: str) -> ModelFile:
    """The facts of an ONNX file's content; `name` is for messages."""
    if not content:
        return ModelFile(problem=f"{name} is not an ONNX file: it is empty")
    try:
        return _model(memoryview(content))
    except (IndexError, ValueError, TypeError) as exc:
        return ModelFile(problem=f"{name} is not an ONNX file: {exc or 'it ends too early'}")


def _model(view: memoryview) -> ModelFile:
    facts, version, locations = ModelFile(), "", set[str]()
    for number, value in _fields(view):
        if number == _MODEL_PRODUCER:
            facts.producer = _text(value)
        elif number == _MODEL_PRODUCER_VERSION:
            version = _text(value)
        elif number == _MODEL_OPSETS:
            opset = dict(_fields(value))
            facts.opsets[_text(opset.get(_OPSET_DOMAIN, _EMPTY))] = int(opset.get(_OPSET_VERSION, 0))
        elif number == _MODEL_GRAPH:
            facts.labels = dict(_zipmaps(value))
            locations.update(_in_graph(value))
        elif number == _MODEL_FUNCTIONS:
            locations.update(_in_function(value))
    facts.producer = f"{facts.producer} {version}".strip()
    facts.locations = tuple(sorted(locations))
    return facts


def _in_graph(graph: Value, depth: int = 0) -> Iterator[str]:
    """The locations of external data that a graph names, those of its nodes' tensors and graphs too."""
    for number, value in _fields(graph):
        if number == _GRAPH_NODES:
            yield from _in_node(value, depth)
        elif number == _GRAPH_INITIALIZERS:
            yield from _in_tensor([value])
        elif number == _GRAPH_SPARSE:
            yield from _in_sparse([value])


def _in_function(function: Value) -> Iterator[str]:
    for number, value in _fields(function):
        if number == _FUNCTION_NODES:
            yield from _in_node(value, 0)
        elif number == _FUNCTION_ATTRIBUTES:
            yield from _in_attribute(value, 0)


def _in_node(node: Value, depth: int) -> Iterator[str]:
    # Hardly any node has it, and a tree ensemble has millions of numbers to pass by.
    if not _mentions(node, b"location"):
        return
    for number, value in _fields(node):
        if number == _NODE_ATTRIBUTES:
            yield from _in_attribute(value, depth)


def _in_attribute(attribute: Value, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError(f"graphs in one another, more than {_DEEPEST} deep")
    tensor, sparse = [], []
    for number, value in _fields(attribute):
        if number == _ATTRIBUTE_TENSOR:
            tensor.append(value)
        elif number == _ATTRIBUTE_SPARSE:
            sparse.append(value)
        elif number == _ATTRIBUTE_TENSORS:
            yield from _in_tensor([value])
        elif number == _ATTRIBUTE_SPARSES:
            yield from _in_sparse([value])
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            yield from _in_graph(value, depth + 1)
    yield from _in_tensor(tensor)
    yield from _in_sparse(sparse)


def _in_sparse(pieces: Sequence[Value]) -> Iterator[str]:
    parts = [part for piece in pieces for part in _fields(piece)]
    for wanted in (_SPARSE_VALUES, _SPARSE_INDICES):
        yield from _in_tensor([value for number, value in parts if number == wanted])


def _in_tensor(pieces: Sequence[Value]) -> Iterator[str]:
    """Of a tensor in pieces: protobuf joins a message that is there several times where one is expected."""
    external, where = [], 0
    for piece in pieces:
        for number, value in _fields(piece):
            if number == _TENSOR_EXTERNAL:
                external.append(dict(_fields(value)))
            elif number == _TENSOR_DATA_LOCATION:
                where = int(value)
    if where & 0xFFFFFFFF != _EXTERNAL:  # an enumeration has 32 bits
        return
    for entry in external:
        if _text(entry.get(_ENTRY_KEY, _EMPTY)) == "location":
            yield _text(entry.get(_ENTRY_VALUE, _EMPTY))


def _mentions(message: Value, word: bytes) -> bool:
    return isinstance(message, memoryview) and word in bytes(message)


def _zipmaps(graph: Value) -> Iterator[tuple[str, list[str]]]:
    for number, node in _fields(graph):
        if number == _GRAPH_NODES and _mentions(node, b"ZipMap"):
            parts = list(_fields(node))
            if any(key == _NODE_OP_TYPE and _text(value) == "ZipMap" for key, value in parts):
                output = next((_text(value) for key, value in parts if key == _NODE_OUTPUTS), "")
                yield (
                    output,
                    [label for key, value in parts if key == _NODE_ATTRIBUTES for label in _labels(value)],
                )


def _labels(attribute: Value) -> list[str]:
    parts = list(_fields(attribute))
    if not any(_text(value).startswith("classlabels_") for key, value in parts if key == _ATTRIBUTE_NAME):
        return []
    labels = [_text(value) for key, value in parts if key == _ATTRIBUTE_STRINGS]
    for key, value in parts:
        if key == _ATTRIBUTE_INTS:
            labels += [str(number) for number in _integers(value)]
    return labels


def _integers(value: Value) -> Iterator[int]:
    if isinstance(value, int):
        yield _signed(value)
        return
    offset = 0
    while offset < len(value):
        number, offset = _varint(value, offset)
        yield _signed(number)


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _text(value: Value) -> str:
    return str(value, "utf-8") if isinstance(value, memoryview) else str(value)


def _fields(message: Value) -> Iterator[tuple[int, Value]]:
    """Field numbers and values of a message: https://protobuf.dev/programming-guides/encoding/."""
    if isinstance(message, int):
        raise TypeError("a number where a message was expected")
    offset, end = 0, len(message)
    while offset < end:
        key, offset = _varint(message, offset)
        wire, size = key & 7, 0
        if wire == 0:
            number, offset = _varint(message, offset)
            yield key >> 3, number
            continue
        if wire == 2:
            size, offset = _varint(message, offset)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {offset}")
        if offset + size > end:
            raise ValueError("it ends too early")
        yield key >> 3, message[offset : offset + size]
        offset += size


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[offset]
        offset += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, offset
        shift += 7
        if shift > 63:
            raise ValueError("a number of over 64 bits")
