"""What real clients send, byte for byte, and the whole of what they get.

The requests are those that tritonclient, kserve and Triton's C++ client were seen to send.
"""

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import inferry
import onnx_models
import pytest
from inferry.http.asgi import ASGIApp
from servers import HEADER_LENGTH, JSON, OCTETS, Answer, Server, ask, serving, tensor
from tiny import MAX_REQUEST_BYTES

FLOATS = struct.pack("<2f", 1, 2)
ORIGIN = "https://app.example"
TRITON_FP32 = (
    b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}],'
    b'"parameters":{"binary_data_output":true}}'
)
MIXED = (
    b'{"inputs":[{"name":"a","shape":[2],"datatype":"FP32","data":[1.0,2.0]},{"name":"b","shape":[2],"datatype":'
    b'"INT64","parameters":{"binary_data_size":16}}],"outputs":[{"name":"b_out","parameters":{"binary_data":false}},'
    b'{"name":"a_out","parameters":{"binary_data":true}}]}'
)
PLAIN = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1.0,2.0]}]}'
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
KSERVE = b'{"id":"%s","model_name":"echo","inputs":[{"name":"x",' % UUID.encode()


def output(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def binary(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def answered(model: str, *outputs: Any, version: str = "1", **members: Any) -> dict[str, Any]:
    return {"model_name": model, "model_version": version, "outputs": list(outputs), **members}


@dataclass(frozen=True)
class Golden:
    """A request to /v2/models/PATH/infer, and the JSON and the bytes of its answer."""

    path: str
    body: bytes
    json: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    tail: bytes = b""


JSON_ECHO = answered("echo", output("y", "FP32", [2], [1.0, 2.0]))

GOLDEN = {
    "tritonclient sync: no Content-Type": Golden(
        "echo",
        TRITON_FP32 + FLOATS,
        answered("echo", binary("y", "FP32", [2], 8)),
        {"User-Agent": "python/gevent-http-client-2.6.1", "Inference-Header-Content-Length": "132"},
        FLOATS,
    ),
    "tritonclient aio": Golden(
        "echo",
        TRITON_FP32 + FLOATS,
        answered("echo", binary("y", "FP32", [2], 8)),
        {"Content-Type": OCTETS, "Accept": "*/*", "Inference-Header-Content-Length": "132"},
        FLOATS,
    ),
    "tritonclient aio: JSON as octet-stream": Golden("echo", PLAIN, JSON_ECHO, {"Content-Type": OCTETS}),
    "tritonclient: mixed JSON and binary, versioned": Golden(
        "pair/versions/1",
        MIXED + struct.pack("<2q", 3, 4),
        answered("pair", output("b_out", "INT64", [2], [3, 4]), binary("a_out", "FP32", [2], 8)),
        {"Inference-Header-Content-Length": "268"},
        FLOATS,
    ),
    "tritonclient: NaN and infinities as bare tokens": Golden(
        "echo",
        b'{"inputs":[{"name":"x","shape":[4],"datatype":"FP32","data":[1.0,NaN,Infinity,-Infinity]}]}',
        answered("echo", output("y", "FP32", [4], [1.0, None, None, None])),
    ),
    "kserve: BYTES in binary, lower-case headers": Golden(
        "text",
        b'{"id":"%s","model_name":"text","inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES",'
        b'"parameters":{"binary_data_size":11}}]}' % UUID.encode() + bytes.fromhex("01000000 61 02000000 c3a9"),
        answered("text", output("y", "BYTES", [1, 2], ["a", "é"]), id=UUID),
        {"content-type": OCTETS, "inference-header-content-length": "159"},
    ),
    "kserve: an empty tensor, no length header": Golden(
        "matrix",
        KSERVE + b'"shape":[0,2],"datatype":"FP32","parameters":{"binary_data_size":0},"data":null}]}',
        answered("matrix", output("y", "FP32", [0, 2], []), id=UUID),
        {"content-type": JSON},
    ),
    "kserve: NaN as null": Golden(
        "echo",
        KSERVE + b'"shape":[2],"datatype":"FP32","data":[1.0,null]}]}',
        answered("echo", output("y", "FP32", [2], [1.0, None]), id=UUID),
        {"content-type": JSON},
    ),
    "C++: the length header of a body that is all JSON": Golden(
        "echo", PLAIN, JSON_ECHO, {"Inference-Header-Content-Length": str(len(PLAIN)), "Content-Type": JSON}
    ),
    "a body in gzip, the length of the JSON as it was": Golden(
        "echo",
        gzip.compress(TRITON_FP32 + FLOATS),
        answered("echo", binary("y", "FP32", [2], 8)),
        {"Content-Encoding": "gzip", "Inference-Header-Content-Length": "132"},
        FLOATS,
    ),
    "a body in deflate": Golden("echo", zlib.compress(PLAIN), JSON_ECHO, {"Content-Encoding": "deflate"}),
    "raw binary": Golden(
        "echo",
        FLOATS,
        answered("echo", binary("y", "FP32", [2], 8)),
        {"Inference-Header-Content-Length": "0"},
        FLOATS,
    ),
    "raw binary of one string": Golden(
        "word",
        b"h\xc3\xa9",
        answered("word", binary("y", "BYTES", [1], 7)),
        {"Inference-Header-Content-Length": "0"},
        b"\x03\0\0\0h\xc3\xa9",
    ),
    "raw binary of a batch model": Golden(
        "batched",
        struct.pack("<3f", 1, 2, 3),
        answered("batched", binary("y", "FP32", [1, 3], 12)),
        {"Inference-Header-Content-Length": "0"},
        struct.pack("<3f", 1, 2, 3),
    ),
    "an empty binary output": Golden(
        "matrix",
        b'{"inputs":[{"name":"x","shape":[0,2],"datatype":"FP32","data":[]}],"outputs":[{"name":"y",'
        b'"parameters":{"binary_data":true}}]}',
        answered("matrix", binary("y", "FP32", [0, 2], 0)),
    ),
    "nested data": Golden(
        "matrix",
        b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2],[3,4]]}]}',
        answered("matrix", output("y", "FP32", [2, 2], [1.0, 2.0, 3.0, 4.0])),
    ),
    "a scalar": Golden(
        "scalar",
        b'{"inputs":[{"name":"x","shape":[],"datatype":"FP32","data":[7]}]}',
        answered("scalar", output("y", "FP32", [], [7.0])),
    ),
    "integers above 2^53": Golden(
        "INT64",
        b'{"inputs":[{"name":"x","shape":[3],"datatype":"INT64",'
        b'"data":[9007199254740993,-9223372036854775808,9223372036854775807]}]}',
        answered("INT64", output("y", "INT64", [3], [2**53 + 1, -(2**63), 2**63 - 1])),
    ),
    "unsigned integers above 2^63": Golden(
        "UINT64",
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"UINT64","data":[18446744073709551615]}]}',
        answered("UINT64", output("y", "UINT64", [1], [2**64 - 1])),
    ),
    "unknown members, empty outputs": Golden(
        "echo",
        b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2],"extra":{}}],"outputs":[],"extra":[[]],'
        b'"parameters":{"mine":"1","priority":1,"sequence_id":7,"sequence_start":true}}',
        JSON_ECHO,
    ),
    "an empty id": Golden("echo", b'{"id":"",' + PLAIN[1:], {**JSON_ECHO, "id": ""}),
}


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
def test_requests_of_real_clients(tiny: Server, golden: Golden) -> None:
    answer = tiny.ask("POST", f"/v2/models/{golden.path}/infer", golden.body, golden.headers)
    assert answer.status == 200, answer
    assert (answer.json, answer.tail) == (golden.json, golden.tail)
    headers = {"content-type": JSON, "content-length": str(len(answer.body))}
    if any("parameters" in item for item in golden.json["outputs"]):
        headers |= {"content-type": OCTETS, HEADER_LENGTH: str(len(answer.body) - len(golden.tail))}
    assert answer.headers == headers


def test_the_golden_bytes_of_tritonclient_on_the_wire(tiny: Server) -> None:
    with socket.create_connection(("127.0.0.1", tiny.port), 30) as connection:
        connection.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nUser-Agent: python/gevent-http-client-2.6.1\r\n"
            b"Inference-Header-Content-Length: 132\r\nHost: 127.0.0.1:18080\r\nContent-Length: 140\r\n"
            b"Connection: close\r\n\r\n" + TRITON_FP32 + FLOATS
        )
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body.endswith(b"}" + FLOATS)
    assert f"{HEADER_LENGTH}: {len(body) - 8}".encode() in head.split(b"\r\n")


ENCODINGS: dict[str, tuple[str | None, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.decompress),
    "deflate": ("deflate", zlib.decompress),
    "gzip, deflate, br": ("gzip", gzip.decompress),
    "gzip;q=0.2, deflate;q=0.5": ("deflate", zlib.decompress),
    "br": (None, bytes),
    "identity, gzip;q=0": (None, bytes),
}


@pytest.mark.parametrize("accept", ENCODINGS)
def test_answers_are_compressed_on_demand(tiny: Server, accept: str) -> None:
    encoding, decompress = ENCODINGS[accept]
    headers = {"Accept-Encoding": accept, "Inference-Header-Content-Length": "132"}
    answer = tiny.ask("POST", "/v2/models/echo/infer", TRITON_FP32 + FLOATS, headers)
    plain = Answer(answer.status, answer.headers, decompress(answer.body))
    assert (plain.status, plain.json, plain.tail) == (200, answered("echo", binary("y", "FP32", [2], 8)), FLOATS)
    assert answer.headers == {
        "content-type": OCTETS,
        HEADER_LENGTH: str(len(plain.body) - 8),
        "content-length": str(len(answer.body)),
        **({"content-encoding": encoding} if encoding else {}),
    }


@pytest.mark.parametrize(("method", "path"), [("GET", "/v2"), ("GET", "/v2/models/echo"), ("GET", "/nothing")])
def test_nothing_but_inference_is_compressed(tiny: Server, method: str, path: str) -> None:
    assert tiny.ask(method, path, headers={"Accept-Encoding": "gzip, deflate, br"}) == tiny.ask(method, path)


SERVER_METADATA = {
    "name": "inferry",
    "version": inferry.__version__,
    "extensions": ["classification", "model_configuration", "binary_tensor_data", "parameters", "statistics"],
}
TABLE = {
    "name": "table",
    "platform": "onnxruntime_onnx",
    "backend": "onnxruntime",
    "version_policy": {"all": {}},
    "max_batch_size": 0,
    "input": [
        {
            "name": name,
            "data_type": datatype,
            "format": "FORMAT_NONE",
            "dims": [-1, 1],
            "is_shape_tensor": False,
            "allow_ragged_batch": False,
            "optional": False,
        }
        for name, datatype in (("a", "TYPE_FP32"), ("b", "TYPE_INT64"))
    ],
    "output": [
        {"name": name, "data_type": datatype, "dims": [-1, 1], "label_filename": "", "is_shape_tensor": False}
        for name, datatype in (("a_out", "TYPE_FP32"), ("b_out", "TYPE_INT64"))
    ],
    "instance_group": [{"name": "table_0", "kind": "KIND_CPU", "count": 1}],
    "default_model_filename": "model.onnx",
    "optimization": {"graph": {"level": 0}},
    "parameters": {"intra_op_thread_count": {"string_value": "0"}},
    "model_warmup": [],
}
GETS = {
    "/v2": SERVER_METADATA,
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"live": True, "ready": True},
    "/v2/models/echo/ready": {"name": "echo", "ready": True},
    "/v2/models/echo/versions/2/ready": {"name": "echo", "ready": True},
    "/v2/models/table/config": TABLE,
    "/v2/models/table/versions/1/config": TABLE,
    "/v1/models/echo": {"name": "echo", "ready": True},
    "/": {"status": "alive", "docs": "/docs"},
}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", GETS)
def test_get(tiny: Server, path: str, slash: str) -> None:
    answer = tiny.ask("GET", (path + slash).replace("//", "/"))
    assert (answer.status, answer.json) == (200, GETS[path])
    assert answer.headers == {"content-type": JSON, "content-length": str(len(answer.body))}


@pytest.mark.parametrize("path", [*GETS, "/metrics", "/docs", "/openapi.json", "/v2/models/echo", "/nothing"])
def test_head_is_get_without_a_body(tiny: Server, path: str) -> None:
    get, head = tiny.ask("GET", path), tiny.ask("HEAD", path)
    if path == "/metrics":  # which counts the request before
        assert int(head.headers.pop("content-length")) >= int(get.headers.pop("content-length")) > 0
    assert head == get._replace(body=b"")


@pytest.mark.parametrize("headers", [{}, {"Content-Type": JSON}, {"Content-Type": OCTETS}], ids=["none", JSON, OCTETS])
@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"ready": false}'])
def test_the_index_takes_any_body(tiny: Server, body: bytes | None, headers: Mapping[str, str]) -> None:
    answer = tiny.ask("POST", "/v2/repository/index", body, headers)
    assert answer.status == 200
    index = {(item["name"], item["version"]): item["state"] for item in answer.json}
    assert index["echo", "1"] == "READY"
    assert index["broken", "1"] == "UNAVAILABLE"


@pytest.mark.parametrize("headers", [{}, {"Content-Type": JSON}, {"Content-Type": OCTETS}], ids=["none", JSON, OCTETS])
@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"parameters":{"unload_dependents":false}}'])
def test_load_and_unload_take_any_body(
    app: Callable[..., ASGIApp], body: bytes | None, headers: Mapping[str, str]
) -> None:
    served = app({"m.onnx": onnx_models.identity()}, model_control=True)
    for operation, ready in (("load", 200), ("unload", 503), ("load", 200)):
        answer = ask(served, "POST", f"/v2/repository/models/m/{operation}", content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"name": "m", operation: True})
        assert ask(served, "GET", "/v2/models/m/ready").status_code == ready


def test_the_configuration_of_a_batched_model(app: Callable[..., ASGIApp]) -> None:
    config = b'{"max_batch_size": 4, "dynamic_batching": {"max_queue_delay_us": 500}}'
    answer = ask(app({"m/1/model.onnx": onnx_models.scaled(), "m/config.json": config}), "GET", "/v2/models/m/config")
    given = answer.json()
    assert (given["max_batch_size"], given["dynamic_batching"]) == (4, {"max_queue_delay_microseconds": 500})
    # Without the batch's axis, which an optional input has not.
    assert [(tensor["name"], tensor["dims"], tensor["optional"]) for tensor in given["input"]] == [
        ("x", [3], False),
        ("factor", [1], True),
    ]
    assert [(tensor["name"], tensor["dims"]) for tensor in given["output"]] == [("y", [3])]


def test_the_metadata_of_a_model_with_a_broken_version(app: Callable[..., ASGIApp]) -> None:
    served = app({"m/1/model.onnx": onnx_models.identity(), "m/2/model.onnx": b"not a model"})
    assert ask(served, "GET", "/v2/models/m").json()["versions"] == ["1"]
    assert ask(served, "GET", "/v2/models/m/versions/2").status_code == 503


def test_the_index_of_ready_models(tiny: Server) -> None:
    everything, ready = (tiny.post("/v2/repository/index", {"ready": only}).json for only in (False, True))
    assert ready == [item for item in everything if item["state"] == "READY"]
    unavailable = {item["name"] for item in everything if item["state"] == "UNAVAILABLE"}
    assert unavailable == {"broken", "sequence", "complex"}


VERBS = {
    ("GET", "/v2/models/echo/infer"): "POST",
    ("PUT", "/v2/models/echo/infer"): "POST",
    ("POST", "/v2"): "GET",
    ("HEAD", "/predict"): "POST",
    ("DELETE", "/v2/models/echo"): "GET",
    ("PROPFIND", "/v2/health/live"): "GET",
    ("PATCH", "/v2/logging"): "GET, POST",
    ("OPTIONS", "/v2/models/echo/infer"): "POST",
    ("GET", "/v1/models/echo:predict"): "POST",
}


@pytest.mark.parametrize(("method", "path"), VERBS)
def test_a_wrong_verb_is_told_the_right_ones(tiny: Server, method: str, path: str) -> None:
    answer = tiny.ask(method, path)
    allowed = VERBS[method, path]
    error = json.dumps({"error": f"{method} is not allowed on {path!r}; use {allowed}"}, separators=(",", ":")).encode()
    assert answer == Answer(
        405,
        {"content-type": JSON, "allow": allowed, "content-length": str(len(error))},
        b"" if method == "HEAD" else error,
    )


@dataclass(frozen=True)
class Failure:
    """A request that is answered with an error."""

    status: int
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


TURNS = json.dumps({"inputs": [tensor("turns", "INT64", [1], [10**9])], "parameters": {"timeout": 50_000}}).encode()
STATUSES = {
    "malformed JSON": Failure(400, "POST", "/v2/models/echo/infer", b"{"),
    "model control is off": Failure(403, "POST", "/v2/repository/models/echo/load", b""),
    "unknown model": Failure(404, "GET", "/v2/models/nobody"),
    "unknown version": Failure(404, "GET", "/v2/models/echo/versions/9"),
    "unknown path": Failure(404, "GET", "/v3"),
    "wrong verb": Failure(405, "GET", "/predict"),
    "body over the limit": Failure(413, "POST", "/v2/models/echo/infer", bytes(MAX_REQUEST_BYTES + 1)),
    "unknown Content-Encoding": Failure(415, "POST", "/v2/models/echo/infer", PLAIN, {"Content-Encoding": "br"}),
    "ONNX Runtime fails": Failure(
        500, "POST", "/v2/models/failing/infer", b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
    ),
    "shared memory": Failure(501, "GET", "/v2/systemsharedmemory/status"),
    "model unavailable": Failure(503, "GET", "/v2/models/broken/ready"),
    "timeout of the request": Failure(504, "POST", "/v2/models/slow/infer", TURNS),
}


@pytest.mark.parametrize("failure", STATUSES.values(), ids=STATUSES)
def test_statuses(tiny: Server, failure: Failure) -> None:
    # tritonclient's asyncio client always accepts these, and reads none of them in errors.
    accept = {"Accept-Encoding": "gzip, deflate, br"}
    answer = tiny.ask(failure.method, failure.path, failure.body, {**failure.headers, **accept})
    assert answer.status == failure.status
    assert answer.headers["content-type"] == JSON
    assert "content-encoding" not in answer.headers
    assert list(answer.json) == ["error"]


def test_cors_is_off_by_default(tiny: Server) -> None:
    plain = tiny.ask("GET", "/v2/health/live")
    assert tiny.ask("GET", "/v2/health/live", headers={"Origin": ORIGIN}) == plain


@pytest.fixture(scope="module")
def cors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("cors"), CORS_ORIGINS=f"{ORIGIN}, https://other.example") as server:
        yield server


def test_cors_preflight(cors: Server) -> None:
    asked = "content-type,inference-header-content-length,x-api-key,authorization,content-encoding"
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    answer = cors.ask("OPTIONS", "/v2/models/echo/infer", headers=headers)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert set(answer.headers["access-control-allow-methods"].split(", ")) >= {"GET", "POST"}
    assert set(answer.headers["access-control-allow-headers"].lower().split(", ")) >= set(asked.split(","))


@pytest.mark.parametrize(("path", "status"), [("/v2/health/live", 200), ("/v2", 200), ("/nothing", 404)])
def test_cors_lets_scripts_read_the_length_header(cors: Server, path: str, status: int) -> None:
    plain = cors.ask("GET", path)
    answer = cors.ask("GET", path, headers={"Origin": ORIGIN})
    assert (answer.status, answer.body) == (status, plain.body)
    added = {
        "access-control-allow-origin": ORIGIN,
        "access-control-expose-headers": "content-encoding, inference-header-content-length, location, "
        "retry-after, x-request-id",
        "vary": "Origin",
    }
    assert answer.headers == plain.headers | added


def test_cors_ignores_other_origins(cors: Server) -> None:
    answer = cors.ask("GET", "/v2/health/live", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
