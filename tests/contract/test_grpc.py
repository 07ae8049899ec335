"""The protocol over gRPC: what clients may write, what they are told, and what they may not do to others."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_models
import pytest
from google.protobuf import descriptor_pb2
from grpc import Compression, StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from inferry.http import api_keys
from loopback import free_port
from servers import Server, serving
from tiny import MAX_REQUEST_BYTES
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.local

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"
FOREVER = 10**9
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def connected(server: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options) as channel:
        yield channel


@pytest.fixture(scope="module")
def channel(tiny: Server) -> Iterator[grpc.Channel]:
    with connected(tiny) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)


def raw(model: str, *arrays: np.ndarray, names: Sequence[str] = ("x",), **members: Any) -> Any:
    """A request with raw inputs."""
    message = service_pb2.ModelInferRequest(model_name=model, **members)
    for name, array in zip(names, arrays, strict=True):
        datatype = {"float32": "FP32", "int64": "INT64", "int8": "INT8"}[array.dtype.name]
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return message


def typed(model: str, datatype: str, shape: Sequence[int], **contents: Any) -> Any:
    """A request with one input, whose elements are numbers or texts of protobuf's."""
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="x", datatype=datatype, shape=shape, contents=contents)
    return message


def typed_without(model: str, datatype: str, shape: Sequence[int]) -> Any:
    """A request with one input and no elements."""
    message = empty(model)
    message.inputs.add(name="x", datatype=datatype, shape=shape)
    return message


def empty(model: str) -> Any:
    return service_pb2.ModelInferRequest(model_name=model)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def slow(turns: int = FOREVER, model: str = "slow") -> Any:
    return raw(model, np.array([turns]), names=["turns"])


def failure(call: Callable[[], Any]) -> tuple[StatusCode, str]:
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return failed.value.code(), failed.value.details()


def eventually(wanted: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


TYPED: dict[str, tuple[str, Any, str]] = {
    "BOOL": ("bool_contents", [True, False], "?"),
    "INT8": ("int_contents", [-128, 127], "<i1"),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1], "<i2"),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1], "<i4"),
    "INT64": ("int64_contents", [-(2**63), 2**53 + 1], "<i8"),
    "UINT8": ("uint_contents", [0, 255], "<u1"),
    "UINT16": ("uint_contents", [0, 2**16 - 1], "<u2"),
    "UINT32": ("uint_contents", [0, 2**32 - 1], "<u4"),
    "UINT64": ("uint64_contents", [2**53 + 1, 2**64 - 1], "<u8"),
    "FP32": ("fp32_contents", [0.1, float("inf"), float("nan")], "<f4"),
    "FP64": ("fp64_contents", [0.1, 5e-324], "<f8"),
}


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents(stub: Any, datatype: str) -> None:
    field, values, dtype = TYPED[datatype]
    response = stub.ModelInfer(typed(datatype, datatype, [len(values)], **{field: values}))
    assert response.raw_output_contents == [np.array(values, dtype).tobytes()]
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", datatype, [len(values)])
    assert not output.HasField("contents")


def test_typed_texts(stub: Any) -> None:
    response = stub.ModelInfer(typed("BYTES", "BYTES", [2], bytes_contents=["Grüße".encode(), b""]))
    assert response.raw_output_contents == [b"\x07\0\0\0" + "Grüße".encode() + b"\0\0\0\0"]


@pytest.mark.parametrize("request_", [typed("FP16", "FP16", [0]), typed("echo", "FP32", [0])], ids=["FP16", "FP32"])
def test_nothing_has_no_contents(stub: Any, request_: Any) -> None:
    assert stub.ModelInfer(request_).raw_output_contents == [b""]


def test_the_whole_response(stub: Any) -> None:
    request = raw("pair", floats(1, 2), np.array([3]), names=["a", "b"], id="7")
    request.outputs.add(name="b_out")
    request.outputs.add(name="a_out")
    response = service_pb2.ModelInferResponse(model_name="pair", model_version="1", id="7")
    response.outputs.add(name="b_out", datatype="INT64", shape=[1])
    response.outputs.add(name="a_out", datatype="FP32", shape=[2])
    response.raw_output_contents.extend([np.array([3]).tobytes(), floats(1, 2).tobytes()])
    assert stub.ModelInfer(request) == response


def with_(message: Any, **members: Any) -> Any:
    message.MergeFrom(type(message)(**members))
    return message


def both() -> Any:
    message = raw("echo", floats(1))
    message.inputs[0].contents.fp32_contents.append(1)
    return message


def with_parameter(message: Any, name: str, **value: Any) -> Any:
    message.parameters[name].MergeFrom(service_pb2.InferParameter(**value))
    return message


BAD = {
    "unknown model": (raw("nobody", floats(1)), "NOT_FOUND", "unknown model 'nobody'"),
    "no model": (raw("", floats(1)), "NOT_FOUND", "unknown model ''"),
    "unknown version": (raw("echo", floats(1), model_version="9"), "NOT_FOUND", "unknown version '9'"),
    "no inputs": (empty("echo"), "INVALID_ARGUMENT", "at least one"),
    "unknown input": (raw("echo", floats(1), names=["z"]), "INVALID_ARGUMENT", "unexpected inference input 'z'"),
    "twice": (
        raw("pair", floats(1), floats(1), names=["a", "a"]),
        "INVALID_ARGUMENT",
        "input 'a' is given more than once for model 'pair'",
    ),
    "datatype": (typed("echo", "STRING", [1]), "INVALID_ARGUMENT", "'datatype' of input 'x' for model 'echo' must be"),
    "negative": (typed("echo", "FP32", [-1]), "INVALID_ARGUMENT", "non-negative integers, got the number -1"),
    "dimensions": (typed("echo", "FP32", [1] * 65), "INVALID_ARGUMENT", "65 dimensions, more than 64"),
    "too many elements": (typed("echo", "FP32", [2**62, 2**62]), "INVALID_ARGUMENT", "is too large"),
    "rank": (raw("matrix", floats(1)), "INVALID_ARGUMENT", "unexpected shape for input 'x'"),
    "raw size": (
        with_(typed_without("echo", "FP32", [3]), raw_input_contents=[b"1234"]),
        "INVALID_ARGUMENT",
        "Expected 12 bytes for shape [3] of FP32, got 4",
    ),
    "raw count": (
        with_(raw("pair", floats(1), np.array([1]), names=["a", "b"]), raw_input_contents=[b""]),
        "INVALID_ARGUMENT",
        "expected one of raw_input_contents for each input for model 'pair', got 3 for 2 inputs",
    ),
    "raw and typed": (both(), "INVALID_ARGUMENT", "contents must not be specified when raw_input_contents are"),
    "count": (typed("echo", "FP32", [2], fp32_contents=[1]), "INVALID_ARGUMENT", "shape [2] takes 2, got 1"),
    "another field": (
        typed("echo", "FP32", [1], fp64_contents=[1]),
        "INVALID_ARGUMENT",
        "has its elements in fp64_contents; send FP32 in fp32_contents",
    ),
    "no field": (
        typed("FP16", "FP16", [1], fp32_contents=[1]),
        "INVALID_ARGUMENT",
        "has its elements in fp32_contents; send FP16 in raw_input_contents",
    ),
    "range": (typed("INT8", "INT8", [1], int_contents=[128]), "INVALID_ARGUMENT", "128 is out of range"),
    "not UTF-8": (typed("BYTES", "BYTES", [1], bytes_contents=[b"\xff"]), "INVALID_ARGUMENT", "not valid UTF-8"),
    "unknown output": (
        with_(raw("echo", floats(1)), outputs=[{"name": "q"}]),
        "INVALID_ARGUMENT",
        "unexpected inference output 'q'",
    ),
    "reserved": (
        with_parameter(raw("echo", floats(1)), "triton_x", bool_param=True),
        "INVALID_ARGUMENT",
        "parameter 'triton_x' is reserved",
    ),
    "no elements": (
        typed_without("echo", "FP32", [1]),
        "INVALID_ARGUMENT",
        "shape [1] takes 1, got 0",
    ),
    "timeout": (
        with_parameter(slow(), "timeout", int64_param=50_000),
        "DEADLINE_EXCEEDED",
        "the time for a prediction of model 'slow' was over",
    ),
    "failing run": (raw("failing", floats(1, 2, 3)), "INTERNAL", "model 'failing' failed"),
    "unavailable": (raw("broken", floats(1)), "UNAVAILABLE", "can't be loaded"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests(stub: Any, name: str) -> None:
    request, code, text = BAD[name]
    got, details = failure(lambda: stub.ModelInfer(request))
    assert got.name == code
    assert text in details


def test_a_binary_data_output_changes_nothing(stub: Any) -> None:
    """Outputs are raw, whatever JSON's parameters say."""
    request = with_parameter(raw("echo", floats(1)), "binary_data_output", bool_param=False)
    request.outputs.add(name="y").parameters["binary_data"].bool_param = False
    assert stub.ModelInfer(request).raw_output_contents == [floats(1).tobytes()]


def test_a_long_error_reaches_its_client(stub: Any) -> None:
    code, details = failure(lambda: stub.ModelInfer(raw("echo", floats(1), names=["ü" * 5000])))
    assert code is StatusCode.INVALID_ARGUMENT
    assert details.startswith("unexpected inference input 'üü")
    assert details.endswith("...")


def test_unknown_methods(channel: grpc.Channel) -> None:
    for path, text in ((f"/{SERVICE}/Nothing", "a part of the protocol"), ("/other.Service/Call", "Method not found")):
        code, details = failure(partial(channel.unary_unary(path), b""))
        assert code is StatusCode.UNIMPLEMENTED
        assert text in details


def called(channel: grpc.Channel, data: bytes) -> tuple[StatusCode, str]:
    return failure(lambda: channel.unary_unary(INFER)(data, timeout=20))


HOSTILE = {
    "no message": b"\xff" * 1000,
    "cut off": raw("echo", floats(1)).SerializeToString()[:-2],
    "a group without end": b"\x0b" * 1000,
    "text that is none": b"\x0a\x01\xff",
    "many inputs": b"\x0a\x04echo" + b"\x2a\x00" * 400_000,
    "some inputs": b"\x0a\x04echo" + b"\x2a\x00" * 100_000,
    "many outputs": b"\x0a\x04echo" + b"\x32\x00" * 400_000,
    "many parameters": b"\x0a\x04echo" + b"\x22\x00" * 400_000,
    "many dimensions": b"\x0a\x04echo\x2a\x83\xea\x30\x1a\xff\xe9\x30" + b"\x01" * 799_999,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes(tiny: Server, channel: grpc.Channel, stub: Any, name: str) -> None:
    assert called(channel, HOSTILE[name])[0] is StatusCode.INVALID_ARGUMENT
    assert stub.ModelInfer(raw("echo", floats(1))).raw_output_contents == [floats(1).tobytes()]
    assert "Traceback" not in tiny.log


def test_a_call_without_a_message(channel: grpc.Channel) -> None:
    code, details = failure(lambda: channel.stream_unary(INFER)(iter(())))
    assert (code, details) == (StatusCode.INVALID_ARGUMENT, "the call has no message")


@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.Deflate])
def test_compressed_messages(stub: Any, compression: Compression) -> None:
    array = np.zeros(1000, np.float32)
    assert stub.ModelInfer(raw("echo", array), compression=compression).raw_output_contents == [array.tobytes()]


@pytest.mark.parametrize("compression", [None, Compression.Gzip])
def test_messages_that_are_too_large(stub: Any, compression: Compression | None) -> None:
    """Before and after decompression."""
    array = np.zeros(MAX_REQUEST_BYTES // 4, np.float32)
    code, details = failure(lambda: stub.ModelInfer(raw("echo", array), compression=compression))
    assert code is StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in details
    fits = np.zeros(MAX_REQUEST_BYTES // 4 - 100, np.float32)
    assert stub.ModelInfer(raw("echo", fits), compression=compression).raw_output_contents == [fits.tobytes()]


LARGE = {
    "raw": raw("echo", np.arange(200_000, dtype=np.float32)),
    "typed": typed("echo", "FP32", [200_000], fp32_contents=range(200_000)),
    "texts": typed("BYTES", "BYTES", [100_000], bytes_contents=[b"ab"] * 100_000),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_messages(stub: Any, name: str) -> None:
    (got,) = stub.ModelInfer(LARGE[name]).raw_output_contents
    expected = b"\2\0\0\0ab" * 100_000 if name == "texts" else np.arange(200_000, dtype=np.float32).tobytes()
    assert got == expected


def test_a_large_message_that_is_wrong(stub: Any) -> None:
    code, details = failure(lambda: stub.ModelInfer(typed("echo", "FP32", [1], fp32_contents=range(200_000))))
    assert code is StatusCode.INVALID_ARGUMENT
    assert "shape [1] takes 1, got 200000" in details


def counted(server: Server, name: str, **labels: str) -> float:
    """A sample of GET /metrics; 0 where there is none."""
    for line in server.ask("GET", "/metrics").body.decode().splitlines():
        if line.startswith(f"{name}{{") and all(f'{label}="{value}"' in line for label, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0


def test_calls_are_counted_as_requests_are(tiny: Server, stub: Any) -> None:
    def counts() -> list[float]:
        return [
            counted(tiny, "inferry_requests_total", model="INT16"),
            counted(tiny, "inferry_request_failures_total", model="INT16", reason="invalid"),
            counted(tiny, "inferry_http_requests_total", route=INFER, status="200"),
            counted(tiny, "inferry_http_requests_total", route=INFER, status="400"),
        ]

    before = counts()
    stub.ModelInfer(typed("INT16", "INT16", [1], int_contents=[1]))
    failure(lambda: stub.ModelInfer(typed("INT16", "INT16", [1], int_contents=[2**20])))
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [2, 1, 1, 1]


def test_a_deadline_ends_a_run(tiny: Server, stub: Any) -> None:
    before = counted(tiny, "inferry_request_failures_total", model="slow", reason="timeout")
    code, _ = failure(lambda: stub.ModelInfer(slow(), timeout=0.5))
    assert code is StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: counted(tiny, "inferry_requests_in_flight", model="slow") == 0)
    assert counted(tiny, "inferry_request_failures_total", model="slow", reason="timeout") == before + 1


def test_who_cancels_a_call_ends_its_run(tiny: Server, stub: Any) -> None:
    before = counted(tiny, "inferry_request_failures_total", model="slow", reason="canceled")
    call = stub.ModelInfer.future(slow())
    eventually(lambda: counted(tiny, "inferry_requests_in_flight", model="slow") == 1)
    call.cancel()
    eventually(lambda: counted(tiny, "inferry_requests_in_flight", model="slow") == 0)
    assert counted(tiny, "inferry_request_failures_total", model="slow", reason="canceled") == before + 1


def test_a_full_queue(stub: Any) -> None:
    """Of the model `queue` one request may be there."""
    calls = [stub.ModelInfer.future(slow(model="queue"), timeout=20) for _ in range(3)]
    eventually(lambda: sum(call.done() for call in calls) == 2)
    refused = [(call.code(), "(max_queue_size)" in call.details()) for call in calls if call.done()]
    assert refused == [(StatusCode.UNAVAILABLE, True)] * 2
    for call in calls:
        call.cancel()


def test_a_stream_goes_on_behind_an_error(stub: Any) -> None:
    requests = [
        raw("echo", floats(1), id="a"),
        raw("nobody", floats(1), id="b"),
        typed("INT8", "INT8", [1], int_contents=[128]),
        raw("echo", floats(2), id="c"),
    ]
    responses = list(stub.ModelStreamInfer(iter(requests)))
    assert [response.error_message.split(";")[0] for response in responses] == [
        "",
        "unknown model 'nobody'",
        "128 is out of range for input 'x' for model 'INT8': INT8 holds -128 to 127",
        "",
    ]
    assert [response.infer_response.id for response in responses] == ["a", "b", "", "c"]
    last = responses[-1].infer_response
    assert last.raw_output_contents == [floats(2).tobytes()]
    assert last.parameters["triton_final_response"].bool_param


def test_a_stream_of_bytes_that_are_no_message(channel: grpc.Channel) -> None:
    stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
    good = raw("echo", floats(1)).SerializeToString()
    parse = service_pb2.ModelStreamInferResponse.FromString
    bad, fine = map(parse, stream(iter([b"\xff" * 10, good])))
    assert "these bytes are no inference.ModelInferRequest message" in bad.error_message
    assert fine.infer_response.raw_output_contents == [floats(1).tobytes()]


def test_a_stream_that_asks_for_its_last_response(stub: Any) -> None:
    """As tritonclient does for models that give several responses to a request."""
    request = with_parameter(raw("echo", floats(1)), "triton_enable_empty_final_response", bool_param=True)
    (response,) = stub.ModelStreamInfer(iter([request]))
    assert response.infer_response.parameters["triton_final_response"].bool_param


def test_large_messages_of_a_stream_are_held_one_at_a_time(tiny: Server, stub: Any) -> None:
    """Twenty of 0.8 MB are more than the 8 MB that the server holds."""
    responses = list(stub.ModelStreamInfer(iter([LARGE["raw"]] * 20)))
    assert [response.error_message for response in responses] == [""] * 20


def test_health(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
    code, _ = failure(lambda: health.Check(health_pb2.HealthCheckRequest(service="other")))
    assert code is StatusCode.NOT_FOUND


def test_reflection(channel: grpc.Channel) -> None:
    """What grpcurl asks."""
    asked = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    requests = [{"list_services": ""}, {"file_containing_symbol": SERVICE}, {"file_containing_symbol": "other"}]
    listed, found, missing = asked(iter([reflection_pb2.ServerReflectionRequest(**request) for request in requests]))
    names = [service.name for service in listed.list_services_response.service]
    assert names == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", SERVICE]
    (data,) = found.file_descriptor_response.file_descriptor_proto
    (service,) = descriptor_pb2.FileDescriptorProto.FromString(data).service
    assert {method.name for method in service.method} >= {"ModelInfer", "ModelStreamInfer", "RepositoryIndex"}
    assert missing.error_response.error_code == StatusCode.NOT_FOUND.value[0]


def trailing(call: Any) -> dict[str, str]:
    return dict(call.trailing_metadata())


def test_a_request_id_comes_back(stub: Any) -> None:
    _, call = stub.ModelInfer.with_call(raw("echo", floats(1)), metadata=[("x-request-id", "mine")])
    assert trailing(call)["x-request-id"] == "mine"
    _, call = stub.ModelInfer.with_call(raw("echo", floats(1)))
    assert "x-request-id" not in trailing(call)


@contextmanager
def own(tmp_path: Path, **env: str) -> Iterator[tuple[Server, Any]]:
    """A server of `m` (an identity) and `slow`, and a stub of it."""
    models = {"m.onnx": onnx_models.identity("FP32", ("n",)), "slow.onnx": onnx_models.slow()}
    onnx_models.write(tmp_path, models)
    with serving(tmp_path, GRPC_PORT=str(free_port()), **env) as server, connected(server) as channel:
        yield server, GRPCInferenceServiceStub(channel)


def test_lines_of_the_log(tmp_path: Path) -> None:
    with own(tmp_path, LOG_FORMAT="json") as (server, stub):
        _, call = stub.ModelInfer.with_call(raw("m", floats(1, 2)))
        request_id = trailing(call)["x-request-id"]
        failure(lambda: stub.ModelInfer(raw("nobody", floats(1)), metadata=[("x-request-id", "second")]))
        list(stub.ModelStreamInfer(iter([raw("m", floats(1)), raw("nobody", floats(1))])))
        stub.ServerLive(service_pb2.ServerLiveRequest())
    lines = [json.loads(line) for line in server.final_log.splitlines()]
    calls = [line for line in lines if "path" in line]
    assert [(line["path"], line["status"], line["outcome"]) for line in calls] == [
        (INFER, 200, "success"),
        (INFER, 404, "not_found"),
        (f"/{SERVICE}/ModelStreamInfer", 200, "success"),
        (f"/{SERVICE}/ModelStreamInfer", 404, "not_found"),
    ]
    assert [line["request_id"] for line in calls[:2]] == [request_id, "second"]
    first = calls[0]
    assert (first["method"], first["model"], first["version"], first["rows"]) == ("POST", "m", "1", 2)
    request = raw("m", floats(1, 2)).ByteSize()
    assert (first["request_bytes"], first["response_bytes"]) == (request, len(first_response(request)))


def first_response(_: int) -> bytes:
    response = service_pb2.ModelInferResponse(model_name="m", model_version="1")
    response.outputs.add(name="y", datatype="FP32", shape=[2])
    response.raw_output_contents.append(floats(1, 2).tobytes())
    return response.SerializeToString()


KEY, DIGEST = api_keys.new()


def test_keys(tmp_path: Path) -> None:
    with own(tmp_path, API_KEYS=DIGEST) as (_, stub):
        assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
        assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
        for metadata in ([("x-api-key", KEY)], [("authorization", f"Bearer {KEY}")]):
            assert stub.ModelInfer(raw("m", floats(1)), metadata=metadata).model_name == "m"
            assert len(list(stub.ModelStreamInfer(iter([raw("m", floats(1))]), metadata=metadata))) == 1
        for call in (
            lambda **options: stub.ModelInfer(raw("m", floats(1)), **options),
            lambda **options: list(stub.ModelStreamInfer(iter([raw("m", floats(1))]), **options)),
            lambda **options: stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), **options),
        ):
            code, details = failure(call)
            assert (code, "needs an API key" in details) == (StatusCode.UNAUTHENTICATED, True)
            code, _ = failure(partial(call, metadata=[("x-api-key", "another")]))
            assert code is StatusCode.PERMISSION_DENIED


def test_what_has_no_key_is_not_read(tmp_path: Path) -> None:
    """The client hears of it before its message has come."""
    sent = threading.Event()

    def never() -> Iterator[bytes]:
        sent.wait(20)
        yield b""

    with own(tmp_path, API_KEYS="0" * 64) as (server, _), connected(server) as channel:
        code, _ = failure(lambda: channel.stream_unary(INFER)(never(), timeout=15))
        sent.set()
    assert code is StatusCode.UNAUTHENTICATED


def test_a_message_that_is_late(tmp_path: Path) -> None:
    sent = threading.Event()

    def never() -> Iterator[bytes]:
        sent.wait(20)
        yield b""

    with own(tmp_path, BODY_TIMEOUT="0.5") as (server, stub), connected(server) as channel:
        code, details = failure(lambda: channel.stream_unary(INFER)(never(), timeout=15))
        sent.set()
        assert (code, "BODY_TIMEOUT" in details) == (StatusCode.DEADLINE_EXCEEDED, True)
        assert stub.ModelInfer(raw("m", floats(1))).model_name == "m"


def test_no_client_has_more_than_half_of_the_calls(tmp_path: Path) -> None:
    with own(tmp_path, MAX_CONNECTIONS="4") as (server, stub):
        running = [stub.ModelInfer.future(slow(), timeout=20) for _ in range(2)]
        eventually(lambda: counted(server, "inferry_requests_in_flight", model="slow") == 2)
        code, details = failure(lambda: stub.ModelInfer(raw("m", floats(1))))
        assert (code, "MAX_CONNECTIONS" in details) == (StatusCode.UNAVAILABLE, True)
        for call in running:
            call.cancel()
        eventually(lambda: counted(server, "inferry_requests_in_flight", model="slow") == 0)
        assert stub.ModelInfer(raw("m", floats(1))).model_name == "m"


def test_two_workers_share_the_port(tmp_path: Path) -> None:
    """A client has one of them, others may have the other."""
    with own(tmp_path, WORKERS="2") as (server, _):

        def asked() -> bool:
            with connected(server) as channel:
                stub = GRPCInferenceServiceStub(channel)
                assert stub.ModelInfer(raw("m", floats(1)), wait_for_ready=True).model_name == "m"
            pages = server.ask("GET", "/metrics").body.decode().splitlines()
            return (
                len([line for line in pages if line.startswith("inferry_requests_total") and 'model="m"' in line]) == 2
            )

        eventually(asked)


def turns_for(stub: Any, seconds: float) -> int:
    """How many turns of the slow model take this long here, or longer while others use the machine."""

    def took() -> float:
        start = time.monotonic()
        stub.ModelInfer(slow(100))
        return time.monotonic() - start

    return int(seconds / min(took() for _ in range(5)) * 100)


def test_a_server_that_ends_answers_what_is_in_flight(tmp_path: Path) -> None:
    with own(tmp_path, SHUTDOWN_GRACE="2") as (server, stub), connected(server) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(watched).status == SERVING
        call = stub.ModelInfer.future(slow(turns_for(stub, 1)), timeout=60)
        eventually(lambda: counted(server, "inferry_requests_in_flight", model="slow") == 1)
        server.terminate()
        assert next(watched).status == NOT_SERVING
        assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready is False
        assert stub.ModelInfer(raw("m", floats(1))).model_name == "m"
        assert call.result().model_name == "slow"
        assert server.wait() == 0


def test_responses_that_are_too_large(tmp_path: Path) -> None:
    with own(tmp_path, MAX_RESPONSE_BYTES="1000") as (_, stub):
        code, details = failure(lambda: stub.ModelInfer(raw("m", np.zeros(300, np.float32))))
    assert (code, "MAX_RESPONSE_BYTES" in details) == (StatusCode.RESOURCE_EXHAUSTED, True)


def test_tensors_by_reference(tmp_path: Path) -> None:
    place = tmp_path / "tensors"
    place.mkdir()
    (place / "x").write_bytes(floats(1, 2).tobytes())
    with own(tmp_path / "models", DATA_PREFIXES=str(place)) as (_, stub):
        request = service_pb2.ModelInferRequest(model_name="m")
        given = request.inputs.add(name="x", datatype="FP32", shape=[2])
        given.parameters["uri"].string_param = f"{place}/x"
        request.outputs.add(name="y").parameters["uri"].string_param = f"{place}/y"
        response = stub.ModelInfer(request)
        code, _ = failure(lambda: stub.ModelInfer(elsewhere()))
    assert response.raw_output_contents == [b""]
    assert response.parameters["uri:y"].string_param == f"{place}/y"
    assert (place / "y").read_bytes() == floats(1, 2).tobytes()
    assert code is StatusCode.PERMISSION_DENIED


def elsewhere() -> Any:
    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[2]).parameters["uri"].string_param = "/etc/hostname"
    return request


def test_kserves_names_of_models(tmp_path: Path) -> None:
    """Its load and unload have the model's name where Triton's have that of a repository."""
    with own(tmp_path, MODEL_CONTROL="true") as (_, stub):
        stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(repository_name="m"))
        assert not stub.ModelReady(service_pb2.ModelReadyRequest(name="m")).ready
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(repository_name="m"))
        assert stub.ModelReady(service_pb2.ModelReadyRequest(name="m")).ready


def test_a_file_that_is_no_bytes(tmp_path: Path) -> None:
    with own(tmp_path, MODEL_CONTROL="true") as (_, stub):
        request = service_pb2.RepositoryModelLoadRequest(model_name="m")
        request.parameters["config"].string_param = "{}"
        request.parameters["file:1/model.onnx"].string_param = "text"
        code, details = failure(lambda: stub.RepositoryModelLoad(request))
    assert (code, "bytes_param" in details) == (StatusCode.INVALID_ARGUMENT, True)
