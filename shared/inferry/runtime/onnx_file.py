"""What an ONNX file says of itself and ONNX Runtime doesn't tell: opset, producer, ZipMap's labels, external data.

Weights are skipped, not read, but for those of 8 bits.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inferry.runtime import numerics
from inferry.runtime.numerics import Numerics
from inferry.runtime.protobuf import Value, fields, integers, text

_EMPTY = memoryview(b"")

# Field numbers of onnx.proto3.
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_SHAPE = 2
_MODEL_PRODUCER, _MODEL_PRODUCER_VERSION, _MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 2, 3, 7, 8, 25
_GRAPH_NODES, _GRAPH_INITIALIZERS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_FUNCTION_NODES, _FUNCTION_ATTRIBUTES = 7, 11
_NODE_INPUTS, _NODE_OUTPUTS, _NODE_OP_TYPE, _NODE_ATTRIBUTES = 1, 2, 4, 5
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

    `unranked`: the graph's inputs and outputs whose shape isn't stated; ONNX Runtime shows them as scalars.
    `locations`: the files that hold the tensors' external data, as the file names them, each once and sorted.
    `sequences`: how many tensors a sequence has that a node makes of as many, by its name.
    `problem`: why it is no ONNX file; the rest is empty then.
    """

    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    numerics: Numerics = field(default_factory=Numerics)
    unranked: set[str] = field(default_factory=set)
    locations: tuple[str, ...] = ()
    sequences: dict[str, int] = field(default_factory=dict)
    problem: str = ""


def read(path: Path) -> ModelFile:
    """The facts of the ONNX file at `path`, which nobody may change meanwhile. OSError."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size:
            return parse(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path.name)
    return parse(b"", path.name)


def random_operators(onnx: Path | bytes) -> tuple[str, ...]:
    """The operators of an ONNX file, or its bytes, that give something else at each run. OSError.

    The file is one that could be read.
    """
    if isinstance(onnx, bytes):
        return numerics.random(memoryview(onnx))
    with onnx.open("rb") as file:
        return numerics.random(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def parse(content: bytes | mmap.mmap, name: str) -> ModelFile:
    """The facts of an ONNX file's content; `name` is for messages."""
    if not content:
        return ModelFile(problem=f"{name} is not an ONNX file: it is empty")
    try:
        view = memoryview(content)
        facts = _model(view)
        facts.numerics = numerics.read(view)
        return facts
    except (IndexError, ValueError, TypeError) as exc:
        return ModelFile(problem=f"{name} is not an ONNX file: {exc or 'it ends too early'}")


def _model(view: memoryview) -> ModelFile:
    facts, version, locations = ModelFile(), "", set[str]()
    for number, value in fields(view):
        if number == _MODEL_PRODUCER:
            facts.producer = text(value)
        elif number == _MODEL_PRODUCER_VERSION:
            version = text(value)
        elif number == _MODEL_OPSETS:
            opset = dict(fields(value))
            facts.opsets[text(opset.get(_OPSET_DOMAIN, _EMPTY))] = int(opset.get(_OPSET_VERSION, 0))
        elif number == _MODEL_GRAPH:
            facts.labels = dict(_zipmaps(value))
            facts.sequences = dict(_sequences(value))
            facts.unranked = set(_unranked(value))
            locations.update(_in_graph(value))
        elif number == _MODEL_FUNCTIONS:
            locations.update(_in_function(value))
    facts.producer = f"{facts.producer} {version}".strip()
    facts.locations = tuple(sorted(locations))
    return facts


def _in_graph(graph: Value, depth: int = 0) -> Iterator[str]:
    """The locations of external data that a graph names, those of its nodes' tensors and graphs too."""
    for number, value in fields(graph):
        if number == _GRAPH_NODES:
            yield from _in_node(value, depth)
        elif number == _GRAPH_INITIALIZERS:
            yield from _in_tensor([value])
        elif number == _GRAPH_SPARSE:
            yield from _in_sparse([value])


def _in_function(function: Value) -> Iterator[str]:
    for number, value in fields(function):
        if number == _FUNCTION_NODES:
            yield from _in_node(value, 0)
        elif number == _FUNCTION_ATTRIBUTES:
            yield from _in_attribute(value, 0)


def _in_node(node: Value, depth: int) -> Iterator[str]:
    # Hardly any node has it, and a tree ensemble has millions of numbers to pass by.
    if not _mentions(node, b"location"):
        return
    for number, value in fields(node):
        if number == _NODE_ATTRIBUTES:
            yield from _in_attribute(value, depth)


def _in_attribute(attribute: Value, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError(f"graphs in one another, more than {_DEEPEST} deep")
    tensor, sparse = [], []
    for number, value in fields(attribute):
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
    parts = [part for piece in pieces for part in fields(piece)]
    for wanted in (_SPARSE_VALUES, _SPARSE_INDICES):
        yield from _in_tensor([value for number, value in parts if number == wanted])


def _in_tensor(pieces: Sequence[Value]) -> Iterator[str]:
    """Of a tensor in pieces: protobuf joins a message that is there several times where one is expected."""
    external, where = [], 0
    for piece in pieces:
        for number, value in fields(piece):
            if number == _TENSOR_EXTERNAL:
                external.append(dict(fields(value)))
            elif number == _TENSOR_DATA_LOCATION:
                where = int(value)
    if where & 0xFFFFFFFF != _EXTERNAL:  # an enumeration has 32 bits
        return
    for entry in external:
        if text(entry.get(_ENTRY_KEY, _EMPTY)) == "location":
            yield text(entry.get(_ENTRY_VALUE, _EMPTY))


def _mentions(message: Value, word: bytes) -> bool:
    return isinstance(message, memoryview) and word in bytes(message)


def _zipmaps(graph: Value) -> Iterator[tuple[str, list[str]]]:
    for number, node in fields(graph):
        if number == _GRAPH_NODES and _mentions(node, b"ZipMap"):
            parts = list(fields(node))
            if any(key == _NODE_OP_TYPE and text(value) == "ZipMap" for key, value in parts):
                output = next((text(value) for key, value in parts if key == _NODE_OUTPUTS), "")
                yield (
                    output,
                    [label for key, value in parts if key == _NODE_ATTRIBUTES for label in _labels(value)],
                )


def _sequences(graph: Value) -> Iterator[tuple[str, int]]:
    for number, node in fields(graph):
        if number == _GRAPH_NODES and _mentions(node, b"SequenceConstruct"):
            parts = list(fields(node))
            if any(key == _NODE_OP_TYPE and text(value) == "SequenceConstruct" for key, value in parts):
                output = next((text(value) for key, value in parts if key == _NODE_OUTPUTS), "")
                yield output, sum(key == _NODE_INPUTS for key, _ in parts)


def _unranked(graph: Value) -> Iterator[str]:
    for number, info in fields(graph):
        if number in (_GRAPH_INPUTS, _GRAPH_OUTPUTS):
            parts = dict(fields(info))
            tensor = dict(fields(parts.get(_VALUE_TYPE, _EMPTY))).get(_TYPE_TENSOR)
            if tensor is not None and _TENSOR_SHAPE not in dict(fields(tensor)):
                yield text(parts.get(_VALUE_NAME, _EMPTY))


def _labels(attribute: Value) -> list[str]:
    parts = list(fields(attribute))
    if not any(text(value).startswith("classlabels_") for key, value in parts if key == _ATTRIBUTE_NAME):
        return []
    labels = [text(value) for key, value in parts if key == _ATTRIBUTE_STRINGS]
    for key, value in parts:
        if key == _ATTRIBUTE_INTS:
            labels += [str(number) for number in integers(value)]
    return labels
