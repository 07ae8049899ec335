"""What in a model's graph makes its results depend on the machine, read out of the ONNX file.

Two kinds are known. A tree ensemble adds up its trees in another order with another number of threads. And a product
of uint8 and int8 is added up in 16 bits by ONNX Runtime on x86 CPUs with AVX2 and without VNNI: two neighbouring
products of up to 255 * 127 don't fit, and saturate.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from inferry.runtime.protobuf import Value, fields, integers, text

# Field numbers of onnx.proto3.
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_FUNCTIONS = 1, 7, 25
_GRAPH_NODES, _GRAPH_INITIALIZERS, _GRAPH_INPUTS = 1, 5, 11
_FUNCTION_NODES = 7
_NODE_INPUTS, _NODE_OUTPUTS, _NODE_OP_TYPE, _NODE_ATTRIBUTES = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 1, 3, 5, 6, 11
_TENSOR_TYPE, _TENSOR_INTS, _TENSOR_NAME, _TENSOR_RAW = 2, 5, 8, 9
_UINT8, _INT8 = 2, 3

TREES = frozenset({"TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"})

# Operators that give something else at each run. Dropout does if it is told that it trains.
RANDOM = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Sampling"]
)
_DROPOUT, _TRAINING = "Dropout", 2
_RANDOM_SIGNS = (b"Random", b"Bernoulli", b"Multinomial", b"Sampling", b"Dropout")

# Operators that multiply 8-bit integers: where their activations and their weights stand among their inputs.
_PRODUCTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "ConvInteger": (1, (0,)),  # ONNX Runtime multiplies the weights by the activations
    "DynamicQuantizeLSTM": (0, (1, 2)),
    "DynamicQuantizeMatMul": (0, (1,)),
    "MatMulInteger": (0, (1,)),
    "MatMulIntegerToFloat": (0, (1,)),
    "QAttention": (0, (1,)),
    "QGemm": (0, (3,)),
    "QLinearConv": (0, (3,)),
    "QLinearMatMul": (0, (3,)),
}
# Those whose activations are floats, which they make uint8 of.
_DYNAMIC = ("DynamicQuantizeLSTM", "DynamicQuantizeMatMul")
# Those that find one scale for all that they are given.
_ONE_SCALE = frozenset((*_DYNAMIC, "DynamicQuantizeLinear"))
# Of floats that were dequantised just before: ONNX Runtime makes a product of integers of them.
_DEQUANTISED = ("Conv", "Gemm", "MatMul")
# What ONNX Runtime moves a dequantisation past.
_SHAPES = frozenset(
    ["Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split"]
) | {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
# Found somewhere in a node, or in a graph within it, before it is looked at: 3,000 nodes take 6 ms instead of 47.
_SIGNS = (b"TreeEnsemble", b"Quant", b"Integer", b"QLinear", b"QGemm", b"QAttention")
# protobuf's own limit.
_DEPTH = 100


class Numerics(NamedTuple):
    """The operators whose results depend on the machine.

    `trees` on the number of threads; `mixed`, products of uint8 and int8, on the kind of CPU, unless they are
    `widened`: ONNX Runtime can multiply uint8 by uint8 in their place. `dynamic` on the other rows of a run, which
    have one scale together.
    """

    trees: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    widened: bool = True
    dynamic: tuple[str, ...] = ()


class _Kind(NamedTuple):
    """What is known of a tensor of 8-bit integers: its element type, and whether two of its products may saturate.

    `floats`: it was dequantised.
    """

    element: int
    constant: bool = False
    wide: bool = True
    floats: bool = False


class _Node(NamedTuple):
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[Value]


def notes(numerics: Numerics, threads: int) -> list[str]:
    """What to know of a model before its results of two machines are compared; `threads` 0: the config names none."""
    found = []
    if numerics.trees and threads:
        names = ", ".join(numerics.trees)
        found.append(
            f"has the {threads} threads of its config.json: {names} gives other last digits with another number of them"
        )
    if numerics.mixed:
        there = "multiplied as uint8 by uint8 there: exact, and slower" if numerics.widened else "OTHER RESULTS there"
        found.append(
            f"multiplies uint8 by int8 ({', '.join(numerics.mixed)}), whose sums saturate on x86 CPUs with AVX2 and "
            f"without VNNI: {there}. Quantise its weights to uint8, or to 7 bits (reduce_range)"
        )
    return found


def read(model: Value) -> Numerics:
    """Of a ModelProto. IndexError, ValueError and TypeError when it is none."""
    walk = _Walk()
    parts = list(fields(model))
    if not any(_is_concerned(number, value) for number, value in parts):
        return Numerics()
    # Before version 4 all initializers were inputs too, and yet constant.
    has_defaults = any(number == _MODEL_IR_VERSION and int(value) >= 4 for number, value in parts)
    for number, value in parts:
        if number == _MODEL_GRAPH:
            walk.graph(value, {}, has_defaults)
        elif number == _MODEL_FUNCTIONS:
            walk.nodes((node for key, node in fields(value) if key == _FUNCTION_NODES), {})
    can_widen = walk.can_widen and not (walk.mixed and walk.signed)
    return Numerics(tuple(sorted(walk.trees)), tuple(sorted(walk.mixed)), can_widen, tuple(sorted(walk.dynamic)))


def random(model: Value) -> tuple[str, ...]:
    """The operators of a ModelProto that give something else at each run, sorted. Errors as `read`."""
    found: set[str] = set()
    for number, value in fields(model):
        key = {_MODEL_GRAPH: _GRAPH_NODES, _MODEL_FUNCTIONS: _FUNCTION_NODES}.get(number)
        if key is not None:
            _add_random(found, value, key, 0)
    return tuple(sorted(found))


def _add_random(found: set[str], graph: Value, key: int, depth: int) -> None:
    if depth > _DEPTH:
        raise ValueError(f"graphs within graphs, more than {_DEPTH}")
    for number, value in fields(graph):
        if number != key or not any(sign in bytes(value) for sign in _RANDOM_SIGNS):
            continue
        node = _node(value)
        if node.op in RANDOM or (node.op == _DROPOUT and any(node.inputs[_TRAINING:])):
            found.add(node.op)
        for inner in _graphs(node):
            _add_random(found, inner, _GRAPH_NODES, depth + 1)


def _is_concerned(number: int, value: Value) -> bool:
    key = {_MODEL_GRAPH: _GRAPH_NODES, _MODEL_FUNCTIONS: _FUNCTION_NODES}.get(number)
    if key is None:
        return False
    nodes = (bytes(node) for found, node in fields(value) if found == key and isinstance(node, memoryview))
    return any(sign in node for node in nodes for sign in _SIGNS)


class _Walk:
    """Through all nodes of a model, those of its subgraphs included."""

    def __init__(self) -> None:
        self.trees: set[str] = set()
        self.mixed: set[str] = set()
        self.dynamic: set[str] = set()
        self.can_widen = True
        self.signed = False
        self._depth = 0

    def graph(self, graph: Value, outer: dict[str, _Kind], has_defaults: bool = True) -> None:
        parts = list(fields(graph))
        kinds = dict(outer)
        for number, value in parts:
            if number == _GRAPH_INITIALIZERS:
                name, kind = _tensor(value)
                kinds[name] = kind
        for number, value in parts:
            if number == _GRAPH_INPUTS:
                name, element = _input(value)
                if name not in kinds:
                    kinds[name] = _Kind(element)
                elif has_defaults:
                    kinds[name] = kinds[name]._replace(constant=False, wide=True)
        self.nodes((value for number, value in parts if number == _GRAPH_NODES), kinds)

    def nodes(self, nodes: Iterator[Value], kinds: dict[str, _Kind]) -> None:
        """In their order, in which each comes behind what it needs; `kinds` gains what they give."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise ValueError(f"graphs within graphs, more than {_DEPTH}")
        for value in nodes:
            node = _node(value)
            if node.op in TREES:
                self.trees.add(node.op)
            if node.op in _ONE_SCALE:
                self.dynamic.add(node.op)
            for graph in _graphs(node):
                self.graph(graph, kinds)
            given = [kinds.get(name) for name in node.inputs]
            self._product(node.op, given)
            kind = _result(node, given)
            if kind is not None:
                kinds.update(dict.fromkeys(node.outputs, kind))
        self._depth -= 1

    def _product(self, op: str, given: Sequence[_Kind | None]) -> None:
        is_float = op in _DEQUANTISED
        first, others = (0, (1,)) if is_float else _PRODUCTS.get(op, (0, ()))
        for other in others:
            a, b = _at(given, first), _at(given, other)
            if is_float and not (a and b and a.floats and b.floats):
                continue
            # x86 has uint8 made of dequantised int8, and nothing else is known of an input that no node gives.
            if is_float or op in _DYNAMIC:
                a = _Kind(_UINT8)
            self._multiplied(op, a or _Kind(_UINT8), b or _Kind(_INT8), is_float)

    def _multiplied(self, op: str, a: _Kind, b: _Kind, is_float: bool) -> None:
        if b.element != _INT8 or not (a.wide and b.wide):
            return
        if a.element == _UINT8:
            self.mixed.add(op)
            self.can_widen &= b.constant and op != "ConvInteger"
        elif b.constant and not is_float:
            # ONNX Runtime would widen these as well, and has no kernels for the result.
            self.signed = True


def _result(node: _Node, given: Sequence[_Kind | None]) -> _Kind | None:
    """What a node's outputs are of 8-bit integers, as far as that is known."""
    if node.op == "Constant":
        tensor = _attribute(node, "value", _ATTRIBUTE_TENSOR)
        return None if tensor is None else _tensor(tensor)[1]
    if node.op == "DynamicQuantizeLinear":
        return _Kind(_UINT8)
    if node.op == "QuantizeLinear":
        zero = _at(given, 2)
        wanted = _attribute(node, "output_dtype", _ATTRIBUTE_INT)
        return _Kind(zero.element if zero else int(wanted or _UINT8))
    kind = next((kind for kind in given if kind and kind.element in (_UINT8, _INT8)), None)
    if kind is None or (kind.floats and node.op not in _SHAPES):
        return None
    return kind._replace(floats=kind.floats or node.op == "DequantizeLinear")


def _at(given: Sequence[_Kind | None], index: int) -> _Kind | None:
    return given[index] if index < len(given) else None


def _node(message: Value) -> _Node:
    node = _Node("", [], [], [])
    for number, value in fields(message):
        if number == _NODE_INPUTS:
            node.inputs.append(text(value))
        elif number == _NODE_OUTPUTS:
            node.outputs.append(text(value))
        elif number == _NODE_OP_TYPE:
            node = node._replace(op=text(value))
        elif number == _NODE_ATTRIBUTES:
            node.attributes.append(value)
    return node


def _graphs(node: _Node) -> Iterator[Value]:
    for attribute in node.attributes:
        for number, value in fields(attribute):
            if number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                yield value


def _attribute(node: _Node, name: str, number: int) -> Value | None:
    for attribute in node.attributes:
        parts = dict(fields(attribute))
        if number in parts and text(parts.get(_ATTRIBUTE_NAME, 0)) == name:
            return parts[number]
    return None


def _input(message: Value) -> tuple[str, int]:
    """The name and element type of a ValueInfoProto; 0 when it is no tensor."""
    name, element = "", 0
    for number, value in fields(message):
        if number == 1:
            name = text(value)
        elif number == 2:  # TypeProto, whose field 1 is a tensor
            tensor = dict(fields(value)).get(1)
            element = int(dict(fields(tensor)).get(1, 0)) if tensor is not None else 0
    return name, element


def _tensor(message: Value) -> tuple[str, _Kind]:
    """The name and kind of a TensorProto; values in a file of their own may be any."""
    name, element, raw, numbers = "", 0, None, []
    for number, value in fields(message):
        if number == _TENSOR_NAME:
            name = text(value)
        elif number == _TENSOR_TYPE:
            element = int(value)
        elif number == _TENSOR_RAW:
            raw = value
        elif number == _TENSOR_INTS:
            numbers.append(value)
    if element not in (_UINT8, _INT8):
        return name, _Kind(element, constant=True)
    if isinstance(raw, memoryview):
        values = np.frombuffer(raw, np.int8 if element == _INT8 else np.uint8)
    else:
        values = np.array([item for value in numbers for item in integers(value)], np.int64)
    # Two products of -64 to 64 with uint8 are within 16 bits, and so are those of 0 to 128 with int8.
    low, high = (-64, 64) if element == _INT8 else (0, 128)
    return name, _Kind(element, True, not values.size or bool(values.min() < low or values.max() > high))
