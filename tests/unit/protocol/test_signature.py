"""The checks of a request against a model's inputs and outputs, in the words that Triton's users search for."""

from typing import Any

import numpy as np
import pytest
from inferry.errors import InvalidRequest
from inferry.protocol.signature import Requested, Signature, TensorSpec
from inferry.protocol.tensors import DATATYPES, Shape, Tensor
from inferry.protocol.types import InferRequest, RequestedOutput


def spec(name: str, datatype: str = "FP32", shape: Shape | None = (-1, 3), optional: bool = False) -> TensorSpec:
    return TensorSpec(name, DATATYPES[datatype], shape, optional)


def signature(*inputs: TensorSpec, max_batch_size: int = 0) -> Signature:
    outputs = {name: spec(name) for name in ("y", "z")}
    return Signature("m", {item.name: item for item in inputs}, outputs, max_batch_size)


def request(**inputs: tuple[str, Any]) -> InferRequest:
    """`x=("FP32", [[1, 2]])`."""
    arrays = {name: np.array(value, DATATYPES[datatype].dtype) for name, (datatype, value) in inputs.items()}
    return InferRequest({name: Tensor(name, DATATYPES[inputs[name][0]], array) for name, array in arrays.items()})


def raw(body: bytes) -> InferRequest:
    return InferRequest(raw=body, binary=True)


def lists(feed: dict[str, Any]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in feed.items()}


def refused(model: Signature, given: InferRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        model.feed(given)
    return str(caught.value)


AB = (spec("a"), spec("b", "INT64", (-1,)), spec("k", "FP32", (), optional=True))


@pytest.mark.parametrize("k", [{}, {"k": 2.0}])
def test_feed(k: dict[str, float]) -> None:
    given = request(a=("FP32", [[1, 2, 3]]), b=("INT64", [4, 5]), **{name: ("FP32", v) for name, v in k.items()})
    assert lists(signature(*AB).feed(given)) == {"a": [[1, 2, 3]], "b": [4, 5], **k}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            request(a=("FP32", [[1, 2, 3]])),
            "expected 2 to 3 inputs but got 1 of the required ones for model 'm'. Got input(s) ['a'], "
            "but missing required input(s) ['b']",
        ),
        (
            request(k=("FP32", 1)),
            "expected 2 to 3 inputs but got 0 of the required ones for model 'm'. Got input(s) ['k'], "
            "but missing required input(s) ['a', 'b']",
        ),
        (
            request(a=("FP32", [[1, 2, 3]]), c=("FP32", [1])),
            "unexpected inference input 'c' for model 'm', whose inputs are 'a', 'b', 'k'",
        ),
        (
            request(a=("FP64", [[1, 2.1, 3]]), b=("INT64", [4])),
            "inference input 'a' data-type is 'FP64', but model 'm' expects 'FP32', which can't hold 2.1 (at [0, 1]) "
            "as it is: send FP32",
        ),
        (
            request(a=("FP32", [[1, 2, 3]]), b=("UINT64", [4, 2**63])),
            "inference input 'b' data-type is 'UINT64', but model 'm' expects 'INT64', which can't hold "
            "9223372036854775808 (at [1]) as it is: send INT64",
        ),
        (
            request(a=("FP32", [[1, 2, 3]]), b=("INT64", [4]), k=("BYTES", "1")),
            "inference input 'k' data-type is 'BYTES', but model 'm' expects 'FP32'",
        ),
        (
            request(a=("BOOL", [[True, False, True]]), b=("INT64", [4])),
            "inference input 'a' data-type is 'BOOL', but model 'm' expects 'FP32'",
        ),
        (
            request(a=("FP32", [[1, 2, 3, 4]]), b=("INT64", [4])),
            "unexpected shape for input 'a' for model 'm'. Expected [-1, 3], got [1, 4] (-1 stands for any length)",
        ),
        (
            request(a=("FP32", [1, 2, 3]), b=("INT64", [4])),
            "unexpected shape for input 'a' for model 'm'. Expected [-1, 3], got [3] (-1 stands for any length)",
        ),
        (
            request(a=("FP32", [[1, 2, 3]]), b=("INT64", 4)),
            "unexpected shape for input 'b' for model 'm'. Expected [-1], got [] (-1 stands for any length)",
        ),
        (
            request(a=("FP32", [[1, 2, 3]]), b=("INT64", [4]), k=("FP32", [1])),
            "unexpected shape for input 'k' for model 'm'. Expected [], got [1] (-1 stands for any length)",
        ),
    ],
)
def test_what_does_not_fit(given: InferRequest, message: str) -> None:
    assert refused(signature(*AB), given) == message


def test_bfloat16_is_not_uint16() -> None:
    """Both are uint16 to NumPy."""
    model = signature(spec("x", "BF16", (-1,)))
    assert lists(model.feed(request(x=("UINT16", [3])))) == {"x": [0x4040]}
    assert refused(model, request(x=("UINT16", [257]))) == (
        "inference input 'x' data-type is 'UINT16', but model 'm' expects 'BF16', which can't hold 257 (at [0]) "
        "as it is: send BF16"
    )
    assert lists(model.feed(request(x=("BF16", [1])))) == {"x": [1]}


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (1000, 3)])
def test_any_length_is_any(shape: tuple[int, ...]) -> None:
    assert signature(spec("x")).feed(request(x=("FP32", np.ones(shape))))["x"].shape == shape


def test_batch() -> None:
    model = signature(*AB, max_batch_size=2)
    rows = [[1, 2, 3]]
    good = request(a=("FP32", rows * 2), b=("INT64", [4, 5]))
    assert lists(model.feed(good)) == {"a": [[1, 2, 3], [1, 2, 3]], "b": [4, 5]}
    assert refused(model, request(a=("FP32", rows * 2), b=("INT64", [4]))) == (
        "the inputs of model 'm' differ in batch size (axis 0): {'a': 2, 'b': 1}"
    )
    assert refused(model, request(a=("FP32", rows * 3), b=("INT64", [4, 5, 6]))) == (
        "inference request batch-size must be <= 2 for 'm', got 3"
    )


@pytest.mark.parametrize(("shape", "value"), [((), 2.0), ((4,), [1, 2, 3, 4]), ((-1,), [1, 2, 3])])
def test_optional_inputs_have_no_batch_axis(shape: tuple[int, ...], value: Any) -> None:
    model = signature(spec("x"), spec("k", "FP32", shape, optional=True), max_batch_size=2)
    given = request(k=("FP32", value), x=("FP32", [[1, 2, 3]] * 2))
    assert lists(model.feed(given)) == {"k": value, "x": [[1, 2, 3]] * 2}


ALL = ("y", "z")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (InferRequest(), Requested(ALL, frozenset())),
        (InferRequest(binary=True), Requested(ALL, frozenset(ALL))),
        (InferRequest(raw=b"", binary=True), Requested(ALL, frozenset(ALL))),
        (InferRequest(outputs=(RequestedOutput("z", False),), binary=True), Requested(("z",), frozenset())),
        (
            InferRequest(outputs=(RequestedOutput("z", True), RequestedOutput("y", False, 3))),
            Requested(("z", "y"), frozenset("z"), {"y": 3}),
        ),
    ],
)
def test_requested(given: InferRequest, expected: Requested) -> None:
    assert signature(spec("x")).requested(given) == expected


def test_requested_but_unknown() -> None:
    given = InferRequest(outputs=(RequestedOutput("y", False), RequestedOutput("Y", False)))
    with pytest.raises(InvalidRequest) as caught:
        signature(spec("x")).requested(given)
    assert str(caught.value) == "unexpected inference output 'Y' for model 'm', whose outputs are 'y', 'z'"


@pytest.mark.parametrize(
    ("datatype", "shape", "max_batch_size", "body", "expected"),
    [
        ("UINT8", (3,), 0, b"\1\2\3", [1, 2, 3]),
        ("UINT8", (-1,), 0, b"\1\2\3", [1, 2, 3]),
        ("UINT8", (-1,), 0, b"", []),
        ("UINT8", (), 0, b"\7", 7),
        ("INT16", (-1, 2), 0, b"\1\0\2\0\3\0\4\0", [[1, 2], [3, 4]]),
        ("INT16", (2, -1), 0, b"\1\0\2\0\3\0\4\0", [[1, 2], [3, 4]]),
        # The batch is one row.
        ("UINT8", (-1, 3), 8, b"\1\2\3", [[1, 2, 3]]),
        ("UINT8", (-1, -1, 2), 8, b"\1\2\3\4", [[[1, 2], [3, 4]]]),
        # The whole body is the one string, without its length.
        ("BYTES", (1,), 0, "é".encode(), ["é"]),
        ("BYTES", (-1,), 0, b"\1\0\0\0a", ["\1\0\0\0a"]),
        ("BYTES", (-1, 1), 4, b"ab", [["ab"]]),
        ("BYTES", (), 0, b"", ""),
    ],
)
def test_raw(datatype: str, shape: tuple[int, ...], max_batch_size: int, body: bytes, expected: Any) -> None:
    model = signature(spec("x", datatype, shape), spec("k", "INT8", (1,), optional=True), max_batch_size=max_batch_size)
    given = raw(body)
    assert lists(model.feed(given)) == {"x": expected}
    assert given.inputs["x"].datatype is DATATYPES[datatype]


SHAPELESS = "can't be told from the {} bytes of a raw binary request; send a JSON header with the shape"


@pytest.mark.parametrize(
    ("inputs", "max_batch_size", "body", "message"),
    [
        (AB, 0, b"", "a raw binary request needs a model with one input; 'm' has 'a', 'b', 'k'"),
        (
            (spec("x", "UINT8", (-1, -1)),),
            0,
            b"\0" * 4,
            f"the shape of input 'x' for model 'm', [-1, -1], {SHAPELESS.format(4)}",
        ),
        (
            (spec("x", "UINT8", (-1, -1, -1)),),
            4,
            b"\0" * 4,
            f"the shape of input 'x' for model 'm', [-1, -1, -1], {SHAPELESS.format(4)}",
        ),
        (
            (spec("x", "FP32", (-1, 2)),),
            0,
            b"\0" * 12,
            f"the shape of input 'x' for model 'm', [-1, 2], {SHAPELESS.format(12)}",
        ),
        (
            (spec("x", "FP32", (-1, 0)),),
            0,
            b"",
            f"the shape of input 'x' for model 'm', [-1, 0], {SHAPELESS.format(0)}",
        ),
        (
            (spec("x", "FP32", (3,)),),
            0,
            b"\0" * 8,
            "input byte size mismatch for input 'x' for model 'm'. Expected 12 bytes for shape [3] of FP32, got 8",
        ),
        (
            (spec("x", "FP32", (-1, 3)),),
            4,
            b"\0" * 24,
            "input byte size mismatch for input 'x' for model 'm'. Expected 12 bytes for shape [1, 3] of FP32, got 24",
        ),
        (
            (spec("x", "BYTES", (2,)),),
            0,
            b"abc",
            "expected 2 string(s) for input 'x' for model 'm', but 7 bytes can't hold as many 4-byte lengths",
        ),
        (
            (spec("x", "BYTES", (1,)),),
            0,
            b"\xff",
            "string 0 of input 'x' for model 'm' is not valid UTF-8; ONNX strings are UTF-8 text, send other bytes as "
            "UINT8",
        ),
    ],
)
def test_bad_raw(inputs: tuple[TensorSpec, ...], max_batch_size: int, body: bytes, message: str) -> None:
    assert refused(signature(*inputs, max_batch_size=max_batch_size), raw(body)) == message


@pytest.mark.parametrize(
    ("values", "wanted", "expected"),
    {
        "a single value": ((), (-1,), ()),
        "one in a list": ((1,), (-1,), ()),
        "one for a row of one": ((), (-1, 1), (1,)),
        "too many": ((2,), (-1,), None),
        "as it is": ((3,), (-1, 3), (3,)),
        "too few": ((4,), (-1, 3), None),
        "flat": ((4,), (-1, 1, 2, 2), (1, 2, 2)),
        "deeper": ((1, 2, 2), (-1, 4), (4,)),
        "flat, of a length that the number tells": ((6,), (-1, -1, 3), (2, 3)),
        "an axis of any length": ((2, 3), (-1, -1, 3), (2, 3)),
        "two axes of any length": ((2, 3), (-1, -1, -1), (2, 3)),
        "none": ((0,), (-1, -1), (0,)),
        "no multiple": ((7,), (-1, -1, 3), None),
        "flat, for two axes of any length": ((6,), (-1, -1, -1), None),
        "flat, for an axis without values": ((0,), (-1, -1, 0), None),
        "the same rank and other lengths": ((3, 4, 5), (-1, 4, 5, 3), None),
        "the same rank with an axis of any length": ((3, 4, 5), (-1, -1, 5, 3), None),
        "its first and last axes exchanged": ((3, 2), (-1, 2, 3), None),
        "no rank is stated": ((3, 4, 5), None, (3, 4, 5)),
        "no rank is stated, a single value": ((), None, ()),
    }.values(),
)
def test_the_shape_of_a_row(values: Shape, wanted: Shape | None, expected: Shape | None) -> None:
    assert spec("x", shape=wanted).fitted(values) == expected


@pytest.mark.parametrize("value", [1.5, [1.5], [[1.5, 2], [3, 4]], np.zeros((1, 2, 3, 4))])
def test_where_no_rank_is_stated_any_shape_is_right(value: Any) -> None:
    feed = signature(spec("a", shape=None)).feed(request(a=("FP32", value)))
    assert feed["a"].shape == np.shape(value)


def test_a_batch_where_no_rank_is_stated() -> None:
    model = signature(spec("a", shape=None), max_batch_size=2)
    assert lists(model.feed(request(a=("FP32", [[1], [2]])))) == {"a": [[1], [2]]}
    assert "must be <= 2" in refused(model, request(a=("FP32", [1, 2, 3])))
    assert refused(model, request(a=("FP32", 1))) == (
        "the inputs of model 'm' must have a batch axis (axis 0), got the shapes {'a': []}"
    )


@pytest.mark.parametrize(("max_batch_size", "expected"), [(0, [1.0, 2.0]), (4, [[1.0, 2.0]])])
def test_raw_binary_where_no_rank_is_stated(max_batch_size: int, expected: Any) -> None:
    model = signature(spec("a", shape=None), max_batch_size=max_batch_size)
    assert lists(model.feed(raw(np.array([1, 2], np.float32).tobytes()))) == {"a": expected}
    assert "can't be told from the 7 bytes" in refused(model, raw(bytes(7)))
    text = signature(spec("a", "BYTES", shape=None))
    assert lists(text.feed(raw(b"abc"))) == {"a": ["abc"]}


def test_counts_of_inputs_that_are_all_required() -> None:
    message = (
        "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['b'], but missing required input(s) ['a']"
    )
    assert refused(signature(*AB[:2]), request(b=("INT64", [4]))) == message


@pytest.mark.parametrize(
    ("inputs", "given", "rows"),
    [
        ((spec("a"), spec("b")), {"a": np.zeros((2, 3)), "b": np.zeros((1, 3))}, 2),
        ((spec("a"), spec("b")), {"b": np.zeros((1, 3)), "a": np.zeros((2, 3))}, 2),
        ((spec("k", shape=(-1,), optional=True), spec("a")), {"k": np.zeros(7), "a": np.zeros((2, 3))}, 2),
        ((spec("a", shape=()),), {"a": np.zeros(())}, 1),
        ((spec("a"),), {"a": np.zeros((0, 3))}, 0),
        ((spec("k", shape=(-1,), optional=True),), {"k": np.zeros(7)}, 1),
    ],
)
def test_rows_do_not_depend_on_the_order_of_inputs(
    inputs: tuple[TensorSpec, ...], given: dict[str, Any], rows: int
) -> None:
    tensors = {name: ("FP32", array) for name, array in given.items()}
    assert signature(*inputs).rows(request(**tensors)) == rows


def test_another_datatype_whose_values_are_exact() -> None:
    given = request(a=("FP64", [[1, 2.5, 3]]), b=("INT32", [4]), k=("FP16", 1))
    feed = signature(*AB).feed(given)
    assert lists(feed) == {"a": [[1, 2.5, 3]], "b": [4], "k": 1}
    assert {name: array.dtype.name for name, array in feed.items()} == {"a": "float32", "b": "int64", "k": "float32"}


@pytest.mark.parametrize("batch", [0, 4])
def test_columns_of_a_data_frame(batch: int) -> None:
    """MLServer's and KServe's clients send each as a vector."""
    model = signature(spec("a", shape=(-1, 1)), spec("b", "INT64", (-1, 1)), max_batch_size=batch)
    given = request(a=("FP64", [1, 2]), b=("INT32", [3, 4]))
    assert lists(model.feed(given)) == {"a": [[1], [2]], "b": [[3], [4]]}
    assert model.rows(given) == 2


@pytest.mark.parametrize(
    ("shape", "given"),
    [((-1, 2), [1, 2]), ((-1, 1, 1), [1]), ((2, 1), [1, 2, 3]), ((-1, 1), [[[1]]]), ((-1,), [[1]])],
)
def test_what_is_no_column(shape: tuple[int, ...], given: Any) -> None:
    assert refused(signature(spec("x", shape=shape)), request(x=("FP32", given))) == (
        f"unexpected shape for input 'x' for model 'm'. Expected {list(shape)}, got {list(np.shape(given))} "
        "(-1 stands for any length)"
    )


@pytest.mark.parametrize("name", ["input-0", "predict"])
def test_the_names_that_other_servers_have_for_one_input(name: str) -> None:
    optional = spec("k", shape=(), optional=True)
    given = request(**{name: ("FP32", [[1, 2, 3], [4, 5, 6]])})
    model = signature(optional, spec("x"))
    assert lists(model.feed(given)) == {"x": [[1, 2, 3], [4, 5, 6]]}
    assert model.rows(given) == 2
    assert "unexpected inference input" in refused(signature(spec("x"), spec("z")), request(**{name: ("FP32", [1])}))
    assert lists(signature(spec("x"), spec(name, optional=True)).feed(request(x=("FP32", [[1, 2, 3]])))) == {
        "x": [[1, 2, 3]]
    }
    taken = signature(spec("x"), spec(name, optional=True))
    assert "missing required input(s) ['x']" in refused(taken, request(**{name: ("FP32", [[1, 2, 3]])}))
