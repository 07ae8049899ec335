"""Tensor data in JSON: what each datatype takes, exactly, whichever parser reads it."""

import math
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from inferry.errors import InvalidRequest
from inferry.protocol.tensors import ALIGNMENT, DATATYPES
from wire import READERS, decode, document, member, same, with_data

WHAT = "input 'x' for model 'm'"
INF, NAN = math.inf, math.nan

GIVEN = [
    ("BOOL", [2], "[true,false]", [True, False]),
    ("UINT8", [2], "[0,255]", [0, 255]),
    ("UINT16", [1], "[65535]", [65535]),
    ("UINT32", [1], "[4294967295]", [2**32 - 1]),
    ("UINT64", [3], "[18446744073709551615,9007199254740993,0]", [2**64 - 1, 2**53 + 1, 0]),
    ("INT8", [2], "[-128,127]", [-128, 127]),
    ("INT16", [2], "[-32768,32767]", [-32768, 32767]),
    ("INT32", [2], "[-2147483648,2147483647]", [-(2**31), 2**31 - 1]),
    ("INT64", [3], "[9007199254740993,-9223372036854775808,9223372036854775807]", [2**53 + 1, -(2**63), 2**63 - 1]),
    ("FP16", [4], "[1,-2.5,65504,65519.99]", [1, -2.5, 65504, 65504]),
    ("FP16", [3], "[6e-8,2.9e-8,-6e-8]", [2.0**-24, 0.0, -(2.0**-24)]),
    ("FP16", [2], "[6.097e-5,6.104e-5]", [1023 * 2.0**-24, 2.0**-14]),
    ("FP32", [4], "[1,2.5,-0.0,1e-45]", [1, 2.5, -0.0, 2.0**-149]),
    ("FP32", [1], "[16777217]", [16777216]),
    ("FP64", [2], "[0.1,9007199254740993]", [0.1, 2.0**53]),
    ("FP64", [2], "[5e-324,1.7976931348623157e308]", [5e-324, 1.7976931348623157e308]),
    ("FP64", [2], "[18446744073709551615,-9223372036854775808]", [2.0**64, -(2.0**63)]),
    # JavaScript and Go write floats under 1e21 without an exponent.
    ("FP64", [2], "[100000000000000000000,-100000000000000000000]", [1e20, -1e20]),
    ("FP32", [1], "[340282346638528859811704183484516925440]", [3.4028234663852886e38]),
    ("BYTES", [5], r'["a","é","","\u0000\ud83d\ude00","[[,"]', ["a", "é", "", "\0😀", "[[,"]),
    # null is what kserve writes for a float that JSON has no number for.
    ("FP16", [2], "[null,1]", [NAN, 1]),
    ("FP32", [2], "[1.5,null]", [1.5, NAN]),
    ("FP64", [3], "[null,null,1e308]", [NAN, NAN, 1e308]),
    # Scalars, empty tensors, nested and flat.
    ("INT32", [], "[7]", 7),
    ("BYTES", [], '["a"]', "a"),
    ("FP32", [0], "[]", []),
    ("BYTES", [0], "[]", []),
    ("FP32", [0, 3], "[]", np.empty((0, 3))),
    ("BOOL", [2, 0], "[[],[]]", [[], []]),
    ("FP32", [2, 0], "[]", [[], []]),
    ("FP32", [2, 3], "[1,2,3,4,5,6]", [[1, 2, 3], [4, 5, 6]]),
    ("FP32", [2, 3], "[[1,2,3],[4,5,6]]", [[1, 2, 3], [4, 5, 6]]),
    ("BYTES", [2, 1], '[["a"],["b"]]', [["a"], ["b"]]),
    ("FP32", [2, 2], "[[1,null],[3,4]]", [[1, NAN], [3, 4]]),
    ("INT64", [1, 1, 1], "[[[5]]]", [[[5]]]),
    ("UINT8", [2, 1, 2], "[[[1,2]],[[3,4]]]", [[[1, 2]], [[3, 4]]]),
    ("INT8", [1] * 64, "[5]", np.full((1,) * 64, 5)),
    ("INT8", [1] * 64, "[" * 64 + "5" + "]" * 64, np.full((1,) * 64, 5)),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("datatype", "shape", "data", "expected"), GIVEN)
def test_given(datatype: str, shape: list[int], data: str, expected: Any, reader: str) -> None:
    tensor = decode(with_data(datatype, shape, data, reader)).inputs["x"]
    assert tensor.datatype is DATATYPES[datatype]
    assert same(tensor.array, np.array(expected, DATATYPES[datatype].dtype))
    assert DATATYPES[datatype].dtype.hasobject or tensor.array.__array_interface__["data"][0] % ALIGNMENT == 0


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_tokens(datatype: str) -> None:
    """tritonclient writes what JSON has no numbers for as bare tokens."""
    tensor = decode(with_data(datatype, [2, 3], "[[NaN,Infinity,-Infinity],[1.5,null,-0.0]]")).inputs["x"]
    expected = [[NAN, INF, -INF], [1.5, NAN, -0.0]]
    assert same(tensor.array, np.array(expected, DATATYPES[datatype].dtype))


@pytest.mark.parametrize("reader", READERS)
def test_bfloat16(reader: str) -> None:
    """Rounded to the nearest, ties to even, as ml_dtypes does; 1.00390625 is a tie."""
    texts = ["1", "-2.5", "0.1", "1.00390625", "1.01171875", "3.3895e38", "1e-40", "-0.0", "65504"]
    tensor = decode(with_data("BF16", [len(texts)], f"[{','.join(texts)}]", reader)).inputs["x"]
    expected = np.array([float(text) for text in texts], np.float32).astype(ml_dtypes.bfloat16)
    assert tensor.array.tolist() == expected.view(np.uint16).tolist()


def test_bfloat16_tokens() -> None:
    tensor = decode(with_data("BF16", [3], "[Infinity,-Infinity,NaN]")).inputs["x"]
    assert tensor.array[:2].tolist() == [0x7F80, 0xFF80]
    assert np.isnan(tensor.array[2:].view(ml_dtypes.bfloat16).astype(np.float32)).all()


WRONG = [
    ("BOOL", "[1]", "true and false for BOOL, got the number 1"),
    ("BOOL", "[null]", "true and false for BOOL, got null"),
    ("INT8", "[true]", "integers for INT8, got true"),
    ("INT64", "[1.0]", "integers for INT64, got the number 1.0"),
    ("INT32", "[1,null]", "integers for INT32, got null"),
    ("UINT64", '["1"]', "integers for UINT64, got the string '1'"),
    ("FP32", "[1,true]", "numbers or null for FP32, got true"),
    ("FP32", "[false]", "numbers or null for FP32, got false"),
    ("FP64", '["NaN"]', "numbers or null for FP64, got the string 'NaN'"),
    ("FP64", f'["{"x" * 99}"]', f"numbers or null for FP64, got the string '{'x' * 40}'"),
    ("FP16", "[{}]", "numbers or null for FP16, got an object"),
    ("BYTES", "[1]", "strings for BYTES, got the number 1"),
    ("BYTES", '["a",null]', "strings for BYTES, got null"),
    ("BYTES", '[{"a":1}]', "strings for BYTES, got an object"),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("datatype", "data", "message"), WRONG)
def test_wrong_elements(datatype: str, data: str, message: str, reader: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(with_data(datatype, [data.count(",") + 1], data, reader))
    assert str(caught.value) == f"{WHAT} must hold {message}"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("UINT8", "[0,256]", f"256 is out of range for {WHAT}: UINT8 holds 0 to 255"),
        ("UINT8", "[-1,0]", f"-1 is out of range for {WHAT}: UINT8 holds 0 to 255"),
        ("UINT64", "[-1]", f"-1 is out of range for {WHAT}: UINT64 holds 0 to {2**64 - 1}"),
        ("INT8", "[-129]", f"-129 is out of range for {WHAT}: INT8 holds -128 to 127"),
        ("INT32", f"[{2**31}]", f"{2**31} is out of range for {WHAT}: INT32 holds {-(2**31)} to {2**31 - 1}"),
        ("INT64", f"[{2**63}]", f"{2**63} is out of range for {WHAT}: INT64 holds {-(2**63)} to {2**63 - 1}"),
        ("FP16", "[65520]", f"a number is out of range for {WHAT}: FP16 can't hold it"),
        ("FP16", "[65520,null]", f"a number is out of range for {WHAT}: FP16 can't hold it"),
        ("BF16", "[3.3961775292304602e38]", f"a number is out of range for {WHAT}: BF16 can't hold it"),
        ("BF16", "[-1e39,null]", f"a number is out of range for {WHAT}: BF16 can't hold it"),
        ("BF16", "[1,3.3961775292304602e38,2]", f"a number is out of range for {WHAT}: BF16 can't hold it"),
        ("FP32", "[3.5e38]", f"a number is out of range for {WHAT}: FP32 can't hold it"),
        ("FP32", "[null,-3.5e38]", f"a number is out of range for {WHAT}: FP32 can't hold it"),
    ],
)
def test_out_of_range(datatype: str, data: str, message: str, reader: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(with_data(datatype, [data.count(",") + 1], data, reader))
    assert str(caught.value) == message


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("datatype", ["FP32", "INT64", "UINT64"])
def test_integers_beyond_64_bits(datatype: str, reader: str) -> None:
    """A float when that is asked for, an error otherwise; never another number."""
    body = with_data(datatype, [1], "[18446744073709551616]", reader)
    if datatype == "FP32":
        assert decode(body).inputs["x"].array.tolist() == [2.0**64]
        return
    with pytest.raises(InvalidRequest, match=r"out of range|must hold integers"):
        decode(body)


def test_more_digits_than_python_converts() -> None:
    for body in (with_data("INT64", [2], f"[{'9' * 5000},1]"), with_data("FP64", [2], f"[{'9' * 5000},NaN]")):
        with pytest.raises(InvalidRequest):
            decode(body)


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BYTES"])
@pytest.mark.parametrize(
    ("shape", "data"),
    [
        # The right number of elements, in another nest than the shape's: what simdjson's flat buffers can't tell.
        ([2, 2], "[[1],[2,3,4]]"),
        ([2, 2], "[[1,2,3],[4]]"),
        ([3], "[1,[],[2,3]]"),
        ([3], "[1,2,3,[]]"),
        ([3], "[[],1,2,3]"),
        ([3], "[[1,2,3]]"),
        ([3], "[[1],[2],[3]]"),
        ([1], "[[1]]"),
        ([], "[[1]]"),
        ([3, 2], "[[1,2,3],[4,5,6]]"),
        ([6], "[[1,2,3],[4,5,6]]"),
        ([2, 3], "[[[1,2,3],[4,5,6]]]"),
        ([2, 2], "[[1,2],3,4]"),
        ([2, 2], "[1,2,[3,4]]"),
        ([2, 2], "[[1,2],[3,[4]]]"),
        ([2, 2], "[[1,2],[[3,4]]]"),
        ([2, 2], "[[1,2],[3,4],[]]"),
        ([2, 1, 2], "[[[1,2]],[3,4]]"),
        ([2, 2, 1], "[[[1],[2]],[[3,4],[]]]"),
        ([0], "[[]]"),
        ([0, 2], "[[],[]]"),
        ([2, 0], "[[]]"),
        ([0], "[[[[]]]]"),
    ],
)
def test_ragged(shape: list[int], data: str, datatype: str) -> None:
    if datatype == "BYTES":
        data = "".join(f'"{char}"' if char.isdigit() else char for char in data)
    for reader in READERS:
        with pytest.raises(InvalidRequest) as caught:
            decode(with_data(datatype, shape, data, reader))
        start, end = f"{WHAT} is ragged: give its ", f" as one flat array, or nested as the shape {shape}"
        assert str(caught.value).startswith(start), reader
        assert str(caught.value).endswith(end), reader


@pytest.mark.parametrize(("reader", "elements"), [("small", "its elements"), ("large", "its 4 elements")])
def test_ragged_message(reader: str, elements: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(with_data("FP32", [2, 2], "[[1],[2,3,4]]", reader))
    assert str(caught.value) == (f"{WHAT} is ragged: give {elements} as one flat array, or nested as the shape [2, 2]")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("datatype", ["INT64", "BYTES"])
@pytest.mark.parametrize(
    ("shape", "data", "wanted", "got"),
    [([3], "[1,2]", 3, 2), ([2, 2], "[1,2,3,4,5]", 4, 5), ([0], "[1]", 0, 1), ([1], "[]", 1, 0), ([], "[1,2]", 1, 2)],
)
def test_wrong_count(shape: list[int], data: str, wanted: int, got: int, datatype: str, reader: str) -> None:
    if datatype == "BYTES":
        data = "".join(f'"{char}"' if char.isdigit() else char for char in data)
    with pytest.raises(InvalidRequest) as caught:
        decode(with_data(datatype, shape, data, reader))
    message = f"unexpected number of elements for {WHAT}: shape {shape} takes {wanted}, got {got}"
    assert str(caught.value) == message


@pytest.mark.parametrize("reader", READERS)
def test_one_ragged_tensor_beside_others(reader: str) -> None:
    """What is found out about one input says nothing about the next."""
    good = member("FP32", [2, 2], "[[1,2],[3,4]]", "a")
    bad = member("FP32", [2, 2], "[[1],[2,3,4]]", "b")
    for members in (f"{good},{bad}", f"{bad},{good}"):
        with pytest.raises(InvalidRequest, match="input 'b' for model 'm' is ragged"):
            decode(document(f'"inputs":[{members}]', reader))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("data", ["1", '"abc"', "true", "{}"])
def test_data_that_is_no_array(data: str, reader: str) -> None:
    got = {"1": "the number 1", '"abc"': "the string 'abc'", "true": "true", "{}": "an object"}[data]
    with pytest.raises(InvalidRequest) as caught:
        decode(with_data("FP32", [1], data, reader))
    assert str(caught.value) == f"'data' of {WHAT} must be an array, got {got}"


@pytest.mark.parametrize("depth", [64, 65, 100, 101, 900, 990, 1000, 1010, 1023, 1024, 1025, 5000, 100_000])
@pytest.mark.parametrize(("datatype", "item"), [("FP32", "1"), ("FP32", "null"), ("BYTES", '"a"'), ("INT8", "")])
def test_deep_nests(datatype: str, item: str, depth: int) -> None:
    for reader in READERS:
        with pytest.raises(InvalidRequest):
            decode(with_data(datatype, [1], "[" * depth + item + "]" * depth, reader))


@pytest.mark.parametrize("reader", READERS)
def test_large_tensors_are_exact(reader: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2**64, (100, 7), np.uint64)
    text = str(array.tolist())
    assert same(decode(with_data("UINT64", [100, 7], text, reader)).inputs["x"].array, array)
    floats = np.frombuffer(rng.bytes(8 * 700), np.float64)
    floats = floats[np.isfinite(floats)]
    text = str(floats.tolist())
    decoded = decode(with_data("FP64", floats.shape, text, reader)).inputs["x"].array
    assert decoded.tobytes() == struct.pack(f"<{len(floats)}d", *floats)
