"""Outputs of an ONNX graph under other names: exporters call them after a node, as `linear_13`."""

from collections.abc import Mapping

from inferry.errors import InvalidRequest
from inferry.runtime.protobuf import Value, encoded, fields, spans, text

# Of onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_NODES, _GRAPH_OUTPUTS = 1, 12
_VALUE_NAME = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE = 1, 2, 4


def renamed(model: bytes, names: Mapping[str, str]) -> bytes:
    """The ModelProto with an Identity behind each output that gets another name, which ONNX Runtime removes again.

    InvalidRequest when there is no such output.
    """
    parts: list[bytes | memoryview] = []
    for number, value, span in spans(memoryview(model)):
        parts.append(encoded(number, _graph(value, names)) if number == _MODEL_GRAPH else span)
    return b"".join(parts)


def outputs(model: bytes) -> list[str]:
    """The names of the graph's outputs."""
    graphs = [value for number, value in fields(memoryview(model)) if number == _MODEL_GRAPH]
    return [_name(value) for graph in graphs for number, value in fields(graph) if number == _GRAPH_OUTPUTS]


def _graph(graph: Value, names: Mapping[str, str]) -> bytes:
    if not isinstance(graph, memoryview):
        raise TypeError("a number where a graph was expected")
    parts: list[bytes | memoryview] = []
    added: list[bytes] = []
    for number, value, span in spans(graph):
        name = _name(value) if number == _GRAPH_OUTPUTS else ""
        if name not in names:
            parts.append(span)
            continue
        others = [part for field, _, part in spans(_message(value)) if field != _VALUE_NAME]
        new = names[name].encode()
        parts.append(encoded(number, b"".join([encoded(_VALUE_NAME, new), *others])))
        node = (encoded(_NODE_INPUT, name.encode()), encoded(_NODE_OUTPUT, new), encoded(_NODE_OP_TYPE, b"Identity"))
        added.append(encoded(_GRAPH_NODES, b"".join(node)))
    return b"".join([*parts, *added])


def _message(value: Value) -> memoryview:
    if not isinstance(value, memoryview):
        raise TypeError("a number where a message was expected")
    return value


def _name(value: Value) -> str:
    return next((text(part) for number, part in fields(value) if number == _VALUE_NAME), "")


def check(names: Mapping[str, str], found: list[str]) -> None:
    """InvalidRequest when one of the old names is no output, or a new one is another's."""
    if unknown := [name for name in names if name not in found]:
        raise InvalidRequest(f"--rename: there is no output '{unknown[0]}'; the outputs are {', '.join(found)}")
    after = [names.get(name, name) for name in found]
    if len(set(after)) != len(after):
        raise InvalidRequest(f"--rename gives two outputs one name: {', '.join(after)}")
