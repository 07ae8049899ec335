"""Rows of plain values to requests for real models, and answers back to rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_models
import orjson
import pytest
from inferry.errors import InvalidRequest
from inferry.observability.stats import ModelStats
from inferry.protocol.tensors import DATATYPES, Tensor
from inferry.protocol.types import InferResponse
from inferry.runtime.model import Model
from inferry.runtime.model_config import ModelConfig
from inferry.runtime.row_proof import RowProof
from inferry.runtime.rows import as_rows, from_responses, from_text, to_request
from inferry.runtime.session import Session
from onnx_models import Dims

Make = Callable[..., Model]
Inputs = Mapping[str, tuple[str, Dims]]

ROW: Inputs = {"x": ("FP32", ("n", 3))}
IMAGE: Inputs = {"x": ("UINT8", ("n", 2, 2))}
TEXT: Inputs = {"x": ("BYTES", ("n",))}
ANY: Inputs = {"x": ("INT64", ("n", "m"))}
SCALAR: Inputs = {"x": ("FP32", ())}
COLUMNS: Inputs = {"age": ("FP32", ("n", 1)), "name": ("BYTES", ("n",))}


@pytest.fixture
def model(session: Callable[..., Session]) -> Make:
    """The model that echoes `inputs`."""

    def make(inputs: Inputs, columns: Sequence[str] = ()) -> Model:
        config = ModelConfig(columns=tuple(columns))
        loaded = session(onnx_models.echo(inputs))
        return Model("m", "1", config, loaded, "", 0, ModelStats(), RowProof(loaded, "", joined=False))

    return make


def lists(rows: Sequence[Any], model: Model) -> dict[str, tuple[str, Any]]:
    return {
        name: (tensor.datatype.name, tensor.array.tolist()) for name, tensor in to_request(rows, model).inputs.items()
    }


def refused(rows: Sequence[Any], model: Model) -> str:
    with pytest.raises(InvalidRequest) as caught:
        model.session.signature.feed(to_request(rows, model))
    return str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "rows", "expected"),
    [
        (ROW, [[1, 2, 3]], [[1, 2, 3]]),
        (ROW, [[1, 2, 3], [4, 5.5, -6]], [[1, 2, 3], [4, 5.5, -6]]),
        (ROW, [[[1, 2, 3]], [[4, 5, 6]]], [[1, 2, 3], [4, 5, 6]]),
        (IMAGE, [[1, 2, 3, 4]], [[[1, 2], [3, 4]]]),
        (IMAGE, [[[1, 2], [3, 4]]], [[[1, 2], [3, 4]]]),
        (TEXT, ["a", "é"], ["a", "é"]),
        (TEXT, [["a"], ["b"]], ["a", "b"]),
        (ANY, [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (ANY, [5, 6], [[5], [6]]),
        (ANY, [[[1, 2]], [[3, 4]]], [[1, 2], [3, 4]]),
        ({"x": ("INT8", ("n", "m", 2))}, [[1, 2, 3, 4]], [[[1, 2], [3, 4]]]),
        ({"x": ("INT8", ("n", 1))}, [1, 2], [[1], [2]]),
        (SCALAR, [1.5], 1.5),
        ({"x": ("FP32", (3,))}, [1, 2, 3], [1, 2, 3]),
        ({"x": ("BOOL", ("n", 2))}, [[True, False]], [[True, False]]),
    ],
)
def test_rows_of_one_input(model: Make, inputs: Inputs, rows: list[Any], expected: Any) -> None:
    assert lists(rows, model(inputs)) == {"x": (inputs["x"][0], expected)}


def test_null_is_nan(model: Make) -> None:
    array = to_request([[1, None, 3]], model(ROW)).inputs["x"].array
    assert np.array_equal(array, np.array([[1, math.nan, 3]], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([[1, "a"], [2, "b"]], ()),
        ([["a", 1], ["b", 2]], ("name", "age")),
        ([{"name": "a", "age": 1}, {"age": 2, "name": "b"}], ()),
        ([{"name": "a", "age": [1]}, {"name": "b", "age": [2]}], ("age", "name")),
    ],
)
def test_rows_of_several_inputs(model: Make, rows: list[Any], columns: Sequence[str]) -> None:
    expected = {"age": ("FP32", [[1], [2]]), "name": ("BYTES", ["a", "b"])}
    assert lists(rows, model(COLUMNS, columns)) == expected


def test_named_rows_of_one_input(model: Make) -> None:
    assert lists([{"x": [1, 2, 3]}], model(ROW)) == {"x": ("FP32", [[1, 2, 3]])}


WHAT = "input 'x' for model 'm'"


@pytest.mark.parametrize(
    ("inputs", "rows", "message"),
    [
        (ROW, [], "there are no rows for model 'm'"),
        (ROW, [[1, 2]], f"each row of {WHAT} must have the shape [3], got [2]"),
        (ROW, [1, 2], f"each row of {WHAT} must have the shape [3], got []"),
        (ROW, [[]], f"each row of {WHAT} must have the shape [3], got [0]"),
        (ROW, [[1, 2, 3], [4, 5]], f"{WHAT} is ragged"),
        (ROW, [[1, 2, 3], 4], f"{WHAT} is ragged"),
        (ROW, [[1, 2, [3]]], f"{WHAT} is ragged"),
        (ROW, [[1, 2, "3"]], f"{WHAT} must hold numbers or null for FP32, got the string '3'"),
        (ROW, [[1, 2, {}]], f"{WHAT} must hold numbers or null for FP32, got an object"),
        (IMAGE, [[1, 2, 3]], f"each row of {WHAT} must have the shape [2, 2], got [3]"),
        (IMAGE, [[1, 2, 3, 256]], f"256 is out of range for {WHAT}"),
        ({"x": ("INT8", ("n", "m", 2))}, [[1, 2, 3]], f"each row of {WHAT} must have the shape [-1, 2], got [3]"),
        ({"x": ("INT8", ("n", "m", 0))}, [[1, 2]], f"each row of {WHAT} must have the shape [-1, 0], got [2]"),
        (TEXT, [1], f"{WHAT} must hold strings for BYTES, got the number 1"),
        (ROW, [{"y": [1, 2, 3]}], "unknown column 'y'; model 'm' takes x"),
        (COLUMNS, [{"age": 1, "sex": 2}], "unknown column 'sex'; model 'm' takes age, name"),
        (
            COLUMNS,
            [{"age": 1}, {"age": 1, "name": "a"}],
            "row 1 must be an object with the members of the first: age",
        ),
        (COLUMNS, [{"age": 1}, [1]], "row 1 must be an object with the members of the first: age"),
        (COLUMNS, [[1, "a"], [1]], "row 1 for model 'm' must hold 2 values (age, name), got 1 values"),
        (COLUMNS, [1, 2], "row 0 for model 'm' must hold 2 values (age, name), got a single value"),
        (COLUMNS, [[1, "a"], {"age": 1}], "row 1 for model 'm' must hold 2 values (age, name), got a single value"),
    ],
)
def test_what_does_not_fit(model: Make, inputs: Inputs, rows: list[Any], message: str) -> None:
    text = refused(rows, model(inputs))
    assert text.startswith(message)
    assert text == message or not message.startswith(("each", "unexpected", "unknown", "row", "there"))


@pytest.mark.parametrize("depth", [65, 100, 101, 900, 5000])
@pytest.mark.parametrize("inputs", [ROW, ANY, TEXT, COLUMNS], ids=["row", "any", "text", "columns"])
def test_deep_nests(model: Make, inputs: Inputs, depth: int) -> None:
    nest: Any = 1
    for _ in range(depth):
        nest = [nest]
    if inputs is COLUMNS:
        nest = [{"age": nest, "name": "a"}]
    assert len(refused(nest, model(inputs))) < 400
    assert isinstance(as_rows(nest, model(inputs)), list)


@pytest.mark.parametrize(
    ("inputs", "features", "expected"),
    [
        # A row is as long as the input says, anything else is a list of rows.
        (ROW, [1, 2, 3], [[1, 2, 3]]),
        (ROW, [[1, 2, 3]], [[1, 2, 3]]),
        (ROW, [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]]),
        (IMAGE, [1, 2, 3, 4], [[1, 2, 3, 4]]),
        (IMAGE, [[1, 2], [3, 4]], [[[1, 2], [3, 4]]]),
        (IMAGE, [[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (IMAGE, [[[1, 2], [3, 4]]], [[[1, 2], [3, 4]]]),
        (TEXT, "a", ["a"]),
        (TEXT, ["a", "b"], ["a", "b"]),
        ({"x": ("INT8", ("n", 1))}, [1, 2], [1, 2]),
        ({"x": ("INT8", ("n", 1))}, 1, [1]),
        (SCALAR, 1, [1]),
        (ANY, [1, 2], [[1, 2]]),
        (COLUMNS, [1, "a"], [[1, "a"]]),
        (COLUMNS, [[1, "a"], [2, "b"]], [[1, "a"], [2, "b"]]),
        (COLUMNS, {"age": 1, "name": "a"}, [{"age": 1, "name": "a"}]),
        (COLUMNS, [{"age": 1, "name": "a"}], [{"age": 1, "name": "a"}]),
        (ROW, [], []),
        (ROW, None, [None]),
    ],
)
def test_as_rows(model: Make, inputs: Inputs, features: Any, expected: list[Any]) -> None:
    assert as_rows(features, model(inputs)) == expected


def test_a_model_that_requires_no_input(session: Callable[..., Session]) -> None:
    """All of its inputs have defaults in the model."""
    nothing = onnx_models.model(
        [onnx_models.helper.make_node("Identity", ["k"], ["y"])],
        [onnx_models.tensor("k", "FP32", (2,))],
        [onnx_models.tensor("y", "FP32", (2,))],
        [onnx_models.helper.make_tensor("k", onnx_models.ELEMENT_TYPES["FP32"], [2], [1.0, 2.0])],
    )
    loaded = session(nothing)
    model = Model("m", "1", ModelConfig(), loaded, "", 0, ModelStats(), RowProof(loaded, "", joined=False))
    assert as_rows([1, 2], model) == [[1, 2]]
    assert refused([[1, 2]], model) == "row 0 for model 'm' must hold 0 values (), got 2 values"
    assert lists([{"k": 5}, {"k": 6}], model) == {"k": ("FP32", [5, 6])}


@pytest.mark.parametrize(
    ("cell", "datatype", "expected"),
    [
        ("1.5", "FP32", 1.5),
        ("nan", "FP64", math.nan),
        (" 7 ", "INT8", 7),
        ("9007199254740993", "INT64", 2**53 + 1),
        ("3.0", "INT8", 3),
        ("-12345678901234567.00", "INT64", -12345678901234567),
        ("1e3", "INT64", 1000),
        ("True", "FP32", 1),
        ("FALSE", "INT8", 0),
        ("TRUE", "BOOL", True),
        ("0", "BOOL", False),
        ("1_000", "BYTES", "1_000"),
        ("", "BYTES", ""),
    ],
)
def test_from_text(cell: str, datatype: str, expected: Any) -> None:
    assert repr(from_text(cell, DATATYPES[datatype])) == repr(expected)


@pytest.mark.parametrize(("cell", "datatype"), [("1_000", "FP32"), ("1_000", "INT32"), ("", "FP32"), ("yes", "BOOL")])
def test_cells_that_are_no_value(cell: str, datatype: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{cell}' is found where {datatype} is expected"):
        from_text(cell, DATATYPES[datatype])


@pytest.mark.parametrize("cell", ["1.5", "15e-1", "0.1"])
def test_cells_that_are_not_whole(cell: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{cell} is no whole number, as INT8 is"):
        from_text(cell, DATATYPES["INT8"])


@pytest.mark.parametrize("cell", ["1e400", "-1e400", "1" + "0" * 400, "1e0400", "-9.9E+999"])
def test_cells_beyond_all_numbers(cell: str) -> None:
    with pytest.raises(InvalidRequest, match="is out of range for FP64; infinity is written inf"):
        from_text(cell, DATATYPES["FP64"])


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "-INFINITY", "+inf"])
def test_infinity_in_cells(cell: str) -> None:
    assert from_text(cell, DATATYPES["FP32"]) == (-math.inf if cell.startswith("-") else math.inf)


def response(**outputs: tuple[str, Any]) -> InferResponse:
    tensors = [
        Tensor(name, DATATYPES[datatype], np.array(value, DATATYPES[datatype].dtype))
        for name, (datatype, value) in outputs.items()
    ]
    return InferResponse("m", "1", tensors)


@pytest.mark.parametrize(
    ("outputs", "count", "expected"),
    [
        ({"y": ("INT64", [7, 8])}, 2, [{"y": 7}, {"y": 8}]),
        ({"y": ("FP32", [[0.5], [1.5]])}, 2, [{"y": 0.5}, {"y": 1.5}]),
        (
            {"label": ("BYTES", ["a", "b"]), "p": ("FP64", [[0.1, 0.9], [0.8, 0.2]])},
            2,
            [{"label": "a", "p": [0.1, 0.9]}, {"label": "b", "p": [0.8, 0.2]}],
        ),
        ({"y": ("BYTES", [["a", "b"], ["c", "d"]])}, 2, [{"y": ["a", "b"]}, {"y": ["c", "d"]}]),
        ({"y": ("UINT8", [[[1, 2], [3, 4]]])}, 1, [{"y": [[1, 2], [3, 4]]}]),
        ({"y": ("BF16", [[0x3FC0, 0xC000]])}, 1, [{"y": [1.5, -2.0]}]),
        ({"y": ("FP16", [[0.5, 2]])}, 1, [{"y": [0.5, 2.0]}]),
        ({"y": ("BOOL", [True, False])}, 2, [{"y": True}, {"y": False}]),
        ({"y": ("UINT64", [2**64 - 1])}, 1, [{"y": 2**64 - 1}]),
        # Outputs without a row per row.
        ({"y": ("FP32", 1.5)}, 1, [{"y": 1.5}]),
        ({"y": ("BYTES", "a")}, 1, [{"y": "a"}]),
        ({"y": ("INT8", [1, 2, 3])}, 1, [{"y": [1, 2, 3]}]),
        ({"a": ("INT8", [[1, 2]]), "b": ("INT8", 9)}, 1, [{"a": [1, 2], "b": 9}]),
        # Nothing in them.
        ({"y": ("FP32", np.empty((2, 0)))}, 2, [{"y": []}, {"y": []}]),
        ({"y": ("FP32", np.empty((2, 0, 3)))}, 2, [{"y": []}, {"y": []}]),
        ({"y": ("BYTES", np.empty((2, 3, 0), object))}, 2, [{"y": [[], [], []]}, {"y": [[], [], []]}]),
        ({"y": ("FP32", [])}, 0, []),
    ],
)
def test_from_response(outputs: dict[str, tuple[str, Any]], count: int, expected: list[Any]) -> None:
    assert written(from_responses([response(**outputs)], count, frozenset(outputs))) == expected


def test_from_a_response_for_each_row() -> None:
    """`hits` are all that a row has: it may be one."""
    responses = [
        response(y=("FP32", [[0.5, 1]]), hits=("INT64", [[0, 1]])),
        response(y=("FP32", [[2, 3]]), hits=("INT64", [[0, 1], [2, 3]])),
    ]
    assert written(from_responses(responses, 2, frozenset({"y"}))) == [
        {"y": [0.5, 1.0], "hits": [[0, 1]]},
        {"y": [2.0, 3.0], "hits": [[0, 1], [2, 3]]},
    ]


def test_text_that_json_can_not_hold() -> None:
    with pytest.raises(InvalidRequest, match="output 'y' is not valid UTF-8"):
        from_responses([response(y=("BYTES", ["\ud800"]))], 1, frozenset("y"))


def written(rows: list[dict[str, Any]]) -> Any:
    """As the caller gets them."""
    return orjson.loads(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY))


def test_single_precision_keeps_its_own_digits() -> None:
    (row,) = from_responses([response(y=("FP32", [[0.1, 0.3]]))], 1, frozenset("y"))
    assert orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) == b'{"y":[0.1,0.3]}'


def test_the_integers_of_onnxruntime_are_written() -> None:
    found = InferResponse("m", "1", [Tensor("y", DATATYPES["INT64"], np.array([7], np.longlong))])
    (row,) = from_responses([found], 1, frozenset("y"))
    assert written([row]) == [{"y": 7}]


def test_there_and_back(model: Make) -> None:
    echo = model(COLUMNS)
    given = [{"age": 1.5, "name": "a"}, {"age": -2.0, "name": "é"}]
    tensors = list(to_request(given, echo).inputs.values())
    assert written(from_responses([InferResponse("m", "1", tensors)], 2, frozenset({"age", "name"}))) == given


PIXELS: Inputs = {"x": ("FP32", ("n", "height", 5, 3))}
STEPS: Inputs = {"x": ("FP32", ("n", "steps", 3))}


@pytest.mark.parametrize(
    ("inputs", "shape", "expected"),
    [
        (PIXELS, (4, 5, 3), (1, 4, 5, 3)),
        (PIXELS, (2, 4, 5, 3), (2, 4, 5, 3)),
        (PIXELS, (2, 60), (2, 4, 5, 3)),
        (PIXELS, (60,), (1, 4, 5, 3)),
        (STEPS, (7, 3), (1, 7, 3)),
        (STEPS, (1, 7, 3), (1, 7, 3)),
        (STEPS, (2, 21), (2, 7, 3)),
    ],
)
def test_rows_by_their_rank(model: Make, inputs: Inputs, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """A list that is nested as a row is one, and values keep their order."""
    features = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    made = model(inputs)
    array = to_request(as_rows(features.tolist(), made), made).inputs["x"].array
    assert (array.shape, array.tolist()) == (expected, features.reshape(expected).tolist())


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (2, 5, 4, 3), (3, 4, 5), (2, 4, 15, 1)])
def test_rows_of_their_own_rank_are_not_reshaped(model: Make, shape: tuple[int, ...]) -> None:
    made = model({"x": ("FP32", ("n", 4, 5, 3))})
    features = np.zeros(shape).tolist()
    with pytest.raises(InvalidRequest, match=r"must have the shape \[4, 5, 3\], got"):
        to_request(as_rows(features, made), made)
