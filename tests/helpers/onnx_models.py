"""Tiny ONNX models for the tests, each for one thing that models do; every maker returns the bytes of the file."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper

# Opset 18 and IR 9 are read by every onnxruntime that pyproject.toml allows.
OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 9

ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}

Dims = Sequence[int | str | None]


def identity(datatype: str = "FP32", shape: Dims = ("batch", 3), *, input: str = "x", output: str = "y") -> bytes:
    """`output` is `input`; a string or None in `shape` is an axis of any length, () makes a scalar."""
    return echo({input: (datatype, shape)}, {input: output})


def echo(tensors: Mapping[str, tuple[str, Dims]], outputs: Mapping[str, str] | None = None) -> bytes:
    """Several identities: each input NAME comes back as `outputs[NAME]`, by default NAME_out."""
    names = {name: (outputs or {}).get(name, f"{name}_out") for name in tensors}
    return model(
        [helper.make_node("Identity", [name], [names[name]]) for name in tensors],
        [tensor(name, *spec) for name, spec in tensors.items()],
        [tensor(names[name], *spec) for name, spec in tensors.items()],
    )


def add(datatype: str = "FP32", shape: Dims = ("batch",)) -> bytes:
    """`sum` is `a` + `b`."""
    return model(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [tensor("a", datatype, shape), tensor("b", datatype, shape)],
        [tensor("sum", datatype, shape)],
    )


def scaled(factor: float = 2.0, width: int = 3) -> bytes:
    """FP32 `y` [batch, width] is `x` times the input `factor` [1], which may be left out."""
    return model(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [tensor("x", "FP32", ("batch", width)), tensor("factor", "FP32", (1,))],
        [tensor("y", "FP32", ("batch", width))],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )


def external(factor: float = 2.0, location: str = "weights.bin", ballast: int = 0) -> tuple[bytes, bytes]:
    """Like `scaled`, but its factors are external data: the ONNX file, and what is to be in the file at `location`.

    `ballast`: bytes more of it, which the graph names and does not use.
    """
    weights = struct.pack("<3f", *[factor] * 3)
    tensors = [helper.make_tensor("factor", TensorProto.FLOAT, [3], weights, raw=True)]
    if ballast:
        tensors.append(helper.make_tensor("ballast", TensorProto.UINT8, [ballast], bytes(ballast), raw=True))
    built = proto(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [tensor("x", "FP32", ("batch", 3))],
        [tensor("y", "FP32", ("batch", 3))],
        tensors,
    )
    offset = 0
    for initializer in built.graph.initializer:
        size = len(initializer.raw_data)
        dims = list(initializer.dims)
        initializer.CopyFrom(external_tensor(initializer.name, initializer.data_type, dims, location, offset))
        offset += size
    return built.SerializeToString(), weights + bytes(ballast)


def external_tensor(name: str, kind: int, dims: Sequence[int], location: str, offset: int) -> TensorProto:
    """A tensor whose values are in the file at `location` from the byte `offset` on."""
    proto = TensorProto(name=name, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    entries = {"location": location, "offset": str(offset)} if offset else {"location": location}
    for key, value in entries.items():
        proto.external_data.add(key=key, value=value)
    return proto


def zipmap(labels: Sequence[str] | Sequence[int] = ("no", "yes")) -> bytes:
    """As scikit-learn's classifiers export: `label` is the best class of the FP32 scores `x`, `probabilities` maps."""
    words = isinstance(labels[0], str)
    names: Any = list(labels)
    key = "classlabels_strings" if words else "classlabels_int64s"
    labels_key = "values_strings" if words else "values_int64s"
    default: dict[str, Any] = {"default_string": ""} if words else {"default_int64": -1}
    default |= {labels_key: names}
    nodes = [
        helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["best"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=list(range(len(labels))),
            **default,
        ),
        helper.make_node("ZipMap", ["x"], ["probabilities"], domain="ai.onnx.ml", **{key: names}),
    ]
    map_type = helper.make_map_type_proto(
        TensorProto.STRING if words else TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(map_type))
    inputs = [tensor("x", "FP32", ("batch", len(labels)))]
    return model(nodes, inputs, [tensor("label", "BYTES" if words else "INT64", ("batch",)), maps])


def constant() -> bytes:
    """FP32 `y` [2] is 1 and 2; there are no inputs."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [2], [1, 2])
    return model([helper.make_node("Constant", [], ["y"], value=value)], [], [tensor("y", "FP32", (2,))])


def default() -> bytes:
    """FP32 `y` [1] is the only input `x` [1], which may be left out and is 7 then."""
    seven = helper.make_tensor("x", TensorProto.FLOAT, [1], [7])
    pair = tensor("x", "FP32", (1,)), tensor("y", "FP32", (1,))
    return model([helper.make_node("Identity", ["x"], ["y"])], [pair[0]], [pair[1]], [seven])


def optional_input(width: int = 3) -> bytes:
    """FP32 `y` [n, width] is `x`, times `factor` where that is given: an input of ONNX's type optional."""
    shape = ("n", width)
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, shape))
    nodes = [
        helper.make_node("OptionalGetElement", ["factor"], ["given"]),
        helper.make_node("Mul", ["x", "given"], ["z"]),
    ]
    then = helper.make_graph(nodes, "with", [], [tensor("z", "FP32", shape)])
    without = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["w"])], "without", [], [tensor("w", "FP32", shape)]
    )
    return model(
        [
            helper.make_node("OptionalHasElement", ["factor"], ["has"]),
            helper.make_node("If", ["has"], ["y"], then_branch=then, else_branch=without),
        ],
        [tensor("x", "FP32", shape), helper.make_value_info("factor", kind)],
        [tensor("y", "FP32", shape)],
    )


def two_in_a_sequence(*, beside: str = "z") -> bytes:
    """FP32 outputs of `x` [n, 2]: `y` is a sequence of it and of its double, `beside` its triple."""
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [factor]) for name, factor in (("two", 2), ("three", 3))
    ]
    return model(
        [
            helper.make_node("Mul", ["x", "two"], ["double"]),
            helper.make_node("Mul", ["x", "three"], [beside]),
            helper.make_node("SequenceConstruct", ["x", "double"], ["y"]),
        ],
        [tensor("x", "FP32", ("n", 2))],
        [
            helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None),
            tensor(beside, "FP32", ("n", 2)),
        ],
        constants,
    )


def sequence_output(datatype: str = "FP32") -> bytes:
    """`y` is a sequence of as many tensors as `x` has values, which the protocol can't carry."""
    return model(
        [helper.make_node("SplitToSequence", ["x"], ["y"], axis=0)],
        [tensor("x", datatype, ("batch",))],
        [helper.make_tensor_sequence_value_info("y", ELEMENT_TYPES[datatype], None)],
    )


def sequence_input() -> bytes:
    """`x` is a sequence of tensors, which the protocol can't carry."""
    return model(
        [helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)],
        [helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)],
        [tensor("y", "FP32", ("rows",))],
    )


def complex_input() -> bytes:
    """`x` is complex64, which the protocol has no name for."""
    return model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.COMPLEX64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.COMPLEX64, [1])],
    )


def products() -> bytes:
    """FP32 `y` [rows, rows] has the products of all rows of `x` [rows, n]: 1 x 4000 is quick, 4000 x 1 is not."""
    return model(
        [
            helper.make_node("Transpose", ["x"], ["columns"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "columns"], ["y"]),
        ],
        [tensor("x", "FP32", ("rows", "n"))],
        [tensor("y", "FP32", ("rows", "rows"))],
    )


def slow(work: int = 256) -> bytes:
    """Multiplies `work` x `work` matrices as often as the INT64 input `turns` [1] says; `y` FP32 [1] is 0 or 1.

    Turns are nodes of their own: a run can be ended between two of them.
    """
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "weights"], ["after"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            tensor("before", "FP32", (work, work)),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []), tensor("after", "FP32", (work, work))],
    )
    nodes = [
        helper.make_node("Squeeze", ["turns"], ["count"]),
        helper.make_node("Loop", ["count", "true", "weights"], ["result"], body=body),
        helper.make_node("ReduceMax", ["result"], ["maximum"], keepdims=0),
        helper.make_node("Unsqueeze", ["maximum", "axis"], ["y"]),
    ]
    identity_matrix = [float(row == column) for row in range(work) for column in range(work)]
    constants = [
        helper.make_tensor("true", TensorProto.BOOL, [], [True]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [0]),
        helper.make_tensor("weights", TensorProto.FLOAT, [work, work], identity_matrix),
    ]
    return model(nodes, [tensor("turns", "INT64", (1,))], [tensor("y", "FP32", (1,))], constants)


def slow_rows() -> bytes:
    """`slow` as a model of rows: `turns` [batch] must all be the same, `y` [batch] is 1."""
    proto = onnx.load_from_string(slow())
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return bytes(proto.SerializeToString())


def heavy(width: int = 1024, layers: int = 64) -> bytes:
    """FP32 `y` [batch, 3] is `x`, by way of so many products that a row takes a fraction of a millisecond."""
    names = ["x", "wide", *(f"layer{number}" for number in range(layers)), "y"]
    weights = ["widen", *["weights"] * layers, "narrow"]
    nodes = [
        helper.make_node("MatMul", [before, weight], [after])
        for before, weight, after in zip(names, weights, names[1:], strict=False)
    ]
    shapes = {"widen": (3, width), "weights": (width, width), "narrow": (width, 3)}
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, np.eye(*shape, dtype=np.float32).ravel())
        for name, shape in shapes.items()
    ]
    return model(nodes, [tensor("x", "FP32", ("batch", 3))], [tensor("y", "FP32", ("batch", 3))], constants)


def failing() -> bytes:
    """Reshapes FP32 `x` [batch] to seven elements: a run with any other number of them fails in the middle."""
    return model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", "FP32", ("batch",))],
        [tensor("y", "FP32", (7,))],
        [helper.make_tensor("shape", TensorProto.INT64, [1], [7])],
    )


def forest(trees: int = 200, targets: int = 1, depth: int = 4, features: int = 8) -> bytes:
    """FP32 `y` [batch, targets] is the sum over random trees for `x` [batch, features]."""
    random = np.random.default_rng(7)
    inner, nodes = 2**depth - 1, 2 ** (depth + 1) - 1
    leaves = list(range(inner, nodes))
    attributes = {
        "nodes_treeids": [tree for tree in range(trees) for _ in range(nodes)],
        "nodes_nodeids": list(range(nodes)) * trees,
        "nodes_featureids": random.integers(0, features, nodes * trees).tolist(),
        "nodes_values": random.standard_normal(nodes * trees).tolist(),
        "nodes_modes": (["BRANCH_LEQ"] * inner + ["LEAF"] * len(leaves)) * trees,
        "nodes_truenodeids": ([2 * node + 1 for node in range(inner)] + [0] * len(leaves)) * trees,
        "nodes_falsenodeids": ([2 * node + 2 for node in range(inner)] + [0] * len(leaves)) * trees,
        "target_treeids": [tree for tree in range(trees) for _ in range(len(leaves) * targets)],
        "target_nodeids": [leaf for leaf in leaves for _ in range(targets)] * trees,
        "target_ids": list(range(targets)) * len(leaves) * trees,
        "target_weights": (random.standard_normal(len(leaves) * targets * trees) / trees).tolist(),
    }
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=targets, **attributes)
    return model([node], [tensor("x", "FP32", ("batch", features))], [tensor("y", "FP32", ("batch", targets))])


def tensor(name: str, datatype: str, shape: Dims) -> ValueInfoProto:
    """The description of a tensor, by the protocol's name of its datatype."""
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], list(shape))


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
) -> bytes:
    """The checked file of a graph."""
    return proto(nodes, inputs, outputs, initializers).SerializeToString()


def proto(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
) -> ModelProto:
    """The checked model of a graph, to be changed further."""
    built = helper.make_model(
        helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers)),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
        ir_version=IR_VERSION,
        producer_name="inferry-tests",
        producer_version="1",
    )
    checker.check_model(built)
    return built


def unranked(content: bytes, *names: str) -> bytes:
    """The model without the shapes of these inputs and outputs, by default all, which some exporters leave out."""
    stripped = ModelProto.FromString(content)
    for value in (*stripped.graph.input, *stripped.graph.output):
        if not names or value.name in names:
            value.type.tensor_type.ClearField("shape")
    return stripped.SerializeToString()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """`folder` as a repository of `files`, by path: {"echo/1/model.onnx": identity(), "flat.onnx": add()}."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder
