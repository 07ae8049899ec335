"""Models without inputs, with optional ones, and with sequences as outputs, at every door."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
import skl2onnx
import tritonclient.grpc
import tritonclient.http
from inferry.cli.main import main
from loopback import free_port
from servers import Server, serving
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

MODELS = {
    "constant.onnx": onnx_models.constant(),
    "default.onnx": onnx_models.default(),
    "optional.onnx": onnx_models.optional_input(),
    "scaled.onnx": onnx_models.scaled(2.0),
    "sequence.onnx": onnx_models.two_in_a_sequence(),
}
# For a model that has none, or all of them optional.
NOTHING = {"constant": [1.0, 2.0], "default": [7.0]}
X = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
SAMPLES = np.random.default_rng(0).normal(size=(60, 4))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("few"), MODELS)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, GRPC_PORT=str(free_port())) as server:
        yield server


@pytest.mark.parametrize("model", NOTHING)
@pytest.mark.parametrize("body", [{}, {"inputs": []}, {"id": "7"}, {"outputs": [{"name": "y"}]}])
def test_no_inputs_in_json(server: Server, model: str, body: dict[str, Any]) -> None:
    answer = server.post(f"/v2/models/{model}/infer", body)
    assert answer.status == 200, answer
    assert answer.json["outputs"][0]["data"] == NOTHING[model]


@pytest.mark.parametrize("model", NOTHING)
def test_no_inputs_in_binary(server: Server, model: str) -> None:
    text = json.dumps({"inputs": [], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = server.ask("POST", f"/v2/models/{model}/infer", text, headers)
    assert np.frombuffer(answer.tail, np.float32).tolist() == NOTHING[model]


def test_inputs_are_missing_where_the_model_needs_one(server: Server) -> None:
    bodies: list[dict[str, Any]] = [{}, {"inputs": []}]
    for body in bodies:
        answer = server.post("/v2/models/optional/infer", body)
        assert (answer.status, answer.json) == (
            400,
            {"error": "the request's 'inputs' must be an array of at least one object"},
        )


@pytest.mark.parametrize("model", NOTHING)
@pytest.mark.parametrize("module", [tritonclient.http, pytest.param(tritonclient.grpc, marks=pytest.mark.local)])
def test_no_inputs_of_tritonclient(server: Server, model: str, module: Any) -> None:
    address = server.grpc if module is tritonclient.grpc else f"127.0.0.1:{server.port}"
    client = module.InferenceServerClient(address)
    assert client.infer(model, []).as_numpy("y").tolist() == NOTHING[model]
    client.close()


def test_a_model_without_inputs_refuses_some(server: Server) -> None:
    answer = server.infer("constant", X)
    assert (answer.status, answer.json["error"]) == (
        400,
        "unexpected inference input 'x' for model 'constant', whose inputs are none: "
        "the request has 1 inputs, the model 0",
    )


def test_a_raw_request_is_for_a_model_with_one_input(server: Server) -> None:
    raw = {"Inference-Header-Content-Length": "0"}
    answer = server.ask("POST", "/v2/models/default/infer", np.array([3], np.float32).tobytes(), raw)
    assert np.frombuffer(answer.tail, np.float32).tolist() == [3]
    answer = server.ask("POST", "/v2/models/constant/infer", b"", raw)
    assert answer.json == {"error": "a raw binary request needs a model with one input; 'constant' has none"}


@pytest.mark.parametrize("path", ["/predict", "/v1/models/constant:predict"])
@pytest.mark.parametrize("rows", [[], [[1]], [{}]])
def test_a_model_without_inputs_takes_no_rows(server: Server, path: str, rows: list[Any]) -> None:
    body = {"model_name": "constant", "features": rows} if path == "/predict" else {"instances": rows}
    answer = server.post(path, body)
    assert (answer.status, answer.json) == (
        400,
        {
            "error": "model 'constant' takes no rows, as it needs no inputs: send whole requests to "
            "/v2/models/constant/infer"
        },
    )


def batch(models: Path, tmp_path: Path, name: str, text: str, model: str, *options: str) -> tuple[int, list[Any]]:
    """The command's status, and the results or the errors that it wrote."""
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    source.write_text(text)
    status = main(["batch", str(source), str(target), "--models", str(models), "--model", model, *options])
    return status, list(map(json.loads, target.read_text().splitlines())) if target.exists() else []


@pytest.mark.parametrize("model", NOTHING)
def test_whole_requests_of_a_job(models: Path, tmp_path: Path, model: str) -> None:
    status, lines = batch(models, tmp_path, "in.jsonl", '{"inputs": []}\n{"inputs": [], "id": "b"}\n', model)
    assert status == 0
    assert [line["outputs"][0]["data"] for line in lines] == [NOTHING[model]] * 2


@pytest.mark.parametrize(("name", "text"), [("in.csv", "a\n1\n"), ("in.jsonl", "{}\n")])
def test_rows_of_a_job_are_refused(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    assert batch(models, tmp_path, name, text, "constant") == (1, [])
    assert "takes no rows, as it needs no inputs" in capfd.readouterr().err


def test_the_document_of_the_api_has_an_example(server: Server) -> None:
    document = server.ask("GET", "/openapi.json").json
    content = document["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["constant"]["value"] == {"inputs": []}


@pytest.mark.parametrize("model", ["optional", "scaled"])
def test_an_optional_input_is_named_as_one(server: Server, model: str) -> None:
    inputs = server.ask("GET", f"/v2/models/{model}").json["inputs"]
    assert [tensor.get("parameters", {}).get("optional") for tensor in inputs] == [None, True]
    config = server.ask("GET", f"/v2/models/{model}/config").json["input"]
    assert [tensor["optional"] for tensor in config] == [False, True]


# By whether the factor of each form of input is left out or 5.
ANSWERS = {("optional", False): [1, 2, 3], ("scaled", False): [2, 4, 6]}


def factor(model: str) -> dict[str, Any]:
    shape = [1, 3] if model == "optional" else [1]
    return {"name": "factor", "datatype": "FP32", "shape": shape, "data": [5.0] * shape[-1]}


@pytest.mark.parametrize("model", ["optional", "scaled"])
@pytest.mark.parametrize("given", [False, True])
def test_an_optional_input(server: Server, model: str, given: bool) -> None:
    expected = ANSWERS.get((model, given), [5, 10, 15])
    inputs = [X, factor(model)] if given else [X]
    assert server.infer(model, *inputs).json["outputs"][0]["data"] == expected
    row = {"x": [1, 2, 3], "factor": factor(model)["data"] if given else None}
    for rows in ([row], [row, row]):
        answer = server.post("/predict", {"model_name": model, "features": rows})
        assert answer.json["predictions"] == [{"y": expected}] * len(rows)
        answer = server.post(f"/v1/models/{model}:predict", {"instances": rows})
        assert answer.json["predictions"] == [expected] * len(rows)


@pytest.mark.local
@pytest.mark.parametrize("model", ["optional", "scaled"])
@pytest.mark.parametrize("given", [False, True])
def test_an_optional_input_of_tritonclient(server: Server, model: str, given: bool) -> None:
    tensors: list[dict[str, Any]] = [X, factor(model)] if given else [X]
    for module, address in ((tritonclient.grpc, server.grpc), (tritonclient.http, f"127.0.0.1:{server.port}")):
        client, inputs = module.InferenceServerClient(address), []
        for tensor in tensors:
            inputs.append(module.InferInput(tensor["name"], tensor["shape"], "FP32"))
            inputs[-1].set_data_from_numpy(np.array(tensor["data"], np.float32).reshape(tensor["shape"]))
        assert client.infer(model, inputs).as_numpy("y")[0].tolist() == ANSWERS.get((model, given), [5, 10, 15])
        client.close()


def test_rows_with_and_without_an_optional_input(server: Server) -> None:
    rows = [{"x": [1, 2, 3], "factor": 5}, {"x": [1, 2, 3], "factor": None}]
    answer = server.post("/predict", {"model_name": "scaled", "features": rows})
    assert (answer.status, answer.json["error"]) == (
        400,
        "the optional input 'factor' is null in row 1 and given in row 0: send rows with it and rows without it in two "
        "requests",
    )


@pytest.mark.parametrize("model", ["optional", "scaled"])
def test_an_optional_input_in_lines(models: Path, tmp_path: Path, model: str) -> None:
    """Left out, null, given."""
    rows = [{"x": [1, 2, 3]}, {"x": [1, 2, 3], "factor": None}, {"x": [1, 2, 3], "factor": factor(model)["data"]}]
    status, lines = batch(models, tmp_path, "in.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows), model)
    left_out = {"y": ANSWERS[model, False]}
    assert (status, lines) == (0, [left_out, left_out, {"y": [5, 10, 15]}])


@pytest.mark.parametrize("text", ['x,factor\n"[1,2,3]",5\n', "a,b,c,factor\n1,2,3,5\n"])
def test_an_optional_input_in_a_table(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    """Its column is not passed over."""
    assert batch(models, tmp_path, "in.csv", text, "scaled")[0] == 1
    assert "column 'factor' of" in (said := capfd.readouterr().err)
    assert "is an optional input of model 'scaled'" in said
    drop = ("--drop", "factor")
    assert batch(models, tmp_path, "in.csv", text, "scaled", *drop) == (0, [{"y": [2, 4, 6]}])
    assert batch(models, tmp_path, "in.csv", text, "scaled", *drop, "--set", "factor=5") == (0, [{"y": [5, 10, 15]}])


def test_a_sequence_becomes_numbered_outputs(server: Server) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    found = {output["name"]: output["data"] for output in server.infer("sequence", x).json["outputs"]}
    assert found == {"y_0": [1, 2, 3, 4], "y_1": [2, 4, 6, 8], "z": [3, 6, 9, 12]}
    wanted: Sequence[str]
    for wanted in (["y_1"], ["z", "y_1"], ["y_1", "y_0"]):
        outputs = server.infer("sequence", x, outputs=[{"name": name} for name in wanted]).json["outputs"]
        assert {output["name"]: output["data"] for output in outputs} == {name: found[name] for name in wanted}
    rows = server.post("/predict", {"model_name": "sequence", "features": [[1, 2], [3, 4]]}).json["predictions"]
    assert rows == [
        {"y_0": [1, 2], "y_1": [2, 4], "z": [3, 6]},
        {"y_0": [3, 4], "y_1": [6, 8], "z": [9, 12]},
    ]
    answer = server.infer("sequence", x, outputs=[{"name": "y"}])
    assert "unexpected inference output 'y'" in answer.json["error"]


def classes() -> np.ndarray:
    """Two targets, of two classes and of three."""
    first, second = (SAMPLES[:, 0] > 0).astype(int), (SAMPLES[:, 1] > 0).astype(int) + (SAMPLES[:, 2] > 0)
    return np.stack([first, second], 1)


def test_a_multi_output_classifier_of_scikit_learn(tmp_path: Path) -> None:
    features = SAMPLES.astype(np.float32)
    fitted = MultiOutputClassifier(LogisticRegression()).fit(features, classes())
    with pytest.warns(UserWarning, match="zipmap is ignored"):
        exported = skl2onnx.to_onnx(fitted, features[:1])
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    with serving(tmp_path / "m.onnx") as server:
        rows = features[:3].tolist()
        predictions = server.post("/predict", {"features": rows}).json["predictions"]
    for row, prediction in enumerate(predictions):
        assert prediction["label"] == fitted.predict(features)[row].tolist()
        for target, expected in enumerate(fitted.predict_proba(features)):
            np.testing.assert_allclose(prediction[f"probabilities_{target}"], expected[row], atol=1e-5)


def test_zipmap_over_doubles_has_advice_that_works(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fitted, path = LogisticRegression().fit(SAMPLES, classes()[:, 0]), tmp_path / "m.onnx"
    path.write_bytes(skl2onnx.to_onnx(fitted, SAMPLES[:1]).SerializeToString())
    assert main(["inspect", str(path)]) == 3
    assert 'skl2onnx.to_onnx(model, X, options={"zipmap": False})' in (said := capfd.readouterr().out)
    assert 'X.astype("float32")' in said
    for exported in (
        skl2onnx.to_onnx(fitted, SAMPLES[:1], options={"zipmap": False}),
        skl2onnx.to_onnx(fitted, SAMPLES[:1].astype("float32")),
    ):
        path.write_bytes(exported.SerializeToString())
        assert main(["inspect", str(path)]) == 0


def test_a_fixed_batch_is_said_by_inspect(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As PyTorch's exporter makes it by default, and only where it is fixed."""
    for shape in ((2, 3), ("n", 3)):
        proto = onnx.load_from_string(onnx_models.identity("FP32", shape))
        proto.producer_name = "pytorch"
        (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
        assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
        said = capfd.readouterr().out
        assert (
            "the first axis of input 'x' is fixed: [2, 3]; with a free batch: PyTorch: torch.onnx.export" in said
        ) == (shape == (2, 3))
        assert f"x FP32[{shape[0]}, 3]" in said
