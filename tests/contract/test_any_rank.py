"""A model whose file states no rank, which ONNX Runtime shows as a scalar: any shape is right for it, at every door."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from arrayfiles import npy
from inferry.cli.main import main
from servers import Server, serving

CONFIG = b'{"max_batch_size": 4, "dynamic_batching": {}}'
MODELS = {
    "any.onnx": onnx_models.unranked(onnx_models.identity()),
    "scalar.onnx": onnx_models.identity("FP32", ()),
    "batched/1/model.onnx": onnx_models.unranked(onnx_models.identity()),
    "batched/config.json": CONFIG,
    # ONNX Runtime finds the rank of the output by itself.
    "found.onnx": onnx_models.unranked(onnx_models.identity("FP32", ("n", 3)), "y"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("any"), MODELS)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models) as server:
        yield server


def tensor(value: Any) -> dict[str, Any]:
    array = np.array(value, np.float32)
    return {"name": "x", "datatype": "FP32", "shape": list(array.shape), "data": array.reshape(-1).tolist()}


@pytest.mark.parametrize("value", [1.5, [1.5, 2], [[1], [2]], np.ones((1, 2, 3, 4)).tolist(), []])
def test_infer(server: Server, value: Any) -> None:
    answer = server.post("/v2/models/any/infer", {"inputs": [tensor(value)]})
    assert answer.status == 200, answer
    assert answer.json["outputs"] == [{**tensor(value), "name": "y"}]


def test_a_scalar_is_one(server: Server) -> None:
    answer = server.post("/v2/models/scalar/infer", {"inputs": [tensor([1.5])]})
    assert answer.status == 400
    assert "Expected [], got [1]" in answer.json["error"]


def test_raw_binary(server: Server) -> None:
    values = np.arange(3, dtype=np.float32)
    answer = server.ask("POST", "/v2/models/any/infer", values.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert (answer.json["outputs"][0]["shape"], answer.tail) == ([3], values.tobytes())


def test_batches(server: Server) -> None:
    answer = server.post("/v2/models/batched/infer", {"inputs": [tensor([[1, 2], [3, 4]])]})
    assert answer.json["outputs"] == [{**tensor([[1, 2], [3, 4]]), "name": "y"}]
    for value, words in ((1, "must have a batch axis"), ([1, 2, 3, 4, 5], "must be <= 4")):
        answer = server.post("/v2/models/batched/infer", {"inputs": [tensor(value)]})
        assert answer.status == 400
        assert words in answer.json["error"]


@pytest.mark.parametrize(
    ("features", "predictions"),
    [
        (5, [{"y": 5.0}]),
        ([1, 2], [{"y": [1.0, 2.0]}]),
        ([[1, 2], [3, 4]], [{"y": [1.0, 2.0]}, {"y": [3.0, 4.0]}]),
        ([[[1, 2]], [[3, 4]]], [{"y": [[1.0, 2.0]]}, {"y": [[3.0, 4.0]]}]),
    ],
)
def test_rows(server: Server, features: Any, predictions: Any) -> None:
    assert server.post("/predict", {"features": features, "model_name": "any"}).json["predictions"] == predictions
    instances = features if isinstance(features, list) and isinstance(features[0], list) else [features]
    answer = server.post("/v1/models/any:predict", {"instances": instances})
    assert answer.json == {"predictions": [row["y"] for row in predictions]}


def test_metadata(server: Server) -> None:
    """A shape is required: one that is right for any client, and beside it that others are."""
    found = server.ask("GET", "/v2/models/any").json
    stated = {"datatype": "FP32", "shape": [-1], "parameters": {"rank": "any"}}
    assert (found["inputs"], found["outputs"]) == ([{"name": "x", **stated}], [{"name": "y", **stated}])
    scalar = server.ask("GET", "/v2/models/scalar").json
    assert scalar["inputs"] == [{"name": "x", "datatype": "FP32", "shape": []}]
    assert server.ask("GET", "/v2/models/found").json["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [-1, 3]}
    ]
    for name in ("any", "batched"):
        config = server.ask("GET", f"/v2/models/{name}/config").json
        assert [item["dims"] for item in (*config["input"], *config["output"])] == [[-1], [-1]]


def test_examples(server: Server) -> None:
    document = server.ask("GET", "/openapi.json").json
    content = document["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]
    example = content["examples"]["any"]["value"]
    assert example["inputs"] == [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0]}]
    assert server.post("/v2/models/any/infer", example).status == 200


def test_inspect(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(models)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("any ")]
    assert "x FP32[...]" in line
    assert "y FP32[...]" in line


@pytest.mark.parametrize("value", [[1.5, 2], [[1], [2]]])
def test_an_array(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any) -> None:
    (tmp_path / "x.npy").write_bytes(npy(np.array(value, np.float32)))
    assert main(["infer", "any", "--input", f"{tmp_path}/x.npy", "--models", str(models)]) == 0
    rows = [json.loads(line)["y"] for line in capsys.readouterr().out.splitlines()]
    assert rows == np.array(value).reshape(-1).tolist()


DEPTHS = {
    "lists of other depths": ['{"x":[1,2]}', '{"x":[[1,2],[3,4]]}'],
    "values and lists": ['{"x":1}', '{"x":[[1]]}', '{"x":[1]}'],
}


@pytest.mark.parametrize("name", DEPTHS)
def test_rows_of_no_common_type_are_a_failed_file(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "x.jsonl").write_text("\n".join(DEPTHS[name]))
    given = ["batch", f"{tmp_path}/x.jsonl", f"{tmp_path}/x.parquet", "--model", "any", "--models", str(models)]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert "an output has rows that share no type of Parquet, single values and lists, or lists of other depths" in said
    assert "bug" not in said
    assert json.loads((tmp_path / "x.parquet.report.json").read_bytes())["state"] == "failed"
