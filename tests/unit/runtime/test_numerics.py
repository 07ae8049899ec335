"""Models whose results depend on the host: they are told by their files, made to agree, and named."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from inferry.cli import inspect
from inferry.protocol.tensors import aligned
from inferry.repository import metadata
from inferry.repository.repository import open_repository
from inferry.runtime.numerics import Numerics, notes
from inferry.runtime.onnx_file import read
from inferry.runtime.session import _PRODUCT, Session, SessionOptions
from inferry.settings import Settings
from onnx import NodeProto, TensorProto, helper, numpy_helper

ALL = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
EXACT, OTHER = Numerics((), ("MatMulInteger",), True), Numerics((), ("MatMulInteger",), False)
PRODUCT = helper.make_node("MatMulInteger", ["x", "w"], ["y"])


def graph(nodes: list[NodeProto], weights: Any = ALL, taken: str = "UINT8", given: bool = False) -> onnx.ModelProto:
    """Of `x` and the initializer `w`, which may be an input as well (`given`)."""
    inputs = [onnx_models.tensor("x", taken, ("batch", 16))]
    inputs += [onnx_models.tensor("w", "INT8", (16, 16))] if given else []
    initializers = [] if weights is None else [numpy_helper.from_array(np.asarray(weights), "w")]
    proto = onnx_models.proto([helper.make_node("Identity", ["x"], ["y"])], inputs, [_output()], initializers)
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    return proto


def _output() -> onnx.ValueInfoProto:
    return onnx_models.tensor("y", "INT32", ("batch", None))


def in_a_branch() -> onnx.ModelProto:
    branch = helper.make_graph([PRODUCT], "branch", [], [_output()], [numpy_helper.from_array(ALL, "w")])
    return graph([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], None)


def in_a_function() -> onnx.ModelProto:
    proto = graph([helper.make_node("F", ["x", "w"], ["y"], domain="mine")])
    opsets = [helper.make_opsetid("", 18)]
    proto.functions.append(helper.make_function("mine", "F", ["x", "w"], ["y"], [PRODUCT], opsets))
    return proto


def outside() -> onnx.ModelProto:
    """Its weights are in a file of their own."""
    proto = graph([PRODUCT], ALL // 2)
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], "w.bin")
    proto.graph.initializer[0].ClearField("raw_data")
    return proto


def old() -> onnx.ModelProto:
    """Of a version in which an initializer had to be an input as well."""
    proto = graph([PRODUCT], given=True)
    proto.ir_version = 3
    return proto


def as_numbers(values: Any) -> onnx.ModelProto:
    """Its weights are a list of integers, not bytes."""
    proto = graph([PRODUCT], None)
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.INT8, values.shape, values.reshape(-1)))
    return proto


def quantised(taken: str) -> list[NodeProto]:
    return [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
        if taken == "dynamic"
        else helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("Reshape", ["q", "shape"], ["r"]),
        helper.make_node("MatMulInteger", ["r", "w"], ["y"]),
    ]


CASES = {
    "uint8 x int8": (graph([PRODUCT]), EXACT),
    "uint8 x uint8": (graph([PRODUCT], ALL.astype(np.uint8)), Numerics()),
    "int8 x int8": (graph([PRODUCT], taken="INT8"), Numerics()),
    "int8 x uint8": (graph([PRODUCT], ALL.astype(np.uint8), "INT8"), Numerics()),
    "seven bits": (graph([PRODUCT], ALL // 2), Numerics()),
    "one weight over them": (graph([PRODUCT], np.array([[65]], np.int8)), EXACT),
    "up to the limit": (graph([PRODUCT], np.array([[-64, 64]], np.int8)), Numerics()),
    "as numbers": (as_numbers(ALL), EXACT),
    "as numbers of seven bits": (as_numbers(ALL // 2), Numerics()),
    "weights of a request": (graph([PRODUCT], None, given=True), OTHER),
    "weights that a request may replace": (graph([PRODUCT], given=True), OTHER),
    "weights in a constant": (
        graph([helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(ALL)), PRODUCT], None),
        EXACT,
    ),
    "an old file": (old(), EXACT),
    "weights elsewhere": (outside(), EXACT),
    "in a branch": (in_a_branch(), EXACT),
    "in a function": (in_a_function(), OTHER),
    "made uint8 at each run": (
        graph(quantised("dynamic")),
        EXACT._replace(dynamic=("DynamicQuantizeLinear",)),
    ),
    "made uint8": (graph(quantised("linear")), EXACT),
    "floats": (graph([helper.make_node("MatMul", ["x", "w"], ["y"])]), Numerics()),
}


@pytest.mark.parametrize("name", CASES)
def test_products(tmp_path: Path, name: str) -> None:
    """Which may saturate, and whether ONNX Runtime can help it."""
    proto, expected = CASES[name]
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    assert read(tmp_path / "model.onnx").numerics == expected


def test_both_kinds_of_products(tmp_path: Path) -> None:
    """ONNX Runtime widens either all of them or none, and can't those of int8 and int8."""
    nodes = [
        helper.make_node("QLinearMatMul", ["a", "s", "z", "w", "s", "z", "s", "z"], ["b"]),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"]),
        PRODUCT,
    ]
    proto = graph([nodes[1], nodes[0], nodes[2]])
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "z"))
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    assert read(tmp_path / "model.onnx").numerics == OTHER


def test_graphs_within_graphs_end(tmp_path: Path) -> None:
    """A file that is made to exhaust the stack is refused as any other that is broken."""
    graph = field(1, field(4, b"MatMulInteger"))
    for _ in range(200):
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "model.onnx").write_bytes(field(7, graph))
    assert (
        read(tmp_path / "model.onnx").problem == "model.onnx is not an ONNX file: graphs within graphs, more than 100"
    )


def field(number: int, value: bytes) -> bytes:
    size = len(value)
    out = bytes([number << 3 | 2])
    while size > 127:
        out, size = out + bytes([size & 127 | 128]), size >> 7
    return out + bytes([size]) + value


def test_the_question_to_the_processor() -> None:
    """Its bytes are those of the onnx package."""
    inputs = [helper.make_tensor_value_info(*given, None) for given in (("x", TensorProto.UINT8), ("w", 3))]
    output = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    opsets = [helper.make_opsetid("", 10)]
    asked = helper.make_model(helper.make_graph([PRODUCT], "g", inputs, [output]), opset_imports=opsets, ir_version=5)
    assert asked.SerializeToString() == _PRODUCT


def bits(path: Path, options: SessionOptions, rows: int) -> bytes:
    x = aligned(np.random.default_rng(7).standard_normal((rows, 8)).astype(np.float32))
    return Session(path, read(path), "m", options).run({"x": x}, ["y"], time.monotonic() + 60)[0].tobytes()


@pytest.mark.parametrize("rows", [1, 50, 51, 700])
def test_trees_give_the_same_bits_on_hosts_of_any_size(tmp_path: Path, rows: int) -> None:
    """A config that names threads has what it wants."""
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_models.forest(targets=3))
    assert len({bits(path, SessionOptions(threads), rows) for threads in (1, 2, 3, 4)}) == 1
    if rows > 50:
        assert len({bits(path, SessionOptions(1, 0, threads), rows) for threads in (1, 2)}) == 2


def trees_in_a_branch() -> onnx.ModelProto:
    forest = onnx.load_from_string(onnx_models.forest(3)).graph
    branch = helper.make_graph(forest.node, "branch", [], forest.output)
    return graph([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], None)


def test_trees_of_a_branch(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(trees_in_a_branch().SerializeToString())
    assert read(tmp_path / "model.onnx").numerics == Numerics(("TreeEnsembleRegressor",))


TREES = (
    "has the {} threads of its config.json: TreeEnsembleRegressor gives other last digits with another number of them"
)
SATURATES = (
    "multiplies uint8 by int8 (MatMulInteger), whose sums saturate on x86 CPUs with AVX2 and without VNNI: {}. "
    "Quantise its weights to uint8, or to 7 bits (reduce_range)"
)


@pytest.mark.parametrize(
    ("numerics", "threads", "expected"),
    [
        (Numerics(), 0, []),
        (Numerics(("TreeEnsembleRegressor",)), 0, []),
        (Numerics(("TreeEnsembleRegressor",)), 3, [TREES.format(3)]),
        (EXACT, 0, [SATURATES.format("multiplied as uint8 by uint8 there: exact, and slower")]),
        (OTHER, 3, [SATURATES.format("OTHER RESULTS there")]),
    ],
)
def test_notes(numerics: Numerics, threads: int, expected: list[str]) -> None:
    assert notes(numerics, threads) == expected


def test_they_are_named_by_the_log_the_metadata_and_inspect(
    repository: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    path = repository(
        {
            "forest.onnx": onnx_models.forest(5),
            "threads/1/model.onnx": onnx_models.forest(5),
            "threads/config.json": b'{"threads": 2}',
            "products.onnx": graph([PRODUCT]).SerializeToString(),
            "exact.onnx": graph([PRODUCT], ALL // 2).SerializeToString(),
        }
    )
    expected = {
        "threads": TREES.format(2),
        "products": SATURATES.format("multiplied as uint8 by uint8 there: exact, and slower"),
    }
    models = [open_repository(path, threads=2).get(name) for name in (*expected, "exact", "forest")]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"model '{name}' version 1 {note}" for name, note in expected.items()]
    properties = {model.name: metadata.metadata(model, ["1"])["properties"] for model in models}
    found = {name: (values.get("numerics"), values.get("threads")) for name, values in properties.items()}
    assert found == {
        **{name: (note, None) for name, note in expected.items()},
        "exact": (None, None),
        "forest": (None, "1, because of TreeEnsembleRegressor"),
    }
    report = inspect.inspect(Settings(model_path=path))
    assert inspect.status(report) == 0
    assert [line for line in inspect.table(report).splitlines() if line.startswith("* ")] == [
        f"* {name} 1 {expected[name]}" for name in sorted(expected)
    ]
