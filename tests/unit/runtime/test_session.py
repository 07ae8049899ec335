"""Sessions of real ONNX models: every datatype, errors, deadlines."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from inferry.errors import InferenceFailed, InferenceTimeout, InvalidArgument, InvalidModel, InvalidRequest
from inferry.protocol.tensors import DATATYPES, Array, aligned, empty
from inferry.runtime.onnx_file import read
from inferry.runtime.session import Session, SessionOptions

Load = Callable[..., Session]

VALUES: dict[str, list[list[Any]]] = {
    **{name: [[0, 1, 100]] for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")},
    "BOOL": [[True, False, True]],
    "FP16": [[0.5, -2.0, 65504.0]],
    "FP32": [[0.5, -2.0, 3e38]],
    "FP64": [[0.5, -2.0, 1e308]],
    "BF16": [[0x3F80, 0x4000, 0xFF80]],
    "BYTES": [["a", "é\0", ""]],
}


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize("datatype", VALUES)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_every_datatype_goes_through(session: Load, datatype: str, rows: int) -> None:
    array = np.array(VALUES[datatype] * rows, DATATYPES[datatype].dtype).reshape(rows, 3)
    (output,) = session(onnx_models.identity(datatype)).run({"x": array}, ["y"], soon())
    assert output.dtype == array.dtype
    assert output.tolist() == array.tolist()


@pytest.mark.parametrize("datatype", ["FP32", "BF16", "BYTES"])
def test_scalars(session: Load, datatype: str) -> None:
    array = np.array(VALUES[datatype][0][0], DATATYPES[datatype].dtype)
    (output,) = session(onnx_models.identity(datatype, ())).run({"x": array}, ["y"], soon())
    assert output.tolist() == array.tolist()


@pytest.mark.parametrize(("labels", "expected"), [(("no", "yes"), ("no", "yes")), ((3, -7), ("3", "-7"))])
def test_a_zipmap_becomes_an_array_with_labels(
    session: Load, labels: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    loaded = session(onnx_models.zipmap(labels))
    (name,) = [spec.name for spec in loaded.signature.outputs.values() if spec.labels]
    spec = loaded.signature.outputs[name]
    assert (spec.datatype.name, spec.shape, spec.labels) == ("FP32", (-1, 2), expected)
    (feed,) = [{i.name: np.array([[0.25, 0.75]] * 2, np.float32)} for i in loaded.signature.inputs.values()]
    (output,) = loaded.run(feed, [name], soon())
    np.testing.assert_array_equal(output, np.array([[0.25, 0.75]] * 2, np.float32))


def test_an_optional_input_may_be_left_out(session: Load) -> None:
    loaded = session(onnx_models.scaled(2.0))
    x = np.ones((1, 3), np.float32)
    assert loaded.run({"x": x}, ["y"], soon())[0].tolist() == [[2, 2, 2]]
    assert loaded.run({"x": x, "factor": np.array([5], np.float32)}, ["y"], soon())[0].tolist() == [[5, 5, 5]]
    assert {spec.name: spec.optional for spec in loaded.signature.inputs.values()} == {"x": False, "factor": True}


def test_a_run_over_its_deadline_ends_and_the_session_stays_usable(session: Load) -> None:
    loaded = session(onnx_models.slow())
    (name,) = loaded.signature.inputs
    outputs = list(loaded.signature.outputs)
    start = time.monotonic()
    with pytest.raises(InferenceTimeout, match="took longer"):
        loaded.run({name: np.array([10**9])}, outputs, soon(0.3))
    assert 0.3 <= time.monotonic() - start < 10
    loaded.run({name: np.array([1])}, outputs, soon())


def test_a_deadline_that_is_over_runs_nothing(session: Load) -> None:
    with pytest.raises(InferenceTimeout, match="before it ran"):
        session(onnx_models.identity()).run({"x": np.ones((1, 3), np.float32)}, ["y"], time.monotonic())


def test_runs_in_threads_keep_their_own_deadlines(session: Load) -> None:
    loaded = session(onnx_models.slow())
    (name,) = loaded.signature.inputs
    ended: list[str] = []

    def run(steps: int, seconds: float) -> None:
        try:
            loaded.run({name: np.array([steps])}, list(loaded.signature.outputs), soon(seconds))
            ended.append("done")
        except InferenceTimeout:
            ended.append("timeout")

    threads = [threading.Thread(target=run, args=args) for args in [(10**9, 0.2), (50, 30.0), (10**9, 0.4)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["done", "timeout", "timeout"]


def test_a_model_that_fails_names_itself(session: Load) -> None:
    loaded = session(onnx_models.failing())
    feed = {
        spec.name: np.ones([3 if length == -1 else length for length in spec.shape or ()], spec.datatype.dtype)
        for spec in loaded.signature.inputs.values()
    }
    with pytest.raises((InferenceFailed, InvalidRequest), match="model 'm'"):
        loaded.run(feed, list(loaded.signature.outputs), soon())


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (onnx_models.complex_input(), "cast it to one of"),
        (onnx_models.sequence_input(), "input 'x' .* give the graph a plain tensor"),
        (onnx_models.sequence_output(), "output 'y' .* give the graph a plain tensor"),
    ],
)
def test_types_that_cannot_be_carried_are_refused_with_advice(session: Load, model: bytes, advice: str) -> None:
    with pytest.raises(InvalidModel, match=advice):
        session(model)


def test_a_sequence_whose_elements_have_names_of_other_outputs(session: Load) -> None:
    with pytest.raises(InvalidModel, match="two outputs 'y_1', one of them an element of a sequence"):
        session(onnx_models.two_in_a_sequence(beside="y_1"))


@pytest.mark.parametrize("content", [b"", b"no model", onnx_models.identity()[:-20]])
def test_a_broken_file_is_an_invalid_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match="model 'm'"):
        Session(path, read(path), "m", SessionOptions(1))


def test_external_data_that_is_missing_is_told_without_our_paths(tmp_path: Path) -> None:
    proto = onnx.load_from_string(onnx_models.scaled(2.0))
    for initializer in proto.graph.initializer:
        initializer.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(initializer), initializer.name))
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InvalidModel, match=r"weights\.bin") as caught:
        Session(path, read(path), "m", SessionOptions(1))
    assert str(tmp_path) not in str(caught.value)


def test_a_session_keeps_to_what_was_paid_for(tmp_path: Path) -> None:
    """Its threads, none of them spinning, one arena with all others, and no memory of shapes that came before."""
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_models.identity())
    options = Session(path, read(path), "m", SessionOptions(3))._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.use_env_allocators") == "1"
    assert options.enable_mem_pattern is False


def test_the_deadline_of_a_run_that_is_done_ends_no_other(session: Load) -> None:
    loaded = session(onnx_models.slow())
    feed = {"turns": np.array([1], np.int64)}
    loaded.run(feed, ["y"], soon(1.0))
    time.sleep(1.5)
    assert loaded.run(feed, ["y"], soon())[0].tolist() == [1.0]


def test_what_onnxruntime_blames_the_input_for(session: Load) -> None:
    lookup = onnx_models.model(
        [onnx.helper.make_node("Gather", ["table", "x"], ["y"])],
        [onnx_models.tensor("x", "INT64", ("batch",))],
        [onnx_models.tensor("y", "FP32", ("batch", 1))],
        [onnx.helper.make_tensor("table", onnx.TensorProto.FLOAT, [3, 1], [10.0, 20.0, 30.0])],
    )
    with pytest.raises(InvalidArgument, match=r"model 'm' can't take this input: .*indices element out of data bounds"):
        session(lookup).run({"x": np.array([7], np.int64)}, ["y"], soon())


def of_one_node(operator: str, datatype: str, values: Any) -> bytes:
    """FP32 `y` of `x` [n] and a constant."""
    constant = onnx.numpy_helper.from_array(np.array(values), "constant")
    order = ["constant", "x"] if operator == "GatherElements" else ["x", "constant"]
    return onnx_models.model(
        [onnx.helper.make_node(operator, order[: 1 if operator == "ConstantOfShape" else 2], ["y"])],
        [onnx_models.tensor("x", datatype, ("n",))],
        [onnx_models.tensor("y", "FP32", {"MatMul": (), "Reshape": ("m", "k")}.get(operator, ("m",)))],
        [] if operator == "ConstantOfShape" else [constant],
    )


def fp32(values: Any) -> Array:
    return np.array(values, np.float32)


def int64(values: Any) -> Array:
    return np.array(values, np.int64)


# What runs, and what does not fit: ONNX Runtime has the status FAIL for all of them.
UNFIT = {
    "axes that can't be broadcast": ("Add", "FP32", fp32([1, 2, 3]), fp32([1]), fp32([1, 2]), "broadcast"),
    "a product of other lengths": ("MatMul", "FP32", fp32([1, 2]), fp32([1, 2]), fp32([1]), "dimension mismatch"),
    "another size": ("Reshape", "FP32", int64([2, 2]), fp32([1, 2, 3, 4]), fp32([1]), "cannot be reshaped"),
    "an index": ("GatherElements", "INT64", fp32([1, 2]), int64([1]), int64([2]), "index"),
    "a negative length": ("ConstantOfShape", "INT64", fp32([]), int64([2]), int64([-1]), "shape"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_node_that_fails_blames_the_input_once_the_model_has_run(session: Load, name: str) -> None:
    operator, datatype, constant, fits, unfit, words = UNFIT[name]
    loaded = session(of_one_node(operator, datatype, constant))
    with pytest.raises(InferenceFailed, match=f"model 'm' failed: .* while running {operator} node.*{words}"):
        loaded.run({"x": unfit}, ["y"], soon())
    loaded.run({"x": fits}, ["y"], soon())
    with pytest.raises(InvalidArgument, match=f"model 'm' can't take this input: .* running {operator} node.*{words}"):
        loaded.run({"x": unfit}, ["y"], soon())
    loaded.run({"x": fits}, ["y"], soon())


def test_want_of_memory_is_not_the_inputs_fault(session: Load) -> None:
    loaded = session(of_one_node("ConstantOfShape", "INT64", []))
    loaded.run({"x": int64([2])}, ["y"], soon())
    with pytest.raises(InferenceFailed, match="Failed to allocate memory"):
        loaded.run({"x": int64([2**40])}, ["y"], soon())


def test_batching_needs_a_symbolic_first_axis(session: Load) -> None:
    with pytest.raises(InvalidModel, match=r"first axis of 'x' is not symbolic: \[1, 3\]"):
        session(onnx_models.identity("FP32", (1, 3)), max_batch_size=8)


@pytest.mark.parametrize("offset", range(0, 64, 4))
def test_inputs_start_on_the_boundary(offset: int) -> None:
    raw = np.zeros(64 + 4 * 16, np.uint8)
    array = np.ndarray((16,), np.float32, raw, offset)
    array[:] = np.arange(16)
    moved = aligned(array)
    assert moved.__array_interface__["data"][0] % 64 == 0
    assert moved.tolist() == list(range(16))
    assert empty((3, offset), np.dtype("f4")).__array_interface__["data"][0] % 64 == 0
