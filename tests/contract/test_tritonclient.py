"""NVIDIA's client, unmodified, over HTTP and gRPC in both of their forms: every call that applies, and our words in its
exceptions."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import inferry
import ml_dtypes
import numpy as np
import onnx_models
import pytest
import tritonclient.http
from loopback import free_port
from servers import EXAMPLES, Server, serving
from triton import Grpc, GrpcAio, Http, HttpAio, Input, Output
from tritonclient.http import InferInput, InferResult
from tritonclient.utils import InferenceServerException

CLIENTS: dict[str, Any] = {"sync": Http, "aio": HttpAio, "grpc": Grpc, "grpc-aio": GrpcAio}
FORMS = [pytest.param(form, marks=[pytest.mark.local] if form.startswith("grpc") else []) for form in CLIENTS]
STATUSES = {
    "400": "StatusCode.INVALID_ARGUMENT",
    # Of what the server isn't to do.
    "403": "StatusCode.UNAVAILABLE",
    "404": "StatusCode.NOT_FOUND",
    "501": "StatusCode.UNIMPLEMENTED",
    "503": "StatusCode.UNAVAILABLE",
    "504": "StatusCode.DEADLINE_EXCEEDED",
}


@contextmanager
def connected(form: str, server: Server) -> Iterator[Any]:
    client = CLIENTS[form](server)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module", params=FORMS)
def client(request: pytest.FixtureRequest, tiny: Server) -> Iterator[Any]:
    with connected(request.param, tiny) as client:
        yield client


def tensor(name: str, array: np.ndarray, binary: bool = True, datatype: str = "") -> Input:
    return Input(name, array, binary, datatype)


def vector(*values: float) -> Input:
    return tensor("x", np.array(values, np.float32))


def same(got: np.ndarray | None, expected: np.ndarray) -> None:
    assert got is not None
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_liveness_and_readiness(client: Any) -> None:
    assert client.is_server_live() is True
    assert client.is_server_ready() is True


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [
        ("echo", "", True),
        ("echo", "2", True),
        ("echo", "3", False),
        ("nobody", "", False),
        ("broken", "", False),
        ("no such/model", "", False),
    ],
)
def test_model_readiness(client: Any, model: str, version: str, ready: bool) -> None:
    assert client.is_model_ready(model, version) is ready


def test_server_metadata(client: Any) -> None:
    assert client.get_server_metadata() == {
        "name": "inferry",
        "version": inferry.__version__,
        "extensions": ["classification", "model_configuration", "binary_tensor_data", "parameters", "statistics"],
    }


@pytest.mark.parametrize(("version", "versions", "output"), [("", ["1", "2"], "y"), ("2", ["2"], "z")])
def test_model_metadata(client: Any, version: str, versions: list[str], output: str) -> None:
    metadata = client.get_model_metadata("echo", version)
    properties = metadata.pop("properties", None)
    assert metadata == {
        "name": "echo",
        "versions": versions,
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": output, "datatype": "FP32", "shape": [-1]}],
    }
    if client.wire == "http":
        assert properties["producer"] == "inferry-tests 1"
        assert len(properties["sha256"]) == 64


def test_model_config(client: Any) -> None:
    config = client.get_model_config("batched")
    assert (config["name"], config["max_batch_size"]) == ("batched", 4)
    assert [(item["name"], item["data_type"], item["dims"]) for item in config["input"]] == [("x", "TYPE_FP32", [3])]
    assert [(item["name"], item["data_type"], item["dims"]) for item in config["output"]] == [("y", "TYPE_FP32", [3])]


@pytest.mark.parametrize(
    ("model", "files"),
    [("labelled", {"y": "config.json"}), ("classifier", {"label": "", "probabilities": "model.onnx"})],
)
def test_the_files_that_labels_are_in(client: Any, model: str, files: dict[str, str]) -> None:
    outputs = client.get_model_config(model)["output"]
    assert {output["name"]: output["label_filename"] for output in outputs} == files


def test_repository_index(client: Any) -> None:
    index = {(item["name"], item["version"]): item for item in client.get_model_repository_index()}
    assert index["echo", "1"] == {"name": "echo", "version": "1", "state": "READY"}
    assert index["broken", "1"]["state"] == "UNAVAILABLE"
    assert "can't be loaded" in index["broken", "1"]["reason"]


DURATIONS = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}


def test_statistics_count_what_was_asked(client: Any) -> None:
    def statistics() -> Any:
        (stats,) = client.get_inference_statistics("INT16", "1")["model_stats"]
        assert stats.keys() == {
            "name",
            "version",
            "last_inference",
            "inference_count",
            "execution_count",
            "inference_stats",
            "response_stats",
            "batch_stats",
            "memory_usage",
        }
        assert stats["inference_stats"].keys() == DURATIONS
        assert all(entry.keys() == {"count", "ns"} for entry in stats["inference_stats"].values())
        return stats

    before = statistics()
    for _ in range(2):
        client.infer("INT16", [tensor("x", np.arange(3, dtype=np.int16))])
    with pytest.raises(InferenceServerException):
        client.infer("INT16", [vector(1.5)])
    after = statistics()
    assert after["inference_count"] - before["inference_count"] == 2
    assert after["execution_count"] - before["execution_count"] == 2
    counts = {
        name: after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] for name in DURATIONS
    }
    once_each = dict.fromkeys(("success", "queue", "compute_input", "compute_infer", "compute_output"), 2)
    assert counts == {**once_each, "fail": 0, "cache_hit": 0, "cache_miss": 0}
    assert (after["name"], after["version"]) == ("INT16", "1")
    assert after["last_inference"] > 1_700_000_000_000
    assert runs(after) == {1: dict.fromkeys(PARTS, after["execution_count"])}
    assert after["execution_count"] - before["execution_count"] == 2


PARTS = ("compute_input", "compute_infer", "compute_output")


def runs(stats: Any) -> dict[int, dict[str, int]]:
    return {batch["batch_size"]: {part: batch[part]["count"] for part in PARTS} for batch in stats["batch_stats"]}


def test_statistics_of_a_model_are_those_of_all_its_versions(client: Any) -> None:
    stats = client.get_inference_statistics("echo")["model_stats"]
    assert [(item["name"], item["version"]) for item in stats] == [("echo", "1"), ("echo", "2")]


def test_inferences_of_a_batched_model_are_rows(client: Any) -> None:
    client.infer("batched", [tensor("x", np.ones((3, 3), np.float32))])
    (stats,) = client.get_inference_statistics("batched")["model_stats"]
    assert runs(stats)[3].keys() == set(PARTS)
    assert len(set(runs(stats)[3].values())) == 1
    assert stats["inference_count"] >= 3


def test_sequence_parameters_are_ignored(client: Any) -> None:
    answer = client.infer("echo", [vector(1)], sequence_id=7, sequence_start=True, sequence_end=True)
    assert answer.as_numpy("y").tolist() == [1.0]


def test_statistics_of_all_models(client: Any) -> None:
    client.infer("echo", [vector(1)])
    stats = client.get_inference_statistics()["model_stats"]
    assert ("echo", "1") in {(item["name"], item["version"]) for item in stats}


ARRAYS = {
    "BOOL": np.array([True, False]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 2**16 - 1], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([2**53 + 1, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**53 + 1], np.int64),
    "FP16": np.array([0.1, -65504, np.nan], np.float16),
    "BF16": np.array([0.1, -3e38, np.inf], ml_dtypes.bfloat16),
    "FP32": np.array([0.1, 3.4e38, 1e-45, np.nan], np.float32),
    "FP64": np.array([0.1, 1.7e308, 5e-324, np.nan], np.float64),
    "BYTES": np.array(["", "Grüße, 世界", "a\0b"], object),
}


WAYS = [
    (datatype, binary_in, binary_out)
    for datatype in ARRAYS
    for binary_in in (True, False)
    for binary_out in (True, False)
    # tritonclient sends no BF16 as JSON, and reads no null (as infinities are written) into one.
    if datatype != "BF16" or (binary_in and binary_out)
]


@pytest.mark.parametrize("empty", [False, True], ids=["values", "empty"])
@pytest.mark.parametrize(("datatype", "binary_in", "binary_out"), WAYS)
def test_datatypes(client: Any, datatype: str, empty: bool, binary_in: bool, binary_out: bool) -> None:
    array = ARRAYS[datatype][: 0 if empty else None]
    given = np.array([text.encode() for text in array], object) if datatype == "BYTES" else array
    output = Output("y", binary_out)
    result = client.infer(datatype, [tensor("x", given, binary_in)], outputs=[output])
    # BYTES come as bytes from binary outputs, as all are over gRPC, and as str from JSON.
    same(result.as_numpy("y"), given if binary_out or client.wire == "grpc" else array)
    assert result.get_output("y")["datatype"] == datatype


def test_bfloat16_in_json(client: Any) -> None:
    array = np.array([0.1, -3e38], ml_dtypes.bfloat16)
    output = Output("y", False)
    same(client.infer("BF16", [tensor("x", array)], outputs=[output]).as_numpy("y"), array)


def test_bfloat16_nan_keeps_its_bits(client: Any) -> None:
    array = np.array([np.nan, -np.nan], ml_dtypes.bfloat16)
    got = client.infer("BF16", [tensor("x", array)]).as_numpy("y")
    assert got.tobytes() == array.tobytes()


@pytest.mark.parametrize("binary", [True, False])
def test_infinities(client: Any, binary: bool) -> None:
    array = np.array([np.inf, -np.inf, -0.0], np.float32)
    same(client.infer("echo", [tensor("x", array, binary)]).as_numpy("y"), array)


@pytest.mark.parametrize("binary", [True, False])
def test_scalars(client: Any, binary: bool) -> None:
    output = Output("y", binary)
    result = client.infer("scalar", [tensor("x", np.array(1.5, np.float32), binary)], outputs=[output])
    same(result.as_numpy("y"), np.array(1.5, np.float32))


def test_all_outputs_are_binary_by_default(client: Any) -> None:
    a, b = np.array([1, 2], np.float32), np.array([3], np.int64)
    result = client.infer("pair", [tensor("b", b), tensor("a", a, binary=False)])
    assert result.get_response() == {
        "model_name": "pair",
        "model_version": "1",
        "outputs": [
            {"name": "a_out", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
            {"name": "b_out", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
        ],
    }
    same(result.as_numpy("a_out"), a)
    same(result.as_numpy("b_out"), b)


def test_outputs_come_as_listed(client: Any) -> None:
    inputs = [tensor("a", np.array([1, 2], np.float32)), tensor("b", np.array([3], np.int64))]
    outputs = [Output("b_out", False), Output("a_out")]
    result = client.infer("pair", inputs, outputs=outputs)
    as_asked = {"data": [3]} if client.wire == "http" else {"parameters": {"binary_data_size": 8}}
    assert result.get_response()["outputs"] == [
        {"name": "b_out", "datatype": "INT64", "shape": [1], **as_asked},
        {"name": "a_out", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
    ]


@pytest.mark.parametrize("request_id", ["", "42", "ü" * 100])
def test_request_ids_come_back(client: Any, request_id: str) -> None:
    response = client.infer("echo", [vector(1)], request_id=request_id).get_response()
    # tritonclient sends no empty ids.
    assert response.get("id") == (request_id or None)


@pytest.mark.parametrize(("version", "answers", "output"), [("", "1", "y"), ("1", "1", "y"), ("2", "2", "z")])
def test_versions(client: Any, version: str, answers: str, output: str) -> None:
    result = client.infer("echo", [vector(5)], model_version=version)
    assert result.get_response()["model_version"] == answers
    same(result.as_numpy(output), np.array([5], np.float32))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("model", "scores", "classes", "expected"),
    [
        ("labelled", [[1, 2, 3]], 2, ["3.000000:2:cat", "2.000000:1:bee"]),
        # Without batching, the rows of an output are ranked together.
        ("labelled", [[1, 2, 3], [0, 4, 2]], 3, ["4.000000:4", "3.000000:2:cat", "2.000000:1:bee"]),
        ("batched", [[1, 2, 3], [0.25, 0.25, -1]], 1, [["3.000000:2"], ["0.250000:0"]]),
        ("batched", [[0.25, 0.25, -1]], 9, [["0.250000:0", "0.250000:1", "-1.000000:2"]]),
    ],
)
def test_classification(
    client: Any, model: str, scores: list[list[float]], classes: int, expected: list[Any], binary: bool
) -> None:
    output = Output("y", binary, classes)
    given = tensor("x", np.array(scores, np.float32))
    result = client.infer(model, [given], outputs=[output]).as_numpy("y")
    in_bytes = binary or client.wire == "grpc"
    assert np.vectorize(lambda item: item.decode() if in_bytes else item)(result).tolist() == expected


@pytest.mark.parametrize("response", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_", [None, "gzip", "deflate"])
def test_compression(client: Any, request_: str | None, response: str | None) -> None:
    array = np.arange(1000, dtype=np.float32)
    result = client.infer(
        "echo",
        [tensor("x", array)],
        request_compression_algorithm=request_,
        response_compression_algorithm=response,
    )
    same(result.as_numpy("y"), array)


def infer_input(*values: float) -> InferInput:
    return InferInput("x", [len(values)], "FP32").set_data_from_numpy(np.array(values, np.float32))


def test_requests_in_flight_together(tiny: Server) -> None:
    client = tritonclient.http.InferenceServerClient(tiny.address, concurrency=4)
    try:
        pending = [client.async_infer("echo", [infer_input(number)], request_id=str(number)) for number in range(1, 9)]
        for number, request in enumerate(pending, 1):
            result = request.get_result(timeout=30)
            assert result.get_response()["id"] == str(number)
            same(result.as_numpy("y"), np.array([number], np.float32))
    finally:
        client.close()


def test_bodies_made_and_read_by_the_client(tiny: Server) -> None:
    module = tritonclient.http.InferenceServerClient
    body, length = module.generate_request_body([infer_input(1, 2)])
    response = httpx.post(
        f"{tiny.url}/v2/models/echo/infer", content=body, headers={"Inference-Header-Content-Length": str(length)}
    )
    result: InferResult = module.parse_response_body(
        response.content, header_length=int(response.headers["Inference-Header-Content-Length"])
    )
    same(result.as_numpy("y"), np.array([1, 2], np.float32))


FAILURES = {
    "unknown model": ("404", "unknown model 'nobody'", lambda c: c.infer("nobody", [vector(1)])),
    "unknown version": ("404", "unknown version '9'", lambda c: c.infer("echo", [vector(1)], model_version="9")),
    "metadata": ("404", "unknown model 'nobody'", lambda c: c.get_model_metadata("nobody")),
    "unavailable": ("503", "can't be loaded", lambda c: c.get_model_config("broken")),
    "statistics": ("404", "unknown model 'nobody'", lambda c: c.get_inference_statistics("nobody")),
    "unknown input": (
        "400",
        "unexpected inference input 'z' for model 'echo'",
        lambda c: c.infer("echo", [tensor("z", np.zeros(1, np.float32))]),
    ),
    "datatype": (
        "400",
        "inference input 'x' data-type is 'FP64', but model 'echo' expects 'FP32'",
        lambda c: c.infer("echo", [tensor("x", np.array([0.1]))]),
    ),
    "unknown output": (
        "400",
        "unexpected inference output 'q' for model 'echo'",
        lambda c: c.infer("echo", [vector(1)], outputs=[Output("q")]),
    ),
    "batch size": (
        "400",
        "batch-size must be <= 4",
        lambda c: c.infer("batched", [tensor("x", np.zeros((5, 3), np.float32))]),
    ),
    "class count": (
        "400",
        "unsupported type 'FP16'",
        lambda c: c.infer("FP16", [tensor("x", np.zeros(2, np.float16))], outputs=[Output("y", class_count=1)]),
    ),
    "compressed answer": (
        "404",
        "unknown model 'nobody'",
        lambda c: c.infer("nobody", [vector(1)], response_compression_algorithm="gzip"),
    ),
    "timeout": (
        "504",
        "the time",
        lambda c: c.infer("slow", [tensor("turns", np.array([10**9]))], timeout=50_000),
    ),
    "load": ("403", "MODEL_CONTROL", lambda c: c.load_model("echo")),
    "unload": ("403", "MODEL_CONTROL", lambda c: c.unload_model("echo")),
    "trace settings": ("501", "/v2/trace/setting", lambda c: c.get_trace_settings()),
    "trace settings of a model": (
        "501",
        "/v2/models/echo/trace/setting",
        lambda c: c.update_trace_settings("echo", {"trace_level": ["OFF"]}),
    ),
    "log settings": ("501", "/v2/logging", lambda c: c.get_log_settings()),
    "change of log settings": ("501", "/v2/logging", lambda c: c.update_log_settings({"log_info": True})),
    "shared memory": ("501", "systemsharedmemory", lambda c: c.get_system_shared_memory_status()),
    "CUDA": ("501", "cudasharedmemory", lambda c: c.register_cuda_shared_memory("r", b"", 0, 8)),
}


def of_wire(client: Any, status: str) -> str:
    return STATUSES[status] if client.wire == "grpc" else status


METHODS = {
    "/v2/trace/setting": "/TraceSetting",
    "/v2/models/echo/trace/setting": "/TraceSetting",
    "/v2/logging": "/LogSettings",
    "systemsharedmemory": "/SystemSharedMemoryStatus",
    "cudasharedmemory": "/CudaSharedMemoryRegister",
}


@pytest.mark.parametrize("name", FAILURES)
def test_errors_surface_with_our_text(client: Any, name: str) -> None:
    status, text, call = FAILURES[name]
    with pytest.raises(InferenceServerException) as failure:
        call(client)
    if client.wire == "grpc":
        text = METHODS.get(text, text)
    assert failure.value.status() == of_wire(client, status)
    assert text in failure.value.message()


def test_shared_memory_inputs_are_not_offered(client: Any) -> None:
    given = vector(1)._replace(region=("region", 4))
    with pytest.raises(InferenceServerException, match="shared memory") as failure:
        client.infer("echo", [given])
    assert failure.value.status() == of_wire(client, "501")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = onnx_models.write(tmp_path_factory.mktemp("control"), {"m/1/model.onnx": onnx_models.identity()})
    with serving(folder, MODEL_CONTROL="true", GRPC_PORT=str(free_port())) as server:
        yield server


ROW = np.array([[1, 2, 3]], np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_model_control(control: Server, form: str) -> None:
    with connected(form, control) as client:
        assert {"model_repository", "model_repository(unload_dependents)"} <= set(
            client.get_server_metadata()["extensions"]
        )

        client.unload_model("m")
        assert client.is_model_ready("m") is False
        assert client.get_model_repository_index() == [
            {"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
        ]
        with pytest.raises(InferenceServerException, match="model 'm' is unloaded") as failure:
            client.infer("m", [tensor("x", ROW)])
        assert failure.value.status() == of_wire(client, "503")

        client.load_model("m")
        same(client.infer("m", [tensor("x", ROW)]).as_numpy("y"), ROW)

        client.load_model("m", config=json.dumps({"max_batch_size": 2}))
        assert client.get_model_config("m")["max_batch_size"] == 2

        client.load_model("m", config="{}", files={"file:7/model.onnx": onnx_models.scaled(10, 3)})
        assert client.get_model_metadata("m")["versions"] == ["7"]
        same(client.infer("m", [tensor("x", ROW)]).as_numpy("y"), ROW * 10)

        client.load_model("m")
        assert client.get_model_metadata("m")["versions"] == ["1"]
        assert client.get_model_config("m")["max_batch_size"] == 0


CONTROL_FAILURES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "unknown model": ("404", "unknown model 'nobody'", "nobody", {}),
    "not JSON": ("400", "config.json of model 'm' is not JSON", "m", {"config": "{"}),
    "unknown key": ("400", "unknown key 'max_batch'", "m", {"config": '{"max_batch": 1}'}),
    "files without a config": ("400", "'config'", "m", {"files": {"file:1/model.onnx": b""}}),
    "a broken file": ("503", "can't be loaded", "m", {"config": "{}", "files": {"file:1/model.onnx": b"broken"}}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_load_that_fails_leaves_the_model_as_it_was(control: Server, form: str) -> None:
    with connected(form, control) as client:
        same(client.infer("m", [tensor("x", ROW)]).as_numpy("y"), ROW)
        for status, text, name, given in CONTROL_FAILURES.values():
            with pytest.raises(InferenceServerException) as failure:
                client.load_model(name, **given)
            got = failure.value.status(), text in failure.value.message()
            assert got == (of_wire(client, status), True), failure.value
            same(client.infer("m", [tensor("x", ROW)]).as_numpy("y"), ROW)


CARDS = sorted(path.parent.name for path in EXAMPLES.glob("*/config.json"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", CARDS)
def test_every_example_model_gives_what_its_card_says(examples: Server, form: str, model: str) -> None:
    example = json.loads((EXAMPLES / model / "config.json").read_text())["example"]
    inputs = []
    for given in example["inputs"]:
        dtype = tritonclient.utils.triton_to_np_dtype(given["datatype"])
        array = np.array(given["data"], dtype).reshape(given["shape"])
        inputs.append(tensor(given["name"], array, datatype=given["datatype"]))
    with connected(form, examples) as client:
        result = client.infer(model, inputs)
    assert example["expect"]
    for name, values in example["expect"].items():
        got = result.as_numpy(name).reshape(-1)
        if got.dtype == object:
            assert [item.decode() for item in got] == values
        else:
            np.testing.assert_allclose(got, values, atol=1e-4)


def test_the_cards_are_there() -> None:
    assert CARDS == ["diabetes", "digits", "digits-conv", "encoder", "newsline"]
