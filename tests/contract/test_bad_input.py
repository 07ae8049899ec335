"""What is wrong with a request is said in words, with the right status, and nothing that comes in stops the server."""

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from inferry.app import create_app
from inferry.service import Service
from inferry.settings import Settings
from servers import EXAMPLES, HEADER_LENGTH, JSON, Server, ask, received, tensor
from tiny import MAX_REQUEST_BYTES

GZIP = {"Content-Encoding": "gzip"}
DEFLATE = {"Content-Encoding": "deflate"}


@dataclass(frozen=True)
class Bad:
    """A POST to `path` that must fail with `status` and all `words` in its message."""

    status: int
    words: tuple[str, ...]
    body: bytes = b""
    path: str = "/v2/models/echo/infer"
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"


def request(*inputs: Any, **members: Any) -> bytes:
    return json.dumps({"inputs": inputs, **members}).encode()


def x(data: Any, shape: Any = (2,), datatype: Any = "FP32", **members: Any) -> dict[str, Any]:
    """The input x with some of its members wrong."""
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **members}


def of(model: str, shape: Any, data: Any, datatype: str = "") -> tuple[bytes, str]:
    """The body and the path of a request for the identity model of a datatype."""
    return request(x(data, shape, datatype or model)), f"/v2/models/{model}/infer"


def binary(size: Any, tail: bytes, shape: Any = (2,), model: str = "FP32", length: Any = None) -> dict[str, Any]:
    """Body, path and headers of a request whose input is `tail`, said to be `size` bytes."""
    given = {"name": "x", "shape": shape, "datatype": model, "parameters": {"binary_data_size": size}}
    text = request(given)
    headers = {HEADER_LENGTH: str(len(text) if length is None else length)}
    return {"body": text + tail, "path": f"/v2/models/{model}/infer", "headers": headers}


GOOD = request(x([1, 2]))
EIGHT = struct.pack("<2f", 1, 2)
DEEP = b"[" * 100 + b"1" + b"]" * 100
NAN_SURROGATE = rb'{"id":"\ud800","inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}'
BOMB = bytes(50 * MAX_REQUEST_BYTES)

BAD = {
    # The body is not JSON, or JSON of another shape.
    "empty": Bad(400, ("not JSON",)),
    "text": Bad(400, ("not JSON",), b"hello"),
    "cut off": Bad(400, ("not JSON",), GOOD[:-1]),
    "two documents": Bad(400, ("not JSON",), GOOD + GOOD),
    "binary without its header": Bad(400, ("Inference-Header-Content-Length",), GOOD + EIGHT),
    "not UTF-8": Bad(400, ("not JSON",), GOOD.replace(b'"x"', b'"\xff"')),
    "a lone surrogate": Bad(400, ("not JSON",), GOOD.replace(b'"x"', rb'"\ud800"')),
    "a lone surrogate beside NaN": Bad(400, ("surrogate",), NAN_SURROGATE),
    "an array": Bad(400, ("JSON object", "'inputs'"), b"[]"),
    "a string": Bad(400, ("JSON object",), b'"inputs"'),
    "null": Bad(400, ("JSON object",), b"null"),
    "a number": Bad(400, ("JSON object",), b"1"),
    "a number of 5,000 digits": Bad(400, ("JSON",), b"1" * 5000),
    "a number over 64 bits": Bad(400, ("INT64",), request(x([10**30], (1,), "INT64"))),
    "no inputs": Bad(400, ("'inputs'", "at least one"), b"{}"),
    "inputs empty": Bad(400, ("'inputs'", "at least one"), b'{"inputs":[]}'),
    "inputs an object": Bad(400, ("'inputs'", "array"), b'{"inputs":{}}'),
    "an input that is a number": Bad(400, ("'inputs'", "object"), b'{"inputs":[1]}'),
    "an input without a name": Bad(400, ("'inputs'", "'name'"), b'{"inputs":[{}]}'),
    "a name that is a number": Bad(400, ("'inputs'", "'name'"), b'{"inputs":[{"name":1}]}'),
    "parameters an array": Bad(400, ("'parameters'", "object"), request(x([1, 2]), parameters=[])),
    "parameters of an input a string": Bad(400, ("'parameters'", "'x'"), request(x([1, 2], parameters="p"))),
    "an id that is a number": Bad(400, ("'id'", "string", "7"), request(x([1, 2]), id=7)),
    "a timeout that is a string": Bad(
        400, ("'timeout'", "microseconds"), request(x([1, 2]), parameters={"timeout": "1"})
    ),
    "a negative timeout": Bad(400, ("'timeout'", "-1"), request(x([1, 2]), parameters={"timeout": -1})),
    "binary_data_output a string": Bad(
        400, ("'binary_data_output'", "'yes'"), request(x([1, 2]), parameters={"binary_data_output": "yes"})
    ),
    "a reserved parameter": Bad(400, ("'triton_x'", "reserved"), request(x([1, 2]), parameters={"triton_x": 1})),
    # Names.
    "an unknown input": Bad(400, ("unexpected inference input 'y'", "'echo'"), request({**x([1, 2]), "name": "y"})),
    "an input beside the known": Bad(
        400, ("unexpected inference input 'y'",), request(x([1, 2]), {**x([1, 2]), "name": "y"})
    ),
    "an input twice": Bad(400, ("'x'", "more than once"), request(x([1, 2]), x([1, 2]))),
    "an input missing": Bad(
        400,
        ("expected 2 inputs but got 1 inputs for model 'pair'", "['b']"),
        request({**x([1, 2]), "name": "a"}),
        "/v2/models/pair/infer",
    ),
    "an unknown output": Bad(
        400, ("unexpected inference output 'q' for model 'echo'",), request(x([1, 2]), outputs=[{"name": "q"}])
    ),
    "an output twice": Bad(400, ("more than once",), request(x([1, 2]), outputs=[{"name": "y"}, {"name": "y"}])),
    "outputs a string": Bad(400, ("'outputs'", "array"), request(x([1, 2]), outputs="y")),
    "an output that is a string": Bad(400, ("'outputs'", "'name'"), request(x([1, 2]), outputs=["y"])),
    "binary_data a number": Bad(
        400,
        ("'binary_data'", "true or false"),
        request(x([1, 2]), outputs=[{"name": "y", "parameters": {"binary_data": 1}}]),
    ),
    "classification a string": Bad(
        400,
        ("'classification'", "'y'"),
        request(x([1, 2]), outputs=[{"name": "y", "parameters": {"classification": "all"}}]),
    ),
    "classification of strings": Bad(
        400,
        ("unsupported type 'BYTES'",),
        request(x(["a"], (1,), "BYTES"), outputs=[{"name": "y", "parameters": {"classification": 1}}]),
        "/v2/models/BYTES/infer",
    ),
    # Datatypes and shapes.
    "no datatype": Bad(400, ("'datatype'", "'x'"), request({"name": "x", "shape": [1], "data": [1]})),
    "an unknown datatype": Bad(400, ("'datatype'", "'FP8'"), request(x([1, 2], datatype="FP8"))),
    "a datatype that is a nest": Bad(400, ("'datatype'",), GOOD.replace(b'"FP32"', b"[" * 1000 + b"]" * 1000)),
    "another datatype": Bad(
        400,
        ("inference input 'x' data-type is 'FP64', but model 'echo' expects 'FP32'", "0.1 (at [1])", "send FP32"),
        request(x([1, 0.1], datatype="FP64")),
    ),
    "no shape": Bad(400, ("'shape'", "'x'"), request({"name": "x", "datatype": "FP32", "data": [1]})),
    "a shape that is a number": Bad(400, ("'shape'", "2"), request(x([1, 2], 2))),
    "a negative length": Bad(400, ("'shape'", "-2"), request(x([1, 2], [-2]))),
    "a length that is a fraction": Bad(400, ("'shape'", "2.0"), request(x([1, 2], [2.0]))),
    "a length that is true": Bad(400, ("'shape'", "True"), request(x([1], [True]))),
    "a shape too large to count": Bad(400, ("'shape'", "too large"), request(x([1], [2**40, 2**40]))),
    "a shape of billions for two numbers": Bad(400, ("'x'",), request(x([1, 2], [2**40]))),
    "65 dimensions": Bad(400, ("'x'", "65"), request(x([1], [1] * 65))),
    "65 dimensions in binary": Bad(400, ("'x'", "65"), **binary(4, b"1234", [1] * 65)),
    "another rank": Bad(400, ("unexpected shape for input 'x'", "[-1]", "[1, 2]"), request(x([1, 2], [1, 2]))),
    "another fixed length": Bad(
        400,
        ("unexpected shape for input 'x'", "[-1, 2]", "[1, 3]"),
        request(x([1, 2, 3], [1, 3])),
        "/v2/models/matrix/infer",
    ),
    "a batch over the limit": Bad(
        400,
        ("batch-size must be <= 4 for 'batched'",),
        request(x([0] * 15, [5, 3])),
        "/v2/models/batched/infer",
    ),
    # Data.
    "no data": Bad(400, ("must set only one of", "neither"), request({"name": "x", "shape": [2], "datatype": "FP32"})),
    "data and binary data": Bad(
        400, ("must set only one of", "both"), request(x([1, 2], parameters={"binary_data_size": 8}))
    ),
    "shared memory": Bad(501, ("shared memory", "'x'"), request(x(None, parameters={"shared_memory_region": "r"}))),
    "data an object": Bad(400, ("'data'", "array"), request(x({}))),
    "data a string": Bad(400, ("'data'", "array"), request(x("12"))),
    "too few elements": Bad(400, ("'x'", "takes 2, got 1"), request(x([1]))),
    "too many elements": Bad(400, ("'x'", "takes 2, got 3"), request(x([1, 2, 3]))),
    "a string among numbers": Bad(400, ("'x'", "numbers", "'2'"), request(x([1, "2"]))),
    "true among numbers": Bad(400, ("'x'", "numbers", "true"), request(x([1, True]))),
    "an object among numbers": Bad(400, ("'x'", "numbers", "object"), request(x([1, {}]))),
    "a fraction among integers": Bad(400, ("integers", "INT64", "1.5"), *of("INT64", [2], [1, 1.5])),
    "true among integers": Bad(400, ("integers", "INT64", "true"), *of("INT64", [2], [1, True])),
    "null among integers": Bad(400, ("integers", "INT64", "null"), *of("INT64", [2], [1, None])),
    "a number among booleans": Bad(400, ("BOOL", "1"), *of("BOOL", [2], [True, 1])),
    "a number among strings": Bad(400, ("strings", "1"), *of("BYTES", [2], ["a", 1])),
    "null among strings": Bad(400, ("strings", "null"), *of("BYTES", [2], ["a", None])),
    "an INT8 of 128": Bad(400, ("128", "out of range", "INT8", "-128 to 127"), *of("INT8", [2], [0, 128])),
    "an INT32 below its range": Bad(400, ("-2147483649", "out of range"), *of("INT32", [1], [-(2**31) - 1])),
    "an INT64 of 2^63": Bad(400, ("9223372036854775808", "out of range"), *of("INT64", [1], [2**63])),
    "a negative UINT64": Bad(400, ("-1", "out of range", "UINT64"), *of("UINT64", [1], [-1])),
    "a UINT8 of 256": Bad(400, ("256", "out of range"), *of("UINT8", [2], [0, 256])),
    "an FP16 of 70000": Bad(400, ("out of range", "FP16"), *of("FP16", [1], [70000])),
    "an FP32 of 1e39": Bad(400, ("out of range", "FP32"), *of("FP32", [1], [1e39])),
    "ragged": Bad(400, ("'x'", "ragged"), request(x([[1], [2, 3, 4]], [2, 2])), "/v2/models/matrix/infer"),
    "a row among numbers": Bad(400, ("'x'",), request(x([1, [2], 3, 4], [2, 2])), "/v2/models/matrix/infer"),
    "nested in other lengths": Bad(
        400, ("'x'",), request(x([[1, 2, 3], [4, 5, 6]], [3, 2])), "/v2/models/matrix/infer"
    ),
    "nested deeper than the shape": Bad(400, ("'x'",), request(x([[[1, 2]]], [1, 2])), "/v2/models/matrix/infer"),
    "100 deep": Bad(400, ("'x'",), GOOD.replace(b"[1, 2]", DEEP)),
    "2,000 deep": Bad(400, ("JSON",), b"[" * 2000 + b"]" * 2000),
    "100,000 deep": Bad(400, ("JSON",), b'{"inputs":' * 10 + b"[" * 100_000),
    "100,000 deep beside NaN": Bad(400, ("JSON",), b"[NaN," + b"[" * 100_000 + b"]" * 100_001),
    # The binary extension.
    "a negative header length": Bad(400, (HEADER_LENGTH, "-1"), GOOD, headers={HEADER_LENGTH: "-1"}),
    "a header length over the body": Bad(400, (HEADER_LENGTH, "5000"), GOOD, headers={HEADER_LENGTH: "5000"}),
    "a header length that is a word": Bad(400, (HEADER_LENGTH, "many"), GOOD, headers={HEADER_LENGTH: "many"}),
    "a header length that is a fraction": Bad(400, (HEADER_LENGTH, "1.0"), GOOD, headers={HEADER_LENGTH: "1.0"}),
    "a header length that is empty": Bad(400, (HEADER_LENGTH,), GOOD, headers={HEADER_LENGTH: ""}),
    "a header length of 5,000 digits": Bad(400, (HEADER_LENGTH,), GOOD, headers={HEADER_LENGTH: "0" * 4999 + "9"}),
    "a header length in other digits": Bad(400, (HEADER_LENGTH,), GOOD, headers={HEADER_LENGTH: "\xb2"}),
    "a header length one short": Bad(400, ("not JSON",), GOOD, headers={HEADER_LENGTH: str(len(GOOD) - 1)}),
    "no tensor behind the JSON": Bad(400, ("8 additional bytes", "'x'"), **binary(8, b"")),
    "a tensor cut off": Bad(400, ("1 additional bytes",), **binary(8, EIGHT[:-1])),
    "bytes behind the tensor": Bad(400, ("unexpected 1 bytes",), **binary(8, EIGHT + b"!")),
    "bytes behind JSON tensors": Bad(
        400, ("unexpected 8 bytes",), GOOD + EIGHT, headers={HEADER_LENGTH: str(len(GOOD))}
    ),
    "a size that is not the shape's": Bad(400, ("input byte size mismatch", "'x'", "12", "8"), **binary(8, EIGHT, [3])),
    "a negative size": Bad(400, ("'binary_data_size'", "-1"), **binary(-1, b"")),
    "a size that is a string": Bad(400, ("'binary_data_size'", "'8'"), **binary("8", EIGHT)),
    "a size that is true": Bad(400, ("'binary_data_size'", "True"), **binary(True, b"1")),
    "a size without end": Bad(400, ("additional bytes",), **binary(2**63, EIGHT)),
    "a BOOL of 2": Bad(400, ("BOOL",), **binary(2, b"\0\2", model="BOOL")),
    "a string cut off": Bad(400, ("string 1", "cut off"), **binary(9, b"\1\0\0\0a\5\0\0\0", model="BYTES")),
    "a string's length cut off": Bad(400, ("string 1", "cut off"), **binary(8, b"\1\0\0\0a\1\0\0", model="BYTES")),
    "bytes behind the strings": Bad(
        400, ("unexpected 1 trailing bytes",), **binary(10, b"\1\0\0\0a\0\0\0\0!", model="BYTES")
    ),
    "strings that can't be there": Bad(400, ("string",), **binary(5, b"\1\0\0\0a", [10**9], model="BYTES")),
    "a string that is not UTF-8": Bad(400, ("string 0", "UTF-8"), **binary(5, b"\1\0\0\0\xff", [1], model="BYTES")),
    "raw binary for two inputs": Bad(
        400, ("raw binary", "'pair'"), EIGHT, "/v2/models/pair/infer", {HEADER_LENGTH: "0"}
    ),
    "raw binary of half an element": Bad(400, ("raw binary", "'x'"), EIGHT[:6], headers={HEADER_LENGTH: "0"}),
    "raw binary that is not UTF-8": Bad(400, ("UTF-8",), b"\xff", "/v2/models/word/infer", {HEADER_LENGTH: "0"}),
    # Sizes and encodings.
    "a body over the limit": Bad(413, ("MAX_REQUEST_BYTES", str(MAX_REQUEST_BYTES)), bytes(MAX_REQUEST_BYTES + 1)),
    "a body over the limit for /predict": Bad(413, ("MAX_REQUEST_BYTES",), bytes(MAX_REQUEST_BYTES + 1), "/predict"),
    "a gzip bomb": Bad(413, ("inflates", "MAX_REQUEST_BYTES"), gzip.compress(BOMB), headers=GZIP),
    "a deflate bomb": Bad(413, ("inflates", "MAX_REQUEST_BYTES"), zlib.compress(BOMB), headers=DEFLATE),
    "a gzip bomb for /predict": Bad(413, ("inflates",), gzip.compress(BOMB), "/predict", GZIP),
    "gzip in gzip": Bad(400, ("not JSON",), gzip.compress(gzip.compress(GOOD)), headers=GZIP),
    "gzip that isn't": Bad(400, ("not gzip",), GOOD, headers=GZIP),
    "gzip cut off": Bad(400, ("gzip", "cut off"), gzip.compress(GOOD)[:-1], headers=GZIP),
    "bytes behind gzip": Bad(400, ("gzip", "followed"), gzip.compress(GOOD) + b"!", headers=GZIP),
    "deflate without its container": Bad(400, ("not deflate",), zlib.compress(GOOD)[2:], headers=DEFLATE),
    "brotli": Bad(415, ("'br'", "gzip, deflate"), GOOD, headers={"Content-Encoding": "br"}),
    "two encodings": Bad(415, ("gzip, deflate",), GOOD, headers={"Content-Encoding": "gzip, gzip"}),
    # Models, versions, paths, verbs.
    "an unknown model": Bad(404, ("unknown model 'nobody'", "echo"), GOOD, "/v2/models/nobody/infer"),
    "an unknown version": Bad(404, ("unknown version '3'", "2, 1"), GOOD, "/v2/models/echo/versions/3/infer"),
    "another spelling of a version": Bad(404, ("'01'",), GOOD, "/v2/models/echo/versions/01/infer"),
    "..": Bad(404, ("unknown model '..'",), GOOD, "/v2/models/../infer"),
    "%2e%2e": Bad(404, ("unknown model '..'",), GOOD, "/v2/models/%2e%2e/infer"),
    "%2f": Bad(404, ("nothing at",), GOOD, "/v2/models/%2fetc%2fpasswd/infer"),
    "..%2f..": Bad(404, ("nothing at",), GOOD, "/v2/models/..%2f..%2fetc/infer"),
    "a backslash": Bad(404, ("unknown model",), GOOD, "/v2/models/..%5cecho/infer"),
    "NUL": Bad(404, ("unknown model",), GOOD, "/v2/models/echo%00/infer"),
    "a name that is not UTF-8": Bad(404, ("unknown model",), GOOD, "/v2/models/%ff/infer"),
    "a line break": Bad(404, ("unknown model",), GOOD, "/v2/models/a%0d%0ab/infer"),
    "no name": Bad(404, ("nothing at",), GOOD, "/v2/models//infer"),
    "a name of 5,000 letters": Bad(404, ("unknown model 'aaa",), GOOD, f"/v2/models/{'a' * 5000}/infer"),
    "a file of a model": Bad(404, ("nothing at",), GOOD, "/v2/models/echo/1/model.onnx"),
    "a path of no route": Bad(404, ("'/v2/nothing'", "/docs"), GOOD, "/v2/nothing"),
    "an asset of no page": Bad(404, ("asset",), path="/docs/assets/..", method="GET"),
    "a wrong verb": Bad(405, ("PUT is not allowed", "POST"), GOOD, method="PUT"),
    # Models that can't.
    "a model that can't be loaded": Bad(503, ("'broken'", "can't be loaded"), GOOD, "/v2/models/broken/infer"),
    "a model of sequences": Bad(
        503, ("'sequence'", "seq(tensor(float))", "plain tensor"), GOOD, "/v2/models/sequence/infer"
    ),
    "a model of complex numbers": Bad(503, ("'complex'", "complex64"), GOOD, "/v2/models/complex/infer"),
    "a model that fails": Bad(500, ("model 'failing' failed", "(request "), *of("failing", [2], [1, 2], "FP32")),
    # The simple routes.
    "predict without features": Bad(400, ("'features'",), b"{}", "/predict"),
    "predict without JSON": Bad(400, ("not JSON",), b"{", "/predict"),
    "predict with an array": Bad(400, ("JSON object",), b"[1]", "/predict"),
    "predict without a model": Bad(400, ("'model_name'", "DEFAULT_MODEL", "echo"), b'{"features":[1]}', "/predict"),
    "predict with a number for a name": Bad(400, ("'model_name'", "7"), b'{"features":[1],"model_name":7}', "/predict"),
    "predict with an unknown model": Bad(404, ("'nobody'",), b'{"features":[1],"model_name":"nobody"}', "/predict"),
    "predict with a surrogate": Bad(400, ("surrogate",), rb'{"features":[NaN],"model_name":"\ud800"}', "/predict"),
    "predict with no rows": Bad(400, ("no rows", "'echo'"), b'{"features":[],"model_name":"echo"}', "/predict"),
    "predict with null": Bad(400, ("'x'",), b'{"features":null,"model_name":"matrix"}', "/predict"),
    "predict 1,000 deep": Bad(
        400, ("'x'",), b'{"features":%s,"model_name":"echo"}' % (b"[" * 1000 + b"]" * 1000), "/predict"
    ),
    "predict with a short row": Bad(
        400, ("'x'", "must have the shape [2], got [1]"), b'{"features":[[1]],"model_name":"matrix"}', "/predict"
    ),
    "predict with ragged rows": Bad(400, ("'x'",), b'{"features":[[1,2],[3]],"model_name":"matrix"}', "/predict"),
    "predict with an unknown column": Bad(
        400, ("unknown column 'c'", "a, b"), b'{"features":{"c":1},"model_name":"table"}', "/predict"
    ),
    "predict with a column missing": Bad(400, ("['b']",), b'{"features":{"a":1},"model_name":"table"}', "/predict"),
    "predict with columns that differ": Bad(
        400, ("row 1", "a, b"), b'{"features":[{"a":1,"b":2},{"a":1}],"model_name":"table"}', "/predict"
    ),
    "v1 without instances": Bad(400, ("'instances'",), b"{}", "/v1/models/echo:predict"),
    "v1 with an object": Bad(400, ("'instances'",), b'{"instances":{}}', "/v1/models/echo:predict"),
    "v1 with no rows": Bad(400, ("no rows",), b'{"instances":[]}', "/v1/models/echo:predict"),
    "v1 of an unknown model": Bad(404, ("'nobody'",), b'{"instances":[1]}', "/v1/models/nobody:predict"),
    "v1 of a model that fails": Bad(500, ("'failing'",), b'{"instances":[1]}', "/v1/models/failing:predict"),
    "index with a word": Bad(400, ("'ready'", "'yes'"), b'{"ready":"yes"}', "/v2/repository/index"),
    "index with an array": Bad(400, ("JSON object",), b"[]", "/v2/repository/index"),
    "index without JSON": Bad(400, ("not JSON",), b"{", "/v2/repository/index"),
    "load": Bad(403, ("MODEL_CONTROL",), b"", "/v2/repository/models/echo/load"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_requests(tiny: Server, bad: Bad) -> None:
    answer = tiny.ask(bad.method, bad.path, bad.body, bad.headers)
    assert (answer.status, answer.headers["content-type"]) == (bad.status, JSON), answer
    error = json.loads(answer.body)
    assert list(error) == ["error"]
    missing = [word for word in bad.words if word.lower() not in error["error"].lower()]
    assert not missing, error["error"]
    assert "Traceback" not in error["error"]
    assert len(error["error"]) < 2000


def chunked(server: Server, size: int, headers: Mapping[str, str]) -> Any:
    """The answer to a body of `size` bytes that is sent in chunks, without its length."""
    with server.connected() as connection:
        connection.request(
            "POST", "/v2/models/echo/infer", iter([bytes(50_000)] * (size // 50_000)), headers, encode_chunked=True
        )
        return received(connection)


def test_a_chunked_body_over_the_limit(tiny: Server) -> None:
    answer = chunked(tiny, MAX_REQUEST_BYTES + 50_000, {"Transfer-Encoding": "chunked"})
    assert (answer.status, answer.headers["content-type"]) == (413, JSON)
    assert "MAX_REQUEST_BYTES" in answer.json["error"]


def test_a_chunked_body_at_the_limit(tiny: Server) -> None:
    assert chunked(tiny, MAX_REQUEST_BYTES, {"Transfer-Encoding": "chunked"}).status == 400


@pytest.mark.local
def test_a_declared_length_over_the_limit_is_refused_before_the_body_comes(tiny: Server) -> None:
    with socket.create_connection(("127.0.0.1", tiny.port), 30) as connection:
        connection.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n" % (MAX_REQUEST_BYTES + 1)
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_at_the_limit_is_taken(tiny: Server) -> None:
    text = request(x([1, 2]))
    answer = tiny.ask("POST", "/v2/models/echo/infer", text + b" " * (MAX_REQUEST_BYTES - len(text)))
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [1.0, 2.0])


@pytest.mark.local
def test_a_client_that_leaves_amid_its_body_leaves_no_trace(tiny: Server) -> None:
    before = tiny.log
    with socket.create_connection(("127.0.0.1", tiny.port), 30) as connection:
        connection.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert tiny.ask("GET", "/v2/health/live").status == 200
    assert tiny.log == before


@pytest.mark.parametrize("path", ["/v2/models/failing/infer", "/v1/models/failing:predict"])
def test_a_failure_of_a_model_is_logged_once_with_the_id_of_the_request(tiny: Server, path: str) -> None:
    request_id = f"id-of-{path}"
    body = request(x([1, 2])) if path.startswith("/v2") else b'{"instances":[1,2]}'
    answer = tiny.ask("POST", path, body, {"X-Request-Id": request_id})
    assert answer.status == 500
    assert answer.json["error"].endswith(f"(request {request_id})")
    lines = [line for line in tiny.log.splitlines() if request_id in line]
    assert len(lines) == 1
    assert "ERROR" in lines[0]
    assert "model 'failing' failed" in lines[0]


def test_a_request_id_can_not_forge_a_line_of_the_log(tiny: Server) -> None:
    answer = tiny.ask("POST", "/v2/models/failing/infer", request(x([1, 2])), {"X-Request-Id": "a" * 5000})
    assert answer.json["error"].endswith(f"(request {'a' * 100})")


def test_nothing_of_this_was_a_bug_of_ours(tiny: Server) -> None:
    """Runs behind all the others of this file: bugs are logged with a traceback."""
    assert "Traceback" not in tiny.log
    answer = tiny.infer("echo", tensor("x", "FP32", [2], [1, 2]))
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [1.0, 2.0])


def test_more_tokens_than_the_encoder_has_positions() -> None:
    """Its file says nothing of the 256: the run does."""
    service = Service.from_settings(Settings(model_path=str(EXAMPLES)))
    app = create_app(service)

    def asked(count: int) -> httpx.Response:
        body = {"inputs": [tensor("input_ids", "INT64", [1, count], [[5] * count])]}
        return ask(app, "POST", "/v2/models/encoder/infer", json=body)

    refused = asked(257)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("model 'encoder' can't take this input: Non-zero status code returned")
    assert "256 by 257" in refused.json()["error"]
    assert asked(256).status_code == 200
    service.close()
