"""An ONNX graph without what no run needs: the stack traces and remarks that exporters leave at every node.

They name files of the machine that trained the model, and are nine tenths of a small file of PyTorch's. The model's own
description and `metadata_props` stay: they are shown to clients.
"""

from collections.abc import Mapping
from typing import TypeAlias

from inferry.runtime.protobuf import Value, encoded, spans

# Of onnx.proto3: what is left out of a message, and the messages in it.
_Rule: TypeAlias = tuple[frozenset[int], Mapping[int, str]]
_RULES: dict[str, _Rule] = {
    "model": (frozenset(), {7: "graph", 25: "function"}),
    "graph": (frozenset({10, 16}), {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value"}),
    "node": (frozenset({6, 9}), {5: "attribute"}),
    "attribute": (frozenset({13}), {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"}),
    "function": (frozenset({8, 14}), {7: "node", 11: "attribute", 12: "value"}),
    "tensor": (frozenset({12, 16}), {}),
    "value": (frozenset({3, 4}), {}),
}
_DEEPEST = 100


def stripped(model: bytes) -> bytes:
    """The ModelProto without them. IndexError, ValueError and TypeError when it is none."""
    return _message(memoryview(model), "model", 0)


def _message(message: Value, kind: str, depth: int) -> bytes:
    if not isinstance(message, memoryview):
        raise TypeError("a number where a message was expected")
    if depth > _DEEPEST:
        raise ValueError(f"graphs within graphs, more than {_DEEPEST}")
    left_out, inner = _RULES[kind]
    parts: list[bytes | memoryview] = []
    for number, value, span in spans(message):
        if number in inner:
            parts.append(encoded(number, _message(value, inner[number], depth + 1)))
        elif number not in left_out:
            parts.append(span)
    return b"".join(parts)
