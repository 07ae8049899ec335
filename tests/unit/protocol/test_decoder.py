"""The Open Inference Protocol on the wire: what clients really send, and every rule that a body can break."""

import json
import math
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from inferry.errors import DataRefused, InvalidRequest, NotSupported, RequestTooLarge
from inferry.protocol import decoder
from inferry.protocol.encoder import encode
from inferry.protocol.json_documents import COUNTED, REUSED, is_array, is_object, parse, plain
from inferry.protocol.signature import Known
from inferry.protocol.tensors import DATATYPES, Tensor, bfloat16_from_float32
from inferry.protocol.types import InferRequest, InferResponse, RequestedOutput
from wire import KNOWN, READERS, arrays, as_json, decode, document, member, same, with_data

ONE = member("FP32", [1], "[1]")
WHAT = "input 'x' for model 'm'"
JSON = [(b"content-type", b"application/json")]


def tensor(name: str, datatype: str, value: Any) -> Tensor:
    return Tensor(name, DATATYPES[datatype], np.array(value, DATATYPES[datatype].dtype))


def octets(length: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", str(length).encode()),
    ]


def binary_input(size: Any, datatype: str = "FP32", shape: str = "[2]", name: str = "x") -> str:
    parameters = f'{{"binary_data_size":{json.dumps(size)}}}'
    return f'{{"name":"{name}","shape":{shape},"datatype":"{datatype}","parameters":{parameters}}}'


def refused(
    body: bytes,
    header_length: int | str | None = None,
    error: type[Exception] = InvalidRequest,
    known: Known = KNOWN,
) -> str:
    with pytest.raises(error) as caught:
        decode(body, header_length, known)
    assert type(caught.value) is error
    return str(caught.value)


# What the clients send, recorded byte by byte.

TRITONCLIENT = (
    b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}],'
    b'"parameters":{"binary_data_output":true}}\x00\x00\x80?\x00\x00\x00@'
)
MIXED = (
    b'{"inputs":[{"name":"a","shape":[2],"datatype":"FP32","data":[1.0,2.0]},'
    b'{"name":"b","shape":[2],"datatype":"INT64","parameters":{"binary_data_size":16}}],'
    b'"outputs":[{"name":"b","parameters":{"binary_data":false}},{"name":"a","parameters":{"binary_data":true}}]}'
    b"\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0"
)
KSERVE_BYTES = (
    b'{"id":"9c06","model_name":"echo","inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES",'
    b'"parameters":{"binary_data_size":11}}]}\x01\0\0\0a\x02\0\0\0\xc3\xa9'
)
KSERVE_EMPTY = (
    b'{"id":"9c06","model_name":"echo","inputs":[{"name":"x","shape":[0,2],"datatype":"FP32",'
    b'"parameters":{"binary_data_size":0},"data":null}]}'
)
KSERVE_NAN = b'{"id":"9c06","inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1.0,null]}]}'
TRITONCLIENT_NAN = (
    b'{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","data":[NaN,Infinity,-Infinity]}],'
    b'"outputs":[{"name":"y","parameters":{"binary_data":false,"classification":2}}]}'
)
PERF_ANALYZER = b'{"inputs":[{"name":"x","shape":[1],"datatype":"INT32","data":[5]}]}'

GOLDEN = [
    (TRITONCLIENT, 132, {"x": [1.0, 2.0]}, (), True, None),
    (MIXED, 260, {"a": [1.0, 2.0], "b": [3, 4]}, (("b", False, 0), ("a", True, 0)), False, None),
    (KSERVE_BYTES, len(KSERVE_BYTES) - 11, {"x": [["a", "é"]]}, (), False, "9c06"),
    (KSERVE_EMPTY, None, {"x": []}, (), False, "9c06"),
    (KSERVE_NAN, None, {"x": [1.0, None]}, (), False, "9c06"),
    (TRITONCLIENT_NAN, None, {"x": [None, math.inf, -math.inf]}, (("y", False, 2),), False, None),
    # The C++ client always sends the header.
    (PERF_ANALYZER, len(PERF_ANALYZER), {"x": [5]}, (), False, None),
]


@pytest.mark.parametrize(
    ("body", "header_length", "inputs", "outputs", "binary", "id"),
    GOLDEN,
    ids=["tritonclient", "mixed", "kserve-bytes", "kserve-empty", "kserve-nan", "tritonclient-nan", "perf_analyzer"],
)
def test_golden_requests(
    body: bytes, header_length: int | None, inputs: dict[str, Any], outputs: tuple[Any, ...], binary: bool, id: str
) -> None:
    request = decode(body, header_length)
    values = {name: array.tolist() for name, array in arrays(request).items()}
    nans = {name: [None if v != v else v for v in value] for name, value in values.items()}
    assert nans == inputs
    assert request.outputs == tuple(RequestedOutput(*output) for output in outputs)
    assert (request.binary, request.id, request.timeout, request.raw) == (binary, id, None, None)


def test_golden_datatypes_and_shapes() -> None:
    assert [(t.name, t.datatype.name, t.array.shape) for t in decode(MIXED, 260).inputs.values()] == [
        ("a", "FP32", (2,)),
        ("b", "INT64", (2,)),
    ]
    assert decode(KSERVE_EMPTY).inputs["x"].array.shape == (0, 2)


def test_golden_answer() -> None:
    """The answer to the mixed request that tritonclient is known to read."""
    outputs = [tensor("b", "INT64", [3, 4]), tensor("a", "FP32", [1, 2])]
    text = (
        b'{"model_name":"echo","model_version":"1","outputs":[{"name":"b","datatype":"INT64","shape":[2],"data":[3,4]},'
        b'{"name":"a","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}'
    )
    answer = encode(InferResponse("echo", "1", outputs, frozenset("a")))
    assert answer == (text + b"\x00\x00\x80?\x00\x00\x00@", octets(len(text)))


# Answers.


@pytest.mark.parametrize(
    ("datatype", "value", "shape", "data"),
    [
        ("BOOL", [True, False], [2], "[true,false]"),
        ("UINT64", [2**64 - 1, 2**53 + 1], [2], "[18446744073709551615,9007199254740993]"),
        ("INT64", [[-(2**63)], [2**53 + 1]], [2, 1], "[-9223372036854775808,9007199254740993]"),
        ("INT8", [[1, 2], [3, 4]], [2, 2], "[1,2,3,4]"),
        ("UINT16", 7, [], "[7]"),
        ("FP32", [0.1, math.nan, math.inf, -math.inf], [4], "[0.1,null,null,null]"),
        ("FP64", [0.1, math.nan, -0.0], [3], "[0.1,null,-0.0]"),
        ("FP16", [0.5, math.nan, 65504, 2.0**-24], [4], "[0.5,null,65504.0,5.9604645e-8]"),
        ("FP32", [], [0], "[]"),
        ("FP32", np.empty((2, 0, 3)), [2, 0, 3], "[]"),
        ("BYTES", [["a", 'é"\n\0']], [1, 2], r'["a","é\"\n\u0000"]'),
        ("BYTES", "a", [], '["a"]'),
        ("BYTES", [], [0], "[]"),
    ],
)
def test_json_outputs(datatype: str, value: Any, shape: list[int], data: str) -> None:
    body, headers = encode(InferResponse("m", "2", [tensor("y", datatype, value)]))
    expected = (
        f'{{"model_name":"m","model_version":"2","outputs":[{{"name":"y","datatype":"{datatype}",'
        f'"shape":{json.dumps(shape, separators=(",", ":"))},"data":{data}}}]}}'
    )
    assert (body.decode(), headers) == (expected, JSON)


def test_bfloat16_output_is_floats() -> None:
    bits = bfloat16_from_float32(np.array([1.5, -2, math.nan, math.inf], np.float32))
    body, _ = encode(InferResponse("m", "1", [tensor("y", "BF16", bits)]))
    assert json.loads(body)["outputs"][0]["data"] == [1.5, -2.0, None, None]


@pytest.mark.parametrize(
    ("datatype", "value", "raw"),
    [
        ("FP32", [[1.0], [math.nan]], b"\0\0\x80\x3f\0\0\xc0\x7f"),
        ("BF16", [0x3F80], b"\x80\x3f"),
        ("BYTES", ["é", ""], b"\2\0\0\0\xc3\xa9\0\0\0\0"),
        ("BOOL", True, b"\1"),
        ("INT16", np.arange(4).reshape(2, 2).T, b"\0\0\2\0\1\0\3\0"),
        ("FP32", np.empty((0, 4)), b""),
    ],
)
def test_binary_outputs(datatype: str, value: Any, raw: bytes) -> None:
    given = tensor("y", datatype, value)
    body, headers = encode(InferResponse("m", "1", [given], frozenset("y"), "q"))
    output = {"name": "y", "datatype": datatype, "shape": list(given.array.shape)}
    text = as_json(
        {
            "model_name": "m",
            "model_version": "1",
            "outputs": [{**output, "parameters": {"binary_data_size": len(raw)}}],
            "id": "q",
        }
    )
    assert (body, headers) == (text + raw, octets(len(text)))


def test_binary_outputs_follow_the_order_of_the_json() -> None:
    outputs = [tensor(name, "UINT8", [value]) for name, value in zip("zay", (1, 2, 3), strict=True)]
    body, headers = encode(InferResponse("m", "1", outputs, frozenset("yz")))
    text, raw = body[: int(headers[1][1])], body[int(headers[1][1]) :]
    assert [output["name"] for output in json.loads(text)["outputs"]] == ["z", "a", "y"]
    assert raw == b"\1\3"


@pytest.mark.parametrize("id", ["", "a", 'é"', "x" * 1000])
def test_ids_are_echoed(id: str) -> None:
    request = decode(as_json({"id": id, "inputs": [json.loads(ONE)]}))
    body, _ = encode(InferResponse("m", "1", [], id=request.id))
    assert json.loads(body) == {"model_name": "m", "model_version": "1", "outputs": [], "id": id}


def test_no_id_in_no_id_out() -> None:
    for members in (f'"inputs":[{ONE}]', f'"id":null,"inputs":[{ONE}]'):
        body, _ = encode(InferResponse("m", "1", [], id=decode(document(members)).id))
        assert json.loads(body) == {"model_name": "m", "model_version": "1", "outputs": []}


# The header.


@pytest.mark.parametrize(
    "header",
    ["", "-1", "+67", " 67", "67 ", "6_7", "67.0", "0x43", "six", "٣", "68", "1" * 21, "0" * 5000, "0" * 20 + "99"],
)
def test_bad_header_lengths(header: str) -> None:
    raw = header.encode()
    with pytest.raises(InvalidRequest) as caught:
        decoder.decode(PERF_ANALYZER, raw, KNOWN)
    assert str(caught.value) == (
        f"Inference-Header-Content-Length must be a number from 0 to the body's 67 bytes, "
        f"got {raw[:40].decode('latin-1')!r}"
    )


def test_header_length_off_by_one() -> None:
    assert "the request is not JSON" in refused(TRITONCLIENT, 131)
    assert "the request is not JSON" in refused(TRITONCLIENT, 133)
    assert "the request is not JSON" in refused(TRITONCLIENT)
    assert refused(TRITONCLIENT, 140).startswith("the request is not JSON")


@pytest.mark.parametrize("body", [b"", b"\0\1\2", b'{"inputs":[]}'])
@pytest.mark.parametrize("header", ["0", "00"])
def test_raw_binary_request(body: bytes, header: str) -> None:
    """The model alone can describe it; all outputs are returned in binary."""
    assert decode(body, header) == InferRequest(raw=body, binary=True)


# Binary inputs.


def framed(text: str, tail: bytes) -> tuple[bytes, int]:
    return text.encode() + tail, len(text.encode())


def test_binary_inputs_are_taken_in_order() -> None:
    inputs = [
        binary_input(1, "UINT8", "[1]", "a"),
        member("UINT8", [1], "[9]", "b"),
        binary_input(0, "UINT8", "[0]", "c"),
        binary_input(2, "UINT8", "[2]", "d"),
    ]
    request = decode(*framed(f'{{"inputs":[{",".join(inputs)}]}}', b"\1\2\3"))
    assert {name: array.tolist() for name, array in arrays(request).items()} == {
        "a": [1],
        "b": [9],
        "c": [],
        "d": [2, 3],
    }


@pytest.mark.parametrize(
    ("inputs", "tail", "message"),
    [
        (
            binary_input(8),
            b"\0" * 7,
            f"unexpected size for {WHAT}, expecting 1 additional bytes: 'binary_data_size' says 8, 7 are left of the "
            "body. Is Inference-Header-Content-Length set?",
        ),
        (
            binary_input(8),
            b"\0" * 9,
            "unexpected 1 bytes behind the request's JSON and its binary inputs for model 'm': check that no gateway "
            "changed the body, and Inference-Header-Content-Length",
        ),
        (
            ONE,
            b"\0",
            "unexpected 1 bytes behind the request's JSON and its binary inputs for model 'm': check that no gateway "
            "changed the body, and Inference-Header-Content-Length",
        ),
        (
            binary_input(4),
            b"\0" * 4,
            f"input byte size mismatch for {WHAT}. Expected 8 bytes for shape [2] of FP32, got 4",
        ),
        (binary_input(2, "BOOL"), b"\0\2", f"a BOOL of {WHAT} is a byte other than 0 and 1"),
        (
            binary_input(6, "BYTES"),
            b"\2\0\0\0ab",
            f"expected 2 string(s) for {WHAT}, but 6 bytes can't hold as many 4-byte lengths",
        ),
        (
            binary_input(8),
            b"",
            f"unexpected size for {WHAT}, expecting 8 additional bytes: 'binary_data_size' says 8, 0 are left of the "
            "body. Is Inference-Header-Content-Length set?",
        ),
    ],
)
def test_bad_binary_inputs(inputs: str, tail: bytes, message: str) -> None:
    assert refused(*framed(f'{{"inputs":[{inputs}]}}', tail)) == message


@pytest.mark.parametrize(
    ("size", "got"),
    [
        (-1, "the number -1"),
        (1.0, "the number 1.0"),
        (True, "true"),
        ("8", "the string '8'"),
        ([8], "an array"),
        ({"a": 1}, "an object"),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_bad_binary_sizes(size: Any, got: str, reader: str) -> None:
    body = document(f'"inputs":[{binary_input(size)}]', reader)
    assert refused(body) == f"'binary_data_size' of {WHAT} must be a number of bytes, got {got}"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "sets neither"),
        (',"data":null', "sets neither"),
        (',"data":null,"parameters":{"binary_data_size":null}', "sets neither"),
        (',"data":[],"parameters":{"binary_data_size":0}', "sets both"),
        (',"data":[1],"parameters":{"binary_data_size":4}', "sets both"),
    ],
)
def test_one_source_per_input(source: str, message: str, reader: str) -> None:
    assert refused(document(f'"inputs":[{{"name":"x","shape":[1],"datatype":"FP32"{source}}}]', reader)) == (
        f"Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters'; {WHAT} {message}"
    )


# Documents.


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "}", "nul", "{'inputs':[]}", '{"inputs":[],}', '{"a":1}{"b":2}', '{"a":01}', '{"a":+1}'),
        *('{"a":.5}', '{"a":1.}', '{"a":1e}', "{\"a\":'1'}", '{"a":"\t"}', r'{"a":"\x"}', r'{"a":"\u12"}'),
        *('{"a":"', '{"a":tru}', '{"a" 1}', "{1:2}", "\ufeff{}", r'{"a":"\ud800"}'),
    ],
)
@pytest.mark.parametrize("reader", ["small", "large", "token"])
def test_not_json(text: str, reader: str) -> None:
    text = {"small": "", "large": " " * 5000, "token": ""}[reader] + text
    if reader == "token":
        text = f'[NaN,"Infinity",{text}]'
    assert refused(text.encode()).startswith("the request is not JSON: ")


@pytest.mark.parametrize(
    "text",
    [b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b"\xff\xfe{\0}\0", '{"a":1}'.encode("utf-16"), b'{"\xc3":1}'],
)
def test_not_utf8(text: bytes) -> None:
    for body in (text, b" " * 5000 + text, text.replace(b"{", b'{"b":NaN,')):
        assert refused(body).startswith("the request is not JSON: ")


@pytest.mark.parametrize("reader", ["small", "large", "token"])
@pytest.mark.parametrize("name", [r"\ud800", r"a\udfffb", r"\ud800\ud800", r"\udc00\ud800"])
def test_lone_surrogates(name: str, reader: str) -> None:
    """They are no text: an error message that repeats one could not be sent."""
    for body in (
        document(f'"inputs":[{member("FP32", [1], "[1]", name)}]', reader),
        with_data("BYTES", [1], f'["{name}"]', reader),
    ):
        assert refused(body).startswith("the request is not JSON: ")


@pytest.mark.parametrize("reader", READERS)
def test_escapes(reader: str) -> None:
    request = decode(
        document(r'"\u0069nputs":[{"n\u0061me":"\ud83d\ude00","shape":[1],"datatype":"FP\u00332","data":[1]}]', reader)
    )
    assert {name: array.tolist() for name, array in arrays(request).items()} == {"😀": [1.0]}


@pytest.mark.parametrize("text", ["[]", "1", '"inputs"', "null", "true", "NaN", "[[1]]"])
@pytest.mark.parametrize("padding", ["", " " * 5000])
def test_top_is_an_object(text: str, padding: str) -> None:
    assert refused((padding + text).encode()) == "the request must be a JSON object with a member 'inputs'"


NO_INPUTS = "the request's 'inputs' must be an array of at least one object"
NO_NAME = "each of the request's 'inputs' must be an object with a string 'name'"
NO_OUTPUT_NAME = "each of the request's 'outputs' must be an object with a string 'name'"
COUNTS = f"'shape' of {WHAT} must be an array of non-negative integers, got"
TYPES = "BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ('"a":1', NO_INPUTS),
        ('"inputs":null', NO_INPUTS),
        ('"inputs":[]', NO_INPUTS),
        ('"inputs":{}', NO_INPUTS),
        ('"inputs":"x"', NO_INPUTS),
        ('"inputs":[1]', NO_NAME),
        ('"inputs":[[]]', NO_NAME),
        ('"inputs":[null]', NO_NAME),
        ('"inputs":[{}]', NO_NAME),
        ('"inputs":[{"name":1}]', NO_NAME),
        ('"inputs":[{"name":null,"shape":[1]}]', NO_NAME),
        (f'"inputs":[{ONE},{ONE}]', "input 'x' is given more than once for model 'm'"),
        ('"inputs":[{"name":"x"}]', f"'datatype' of {WHAT} must be one of {TYPES}; got null"),
        ('"inputs":[{"name":"x","datatype":7}]', f"'datatype' of {WHAT} must be one of {TYPES}; got the number 7"),
        ('"inputs":[{"name":"x","datatype":[]}]', f"'datatype' of {WHAT} must be one of {TYPES}; got an array"),
        (
            '"inputs":[{"name":"x","datatype":"fp32"}]',
            f"'datatype' of {WHAT} must be one of {TYPES}; got the string 'fp32'",
        ),
        ('"inputs":[{"name":"x","datatype":"FP32"}]', f"{COUNTS} null"),
        (f'"inputs":[{member("FP32", "1", "[1]")}]', f"{COUNTS} the number 1"),
        (f'"inputs":[{member("FP32", "{}", "[1]")}]', f"{COUNTS} an object"),
        (f'"inputs":[{member("FP32", "[-1]", "[1]")}]', f"{COUNTS} the number -1"),
        (f'"inputs":[{member("FP32", "[1,1.0]", "[1]")}]', f"{COUNTS} the number 1.0"),
        (f'"inputs":[{member("FP32", "[true]", "[1]")}]', f"{COUNTS} true"),
        (f'"inputs":[{member("FP32", "[null]", "[1]")}]', f"{COUNTS} null"),
        (f'"inputs":[{member("FP32", "[[1]]", "[1]")}]', f"{COUNTS} an array"),
        (f'"inputs":[{member("FP32", "[1,2,-3,-4]", "[1]")}]', f"{COUNTS} the number -3"),
        (f'"inputs":[{member("FP32", [1] * 65, "[1]")}]', f"'shape' of {WHAT} has 65 dimensions, more than 64"),
        (f'"inputs":[{member("FP32", [2**58], "[1]")}]', f"'shape' of {WHAT} is too large: [{2**58}]"),
        (f'"inputs":[{member("FP32", [2**29, 2**29], "[1]")}]', f"'shape' of {WHAT} is too large: [{2**29}, {2**29}]"),
        (f'"inputs":[{member("FP32", [0, 2**60], "[1]")}]', f"'shape' of {WHAT} is too large: [0, {2**60}]"),
        (
            f'"inputs":[{member("FP32", [2**40, 0, 2**40], "[]")}]',
            f"'shape' of {WHAT} is too large: [{2**40}, 0, {2**40}]",
        ),
        (f'"inputs":[{ONE}],"outputs":{{}}', "the request's 'outputs' must be an array of objects"),
        (f'"inputs":[{ONE}],"outputs":"y"', "the request's 'outputs' must be an array of objects"),
        (f'"inputs":[{ONE}],"outputs":["y"]', NO_OUTPUT_NAME),
        (f'"inputs":[{ONE}],"outputs":[{{}}]', NO_OUTPUT_NAME),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"y"}},{{"name":"y"}}]',
            "the request's 'outputs' name an output more than once",
        ),
        (f'"inputs":[{ONE}],"id":7', "the request's 'id' must be a string, got the number 7"),
        (f'"inputs":[{ONE}],"id":{{}}', "the request's 'id' must be a string, got an object"),
        (f'"inputs":[{ONE}],"id":{"[" * 900 + "]" * 900}', "the request's 'id' must be a string, got an array"),
        (f'"inputs":[{ONE}],"parameters":[]', "'parameters' of the request must be an object"),
        (
            '"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":1}]',
            f"'parameters' of {WHAT} must be an object",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"y","parameters":[]}}]',
            "'parameters' of output 'y' must be an object",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"y","parameters":{{"binary_data":1}}}}]',
            "'binary_data' of output 'y' must be true or false, got the number 1",
        ),
        (
            f'"inputs":[{ONE}],"parameters":{{"binary_data_output":"true"}}',
            "'binary_data_output' of the request must be true or false, got the string 'true'",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"y","parameters":{{"classification":-1}}}}]',
            "'classification' of output 'y' must be a number of classes, got the number -1",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"y","parameters":{{"classification":true}}}}]',
            "'classification' of output 'y' must be a number of classes, got true",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"y","parameters":{{"classification":[3]}}}}]',
            "'classification' of output 'y' must be a number of classes, got an array",
        ),
        (
            f'"inputs":[{ONE}],"parameters":{{"timeout":-5}}',
            "parameter 'timeout' must be a number of microseconds, got the number -5",
        ),
        (
            f'"inputs":[{ONE}],"parameters":{{"timeout":1.5}}',
            "parameter 'timeout' must be a number of microseconds, got the number 1.5",
        ),
        (
            f'"inputs":[{ONE}],"parameters":{{"timeout":"1"}}',
            "parameter 'timeout' must be a number of microseconds, got the string '1'",
        ),
        (
            f'"inputs":[{ONE}],"parameters":{{"timeout":true}}',
            "parameter 'timeout' must be a number of microseconds, got true",
        ),
        (
            f'"inputs":[{ONE}],"parameters":{{"triton_enable_empty_final_response":true}}',
            "parameter 'triton_enable_empty_final_response' is reserved: names that start with 'triton_' can't be sent",
        ),
    ],
)
def test_refused(members: str, message: str, reader: str) -> None:
    assert refused(document(members, reader)) == message


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            '"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}]',
            f"{WHAT} is in shared memory, which inferry doesn't offer; send 'data' or binary data",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"y","parameters":{{"shared_memory_region":"r"}}}}]',
            "output 'y' asks for shared memory, which inferry doesn't offer",
        ),
    ],
)
def test_not_supported(members: str, message: str, reader: str) -> None:
    assert refused(document(members, reader), error=NotSupported) == message


@pytest.mark.parametrize("reader", READERS)
def test_what_means_nothing_here_is_left_alone(reader: str) -> None:
    members = (
        '"model_name":["m"],"parameters":{"sequence_id":7,"sequence_start":true,"sequence_end":true,"priority":1,'
        '"headers":{"a":[1]},"mine":[["b"]],"binary_data_output":null,"timeout":null},"tags":[[],{"a":[]}],'
        '"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1],"parameters":{"mine":[1,[2]]},"more":[[]]}],'
        '"outputs":[{"name":"y","parameters":{"binary_data":null,"mine":{}},"shape":"["},{"name":"z","parameters":null}]'
    )
    request = decode(document(members, reader))
    assert arrays(request)["x"].tolist() == [1.0]
    assert (request.outputs, request.binary, request.id, request.timeout, request.raw) == (
        (RequestedOutput("y", False), RequestedOutput("z", False)),
        False,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("outputs", ["", ',"outputs":[]', ',"outputs":null'])
def test_no_outputs_means_all(outputs: str, reader: str) -> None:
    assert decode(document(f'"inputs":[{ONE}]{outputs}', reader)).outputs == ()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("whole", "listed", "expected"),
    [
        ("{}", "{}", (False, False)),
        ("{}", '{"binary_data":true}', (False, True)),
        ("{}", '{"binary_data":false}', (False, False)),
        ('{"binary_data_output":true}', "{}", (True, True)),
        ('{"binary_data_output":true}', '{"binary_data":true}', (True, True)),
        ('{"binary_data_output":true}', '{"binary_data":false}', (True, False)),
        ('{"binary_data_output":false}', "{}", (False, False)),
        ('{"binary_data_output":false}', '{"binary_data":true}', (False, True)),
    ],
)
def test_which_outputs_are_binary(whole: str, listed: str, expected: tuple[bool, bool], reader: str) -> None:
    """An output's own `binary_data`, else the request's `binary_data_output`."""
    members = f'"inputs":[{ONE}],"parameters":{whole},"outputs":[{{"name":"y","parameters":{listed}}}]'
    request = decode(document(members, reader))
    assert (request.binary, request.outputs) == (expected[0], (RequestedOutput("y", expected[1]),))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", None), ("null", None), ("1", 1e-6), ("2500000", 2.5), (f"{2**64 - 1}", (2**64 - 1) / 1e6)],
)
def test_timeout(value: str, seconds: float | None, reader: str) -> None:
    assert decode(document(f'"inputs":[{ONE}],"parameters":{{"timeout":{value}}}', reader)).timeout == seconds


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_counts_beyond_64_bits(digits: int) -> None:
    """Python's json, which reads documents with NaN, has no limit up to 4,300 digits, and its floats have one."""
    number = "9" * digits
    for members in (
        f'"inputs":[{ONE}],"parameters":{{"timeout":{number}}}',
        f'"inputs":[{ONE}],"outputs":[{{"name":"y","parameters":{{"classification":{number}}}}}]',
        f'"inputs":[{member("FP32", f"[{number}]", "[1]")}]',
        f'"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","parameters":{{"binary_data_size":{number}}}}}]',
    ):
        for reader in READERS:
            refused(document(members, reader))


@pytest.mark.parametrize("place", ["id", "model_name", "parameters", "inputs", "outputs", "shape", "datatype", "name"])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
@pytest.mark.parametrize("depth", [90, 900, 985, 990, 1000, 1015, 1024, 20_000])
def test_depth_bombs(place: str, brackets: str, depth: int) -> None:
    nest = "[" * depth + "]" * depth if brackets == "[]" else '{"a":' * depth + "1" + "}" * depth
    item = ONE if place not in ("shape", "datatype", "name") else ONE[:-1] + f',"{place}":{nest}}}'
    members = f'"inputs":[{item}]' + ("" if item != ONE else f',"{place}":{nest}')
    for reader in READERS:
        try:
            decode(document(members, reader))
        except InvalidRequest as exc:
            assert len(str(exc)) < 300  # noqa: PT017


def test_many_members_take_linear_time() -> None:
    """simdjson looks for a member among all of them: 100,000 of them a hundred thousand times would take minutes."""
    members = ",".join(f'"{n}":0' for n in range(100_000))
    text = f'{{"inputs":[{ONE}],"parameters":{{{members},"binary_data_output":true}},{members}}}'
    start = time.process_time()
    assert decode(text.encode()).binary
    assert time.process_time() - start < 10


REGULAR = [
    member("FP32", [2, 2], "[1,2,3,4]"),
    member("FP32", [2, 2], "[[1,2],[3,4]]"),
    member("INT64", [2, 1, 2], "[[[1,2]],[[3,4]]]"),
    member("FP32", [], "[1]"),
    member("FP32", [2], "[1,null]"),
    member("BYTES", [2, 1], '[["a"],["b"]]'),
    member("BOOL", [1, 2], "[[true,false]]"),
    member("INT8", [0, 2], "[]"),
    binary_input(0, shape="[0]"),
]


@pytest.mark.parametrize("reader", ["large", "bracket", "ignored array"])
@pytest.mark.parametrize("item", REGULAR)
def test_large_requests_are_decoded_once(monkeypatch: pytest.MonkeyPatch, item: str, reader: str) -> None:
    """From lists only where a bracket that belongs to no tensor leaves a doubt: lists take many times as long."""
    calls: list[Any] = []
    monkeypatch.setattr(decoder, "load", lambda text: calls.append(text) or json.loads(text))
    request = decode(document(f'"inputs":[{item}],"outputs":[{{"name":"y"}}]', reader))
    assert list(request.inputs) == ["x"]
    assert len(calls) == (0 if reader == "large" else 1)


@pytest.mark.parametrize("reader", READERS)
def test_of_members_of_one_name_the_last_counts(reader: str) -> None:
    item = f'{{"datatype":"FP64","data":[2],{ONE[1:]}'
    parameters = '"parameters":{"timeout":1,"timeout":2000000}'
    request = decode(document(f'"id":"first","inputs":[],"inputs":[{item}],"id":"last",{parameters}', reader))
    assert (request.id, request.timeout) == ("last", 2)
    assert same(request.inputs["x"].array, np.array([1], np.float32))


def test_arrays_too_long_for_the_parsers_lists() -> None:
    """simdjson counts up to 2^24 - 1 elements, and would write the others past the end of its list."""
    words = '"",' * COUNTED + '""'
    for members in (f'"inputs":[{ONE}],"more":[{words}]', f'"inputs":[{member("BYTES", [COUNTED + 1], f"[{words}]")}]'):
        assert "over 16777215 values" in refused(f"{{{members}}}".encode(), error=RequestTooLarge)
    request = decode(with_data("UINT8", [COUNTED + 1], f"[{'0,' * COUNTED}7]"))
    array = request.inputs["x"].array
    assert (array.shape, array[-1]) == ((COUNTED + 1,), 7)


# What stands 5,000,000 times between two texts.
LARGE = {
    "arrays in a member that means nothing": (f'{{"inputs":[{ONE}],"more":[', "[],", "[]]}"),
    "objects in a member that means nothing": (f'{{"inputs":[{ONE}],"more":[[],', "{},", "[]]}"),
    "objects for strings": ('{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","data":[', "{},", "{}]}]}"),
    "arrays beside NaN": ("[NaN,", "[],", "[]]"),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_would_take_many_times_its_size_as_python_objects(name: str) -> None:
    before, many, behind = LARGE[name]
    body = f"{before}{many * 5_000_000}{behind}".encode()
    tracemalloc.start()
    assert "over 4194304 arrays and objects" in refused(body, error=RequestTooLarge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(body)


def test_ragged_data_is_refused_before_it_becomes_lists() -> None:
    """Of empty lists: Python's take twenty times the memory of their text."""
    body = with_data("BYTES", [2], f"[{'[],' * 100_000}[]]")
    tracemalloc.start()
    assert "is ragged" in refused(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":[1,{"b":null}]}', {"a": [1, {"b": None}]}),
        ("[1,[2]]", [1, [2]]),
        ("1.5", 1.5),
        ('"a"', "a"),
        ("null", None),
    ],
)
@pytest.mark.parametrize("padding", ["", " " * 5000])
def test_plain(text: str, expected: Any, padding: str) -> None:
    document = parse((padding + text).encode())
    assert plain(document) == expected
    assert is_object(document) == isinstance(expected, dict)
    assert is_array(document) == isinstance(expected, list)


def test_documents_live_side_by_side() -> None:
    """A parser is kept between requests: one document must not be read from another's memory."""
    texts = [" " * 5000 + f'{{"a":["{name}",{{"b":[{size}]}}]}}' for size, name in enumerate("xyz")]
    texts.append(f'{" " * (REUSED + 1)}{{"a":[]}}')
    documents = [parse(text.encode()) for text in texts]
    refused(b" " * 5000 + b"[")
    assert [plain(document) for document in documents] == [json.loads(text) for text in texts]


def test_threads_do_not_share_parsers() -> None:
    bodies = [with_data("INT64", [800], str([number] * 800)) for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        requests = list(pool.map(decode, bodies))
    assert [set(request.inputs["x"].array.tolist()) for request in requests] == [{number} for number in range(64)]


def test_inputs_do_not_share_memory_with_the_body() -> None:
    """ONNX Runtime reads the inputs while the host may reuse its buffer."""
    body = bytearray(TRITONCLIENT)
    request = decoder.decode(bytes(body), b"132", KNOWN)
    assert same(request.inputs["x"].array, np.array([1, 2], np.float32))
    assert request.inputs["x"].array.flags.writeable


@pytest.mark.parametrize("place", ['"id":"{word}",', '"other":{word},', ""])
@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e309", f"1{'0' * 400}", f"-1{'0' * 400}.5"])
@pytest.mark.parametrize("padding", ["", " " * 5000], ids=["small", "large"])
def test_numbers_beyond_all(number: str, word: str, place: str, padding: str) -> None:
    """Only the words make infinities and NaN, wherever in the document they are."""
    for data in (f"[{number}]", f"[{word},{number}]"):
        count = data.count(",") + 1
        head = f'"name":"x","shape":[{count}],"datatype":"FP64"'
        text = f'{{{padding}{place.replace("{word}", word)}"inputs":[{{{head},"data":{data}}}]}}'
        assert refused(text.encode()).startswith("the request is not JSON: ")


@pytest.mark.parametrize("padding", ["", " " * 5000], ids=["small", "large"])
@pytest.mark.parametrize("number", [2**64, 10**30, -(2**63) - 1, -(10**20)])
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "BF16", "INT64", "UINT64"])
def test_integers_over_64_bits_beside_nan(datatype: str, number: int, padding: str) -> None:
    """They are what they are without it: floats, and no integers."""

    def outcome(word: str) -> Any:
        inputs = f'"inputs":[{{"name":"x","shape":[1],"datatype":"{datatype}","data":[{number}]}}]'
        try:
            return arrays(decode(f'{{{padding}"other":{word},{inputs}}}'.encode()))["x"].tolist()
        except InvalidRequest as exc:
            return str(exc)

    assert outcome("NaN") == outcome("null")
    assert isinstance(outcome("NaN"), str if "INT" in datatype else list)


BASE64 = "aGVhdnkgcmFpbg=="


@pytest.mark.parametrize("reader", READERS)
def test_strings_in_base64(reader: str) -> None:
    """MLServer's content type of an input; any other says nothing that the datatype doesn't."""
    given = member("BYTES", [2, 1], f'["{BASE64}", "w7w="]').removesuffix("}")
    for content_type, expected in (("base64", [["heavy rain"], ["\u00fc"]]), ("str", [[BASE64], ["w7w="]])):
        inputs = f'"inputs":[{given},"parameters":{{"content_type":"{content_type}"}}}}]'
        assert arrays(decode(document(inputs, reader)))["x"].tolist() == expected


def test_strings_in_base64_behind_the_json() -> None:
    raw = len(BASE64).to_bytes(4, "little") + BASE64.encode()
    parameters = f'"parameters":{{"content_type":"base64","binary_data_size":{len(raw)}}}'
    text = f'{{"inputs":[{{"name":"x","shape":[1],"datatype":"BYTES",{parameters}}}]}}'.encode()
    assert arrays(decode(text + raw, len(text)))["x"].tolist() == ["heavy rain"]


@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("BYTES", '["heavy rain"]', f"string 0 of {WHAT} is not base64, as its 'content_type' says: 'heavy rain'"),
        ("BYTES", '["\\u00fc"]', f"string 0 of {WHAT} is not base64, as its 'content_type' says: '\u00fc'"),
        (
            "BYTES",
            '["/w=="]',
            f"string 0 of {WHAT} is not valid UTF-8; ONNX strings are UTF-8 text, send other bytes as UINT8",
        ),
        ("UINT8", "[1]", f"'content_type' of {WHAT} is base64, which is for BYTES, not for UINT8"),
    ],
)
def test_what_is_not_base64(datatype: str, data: str, message: str) -> None:
    given = member(datatype, [1], data).removesuffix("}")
    body = f'{{"inputs":[{given},"parameters":{{"content_type":"base64"}}}}]}}'.encode()
    assert refused(body) == message


def test_an_object_holds_no_base64() -> None:
    parameters = '"parameters":{"content_type":"base64","uri":"s3://bucket/x"}'
    body = f'{{"inputs":[{{"name":"x","shape":[1],"datatype":"BYTES",{parameters}}}]}}'.encode()
    assert refused(body) == f"{WHAT} is given by 'uri', whose object holds no base64: leave 'content_type' out"


PAIR = Known("m", ("x", "y"), ("out",))


def by_uri(name: str, uri: str) -> str:
    return f'{{"name":"{name}","shape":[1],"datatype":"FP32","parameters":{{"uri":"{uri}"}}}}'


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            f'"inputs":[{ONE},{member("FP32", [1], "[1]", "z")},{ONE}]',
            "unexpected inference input 'z' for model 'm', whose inputs are 'x', 'y': the request has 3 inputs, the "
            "model 2",
        ),
        (
            f'"inputs":[{ONE},{ONE},{member("FP32", [1], "[1]", "z")}]',
            "input 'x' is given more than once for model 'm': the request has 3 inputs, the model 2",
        ),
        (
            f'"inputs":[{ONE},{{"name":5}},{ONE}]',
            "each of the request's 'inputs' must be an object with a string 'name': the request has 3 inputs, the "
            "model 2",
        ),
        (
            f'"inputs":[{",".join(by_uri(f"x{number}", "/a") for number in range(1000))}]',
            "unexpected inference input 'x0' for model 'm', whose inputs are 'x', 'y': the request has 1000 inputs, "
            "the model 2",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"out"}},{{"name":"z"}}]',
            "unexpected inference output 'z' for model 'm', whose outputs are 'out': the request has 2 outputs, the "
            "model 1",
        ),
        (
            f'"inputs":[{ONE}],"outputs":[{{"name":"out"}},{{"name":"out"}}]',
            "output 'out' is given more than once for model 'm': the request has 2 outputs, the model 1",
        ),
    ],
)
def test_more_than_the_model_has(members: str, message: str, reader: str) -> None:
    assert refused(document(members, reader), known=PAIR) == message


@pytest.mark.parametrize("reader", READERS)
def test_as_many_as_the_model_has(reader: str) -> None:
    members = f'"inputs":[{ONE},{member("FP32", [1], "[2]", "y")}],"outputs":[{{"name":"out"}}]'
    request = decode(document(members, reader), known=PAIR)
    assert {name: array.tolist() for name, array in arrays(request).items()} == {"x": [1], "y": [2]}
    assert request.outputs == (RequestedOutput("out", False),)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("excess", ["inputs", "outputs"])
def test_too_many_end_the_decoding(monkeypatch: pytest.MonkeyPatch, excess: str, reader: str) -> None:
    """No data is converted, and no tensor behind the first that is too many is looked at."""
    looked_at: list[str] = []
    members_of = decoder._members
    monkeypatch.setattr(decoder, "to_array", lambda *_: pytest.fail("converted"))

    def members(value: Any) -> Any:
        found = members_of(value)
        looked_at.extend([found["name"]] if "name" in found else [])
        return found

    monkeypatch.setattr(decoder, "_members", members)
    many = ",".join(member("FP32", [1], "[1]", f"{name}") for name in ("x", "y", *range(5000)))
    body = document(f'"inputs":[{many}]' if excess == "inputs" else f'"inputs":[{ONE}],"outputs":[{many}]', reader)
    assert "the request has 5002 " in refused(body, known=Known("m", ("x", "y"), ("x", "y")))
    assert looked_at == ["x", "y", "0"]


@pytest.mark.parametrize("reader", READERS)
def test_references_where_there_may_be_none_end_the_decoding(monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    monkeypatch.setattr(decoder, "to_array", lambda *_: pytest.fail("converted"))
    message = (
        "'/a' may not be read or written: name an object below one of DATA_PREFIXES, which is empty; set it to the "
        "prefixes that requests may name"
    )
    inputs = f'"inputs":[{by_uri("x", "/a")},{member("FP32", [1], "[1]", "y")}]'
    outputs = f'"inputs":[{ONE}],"outputs":[{{"name":"out","parameters":{{"uri":"/a"}}}}]'
    for members in (inputs, outputs):
        assert refused(document(members, reader), error=DataRefused, known=PAIR._replace(references=False)) == message


@pytest.mark.parametrize("reader", READERS)
def test_each_reference_is_put_beside_the_others(monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """A dictionary for each, copied from the one before, makes the square of their number."""
    given: list[InferRequest] = []

    class Watched(InferRequest):
        def __setattr__(self, name: str, value: Any) -> None:
            given.extend([self] if name == "references" and value is not None else [])
            super().__setattr__(name, value)

    monkeypatch.setattr(decoder, "InferRequest", Watched)
    inputs = ",".join(by_uri(name, f"/{name}") for name in KNOWN.inputs)
    request = decode(document(f'"inputs":[{inputs}]', reader))
    assert request.references is not None
    assert {name: reference.uri for name, reference in request.references.items()} == {n: f"/{n}" for n in KNOWN.inputs}
    # One for each time that the document is decoded: a bracket in a wrong place makes it two.
    assert len(given) == len({id(watched) for watched in given})
