"""The routes for people with curl: POST /predict in all its forms, KServe v1, /health, /metrics, what isn't offered."""

import json
from collections.abc import Callable
from typing import Any

import inferry
import numpy as np
import onnx_models
import pytest
from inferry.app import create_app
from inferry.http.asgi import ASGIApp
from inferry.http.routes import ROUTES
from inferry.service import Service
from inferry.settings import Settings
from servers import EXAMPLES, JSON, Answer, Server, ask
from tiny import TINY

IMAGE = [[[1.0, 2.0], [3.0, 4.0]]]
PREDICTIONS = {
    "a number": ("echo", 5, [{"y": 5.0}]),
    "numbers are rows where a row is one": ("echo", [1, 2.5], [{"y": 1.0}, {"y": 2.5}]),
    "null is NaN": ("echo", [None, 1], [{"y": None}, {"y": 1.0}]),
    "a row": ("matrix", [1, 2], [{"y": [1.0, 2.0]}]),
    "rows": ("matrix", [[1, 2], [3, 4]], [{"y": [1.0, 2.0]}, {"y": [3.0, 4.0]}]),
    "one row in a list": ("matrix", [[1, 2]], [{"y": [1.0, 2.0]}]),
    "an object": ("matrix", {"x": [1, 2]}, [{"y": [1.0, 2.0]}]),
    "objects": ("matrix", [{"x": [1, 2]}, {"x": [3, 4]}], [{"y": [1.0, 2.0]}, {"y": [3.0, 4.0]}]),
    "a scalar": ("scalar", 3, [{"y": 3.0}]),
    "a string": ("text", "grün", [{"y": "grün"}]),
    "a row of strings": ("text", ["a", "b"], [{"y": ["a", "b"]}]),
    "rows of strings": ("text", [["a"], ["b"]], [{"y": "a"}, {"y": "b"}]),
    "rows of nothing": ("text", [[], []], [{"y": []}, {"y": []}]),
    "strings are rows where a row is one": ("BYTES", ["a", ""], [{"y": "a"}, {"y": ""}]),
    "booleans": ("BOOL", [True, False], [{"y": True}, {"y": False}]),
    "exact integers": ("INT64", [2**53 + 1], [{"y": 2**53 + 1}]),
    "half precision": ("FP16", [1.5], [{"y": 1.5}]),
    "bfloat16": ("BF16", [1.5], [{"y": 1.5}]),
    "a flat image": ("image", [1, 2, 3, 4], [{"y": IMAGE}]),
    "an image": ("image", IMAGE, [{"y": IMAGE}]),
    "images": ("image", [IMAGE, IMAGE], [{"y": IMAGE}, {"y": IMAGE}]),
    "flat images": ("image", [[1, 2, 3, 4]] * 2, [{"y": IMAGE}, {"y": IMAGE}]),
    "a row of a table, in the order of its columns": ("table", [2, 1.5], [{"a_out": 1.5, "b_out": 2}]),
    "rows of a table": ("table", [[2, 1.5], [3, 2.5]], [{"a_out": 1.5, "b_out": 2}, {"a_out": 2.5, "b_out": 3}]),
    "a row of named values": ("table", {"b": 2, "a": 1.5}, [{"a_out": 1.5, "b_out": 2}]),
    "rows of named values": (
        "table",
        [{"a": 1.5, "b": 2}, {"b": 3, "a": 2.5}],
        [{"a_out": 1.5, "b_out": 2}, {"a_out": 2.5, "b_out": 3}],
    ),
    "without an optional input": ("scaled", [1, 2, 3], [{"y": [2.0, 4.0, 6.0]}]),
    "with an optional input": ("scaled", {"x": [1, 2, 3], "factor": 10}, [{"y": [10.0, 20.0, 30.0]}]),
    "scikit-learn's maps": ("classifier", [0.25, 0.75], [{"label": "yes", "probabilities": [0.25, 0.75]}]),
    "an output for all rows, of each by itself": ("maximum", [3, 9, 5], [{"y": 3.0}, {"y": 9.0}, {"y": 5.0}]),
}


def named(model: str, *classes: str) -> dict[str, Any]:
    """The members that name the classes of the one model here whose file does."""
    if model != "classifier":
        return {}
    return {"labels": {"probabilities": ["no", "yes"]}, "classes": [{"probabilities": name} for name in classes]}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predict(tiny: Server, name: str) -> None:
    model, features, predictions = PREDICTIONS[name]
    answer = tiny.post("/predict", {"features": features, "model_name": model})
    assert (answer.status, answer.headers["content-type"]) == (200, JSON), answer
    expected = {"model_name": model, "model_version": "1", "predictions": predictions, **named(model, "yes")}
    assert answer.json == expected


ANIMALS = ["ant", "bee", "cat"]
# What is in a row, as far as /predict is concerned: a score for each class, the number of one, or something else.
OUTPUTS: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "scores": ("FP32", ("n", 3)),
    "doubles": ("FP64", ("n", 3)),
    "halves": ("FP16", ("n", 3)),
    "bytes": ("UINT8", ("n", 3)),
    "integers": ("INT64", ("n", 3)),
    "free": ("FP32", ("n", "m")),
    "tokens": ("FP32", ("n", "t", 3)),
    "pooled": ("FP32", ("n", 3, 1, 1)),
    "index": ("INT64", ("n",)),
    "column": ("INT32", ("n", 1)),
    "best": ("INT64", ("n", 2)),
    "words": ("BYTES", ("n",)),
}
INDICES = ("index", "column", "best")
CLASSES: dict[str, tuple[str, Any, Any]] = {
    "scores": ("scores", [[0.1, 0.7, 0.2], [3, 2, 1]], ["bee", "ant"]),
    "the first of equal ones": ("scores", [[1, 2, 2]], ["bee"]),
    "scores beside NaN": ("scores", [[None, 1, 2], [None, None, None]], ["cat", None]),
    "doubles": ("doubles", [[0, 1e300, 2e300]], ["cat"]),
    "halves": ("halves", [[0, -1, -2]], ["ant"]),
    "quantised scores": ("bytes", [[0, 255, 128]], ["bee"]),
    "scores in integers": ("integers", [[-3, -2, -1]], ["cat"]),
    "as many scores as there are classes": ("free", [[0, 1, 0]], ["bee"]),
    "more scores than there are classes": ("free", [[0, 1, 0, 0]], None),
    "scores of each token": (
        "tokens",
        [[[0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]]],
        [["bee", "cat"], ["ant", "cat"]],
    ),
    "axes of one value": ("pooled", [[0, 0, 1]], ["cat"]),
    "numbers of classes": ("index", [2, 0, 3, -1], ["cat", "ant", None, None]),
    "a number in a column": ("column", [[1], [2]], ["bee", "cat"]),
    "the best two": ("best", [[1, 2], [0, 1]], [["bee", "cat"], ["ant", "bee"]]),
    "words": ("words", ["ant"], None),
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> ASGIApp:
    files = {f"{name}/1/model.onnx": onnx_models.identity(*spec) for name, spec in OUTPUTS.items()}
    configs = {f"{name}/config.json": json.dumps({"labels": {"y": ANIMALS}}).encode() for name in OUTPUTS}
    path = onnx_models.write(tmp_path_factory.mktemp("labelled"), files | configs)
    return create_app(Service.from_settings(Settings(model_path=str(path))))


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_names_where_labels_are_known(labelled: ASGIApp, name: str) -> None:
    """By both routes, beside the values, which stay what they are."""
    model, rows, classes = CLASSES[name]
    members: dict[str, Any] = {} if classes is None else {"classes": [{"y": found} for found in classes]}
    if classes is not None and model not in INDICES:
        members = {"labels": {"y": ANIMALS}, **members}
    answer = ask(labelled, "POST", "/predict", json={"model_name": model, "features": rows}).json()
    values = [row["y"] for row in answer.pop("predictions")]
    assert answer == {"model_name": model, "model_version": "1", **members}
    assert np.ravel(values).tolist() == np.ravel(rows).tolist()
    v1 = ask(labelled, "POST", f"/v1/models/{model}:predict", json={"instances": rows}).json()
    assert v1 == {"predictions": values, **members}


def test_predict_takes_what_curl_sends(tiny: Server) -> None:
    body = b'{"model_name": "matrix", "features": [1, 2]}'
    answer = tiny.ask("POST", "/predict", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert answer == tiny.ask("POST", "/predict/", body)
    assert answer.json["predictions"] == [{"y": [1.0, 2.0]}]


V1 = {
    "values": ("echo", [1, 2], [1.0, 2.0]),
    "rows": ("matrix", [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    "strings": ("text", ["a", "b"], ["a", "b"]),
    "objects": ("matrix", [{"x": [1, 2]}], [[1.0, 2.0]]),
    "several inputs": ("table", [{"a": 1.5, "b": 2}], [{"a_out": 1.5, "b_out": 2}]),
    "columns": ("table", [[2, 1.5]], [{"a_out": 1.5, "b_out": 2}]),
    "several outputs": ("classifier", [[0.75, 0.25]], [{"label": "no", "probabilities": [0.75, 0.25]}]),
}


@pytest.mark.parametrize("name", V1)
def test_kserve_v1(tiny: Server, name: str) -> None:
    model, instances, predictions = V1[name]
    for member in ("instances", "inputs"):
        answer = tiny.post(f"/v1/models/{model}:predict", {member: instances})
        assert (answer.status, answer.headers["content-type"], answer.json) == (
            200,
            JSON,
            {"predictions": predictions, **named(model, "no")},
        )


NOT_INSTANCES = {
    "nothing": ({}, "'instances' must be an array with one item per prediction"),
    "a number": ({"inputs": 1}, "'inputs' must be an array with one item per prediction"),
    "both": (
        {"inputs": [1], "instances": [1]},
        "'instances' and 'inputs' are two names for the same: give one of them",
    ),
    "TensorFlow Serving's columns": (
        {"inputs": {"x": [1]}},
        "'inputs' must be an array with one item per prediction, not an object of columns",
    ),
}


@pytest.mark.parametrize("name", NOT_INSTANCES)
def test_what_are_no_instances(tiny: Server, name: str) -> None:
    body, error = NOT_INSTANCES[name]
    answer = tiny.post("/v1/models/echo:predict", body)
    assert (answer.status, answer.json) == (400, {"error": error})


def test_kserve_v1_models(tiny: Server) -> None:
    names = sorted({path.split("/")[0].removesuffix(".onnx") for path in TINY})
    assert tiny.ask("GET", "/v1/models").json == {"models": names}
    assert tiny.ask("GET", "/v2/models").json == {"models": names}
    assert tiny.ask("GET", "/v1/models/broken").status == 503
    assert tiny.ask("GET", "/v1/models/nobody").status == 404


def test_predictions_are_counted(tiny: Server) -> None:
    def counts() -> dict[str, int]:
        (stats,) = tiny.ask("GET", "/v2/models/image/stats").json["model_stats"]
        lines = tiny.ask("GET", "/metrics").body.decode().splitlines()
        series = 'inferry_request_failures_total{model="image",version="1",reason="invalid"} '
        return {
            "inferences": stats["inference_count"],
            "success": stats["inference_stats"]["success"]["count"],
            "fail": stats["inference_stats"]["fail"]["count"],
            "refused": sum(int(line.removeprefix(series)) for line in lines if line.startswith(series)),
        }

    before = counts()
    tiny.post("/predict", {"features": [IMAGE, IMAGE], "model_name": "image"})
    tiny.post("/v1/models/image:predict", {"instances": [[1, 2, 3, 4]]})
    tiny.post("/predict", {"features": [1, 2, 3], "model_name": "image"})
    after = counts()
    assert {name: after[name] - before[name] for name in after} == {
        "inferences": 2,
        "success": 2,
        "fail": 0,
        "refused": 1,
    }


def card(model: str) -> dict[str, Any]:
    example: dict[str, Any] = json.loads((EXAMPLES / model / "config.json").read_text())["example"]
    return example


@pytest.mark.parametrize("path", ["/predict", "v1"])
@pytest.mark.parametrize("model", ["diabetes", "digits", "digits-conv", "encoder", "newsline"])
def test_the_example_models_as_rows(examples: Server, model: str, path: str) -> None:
    example = card(model)
    values = {given["name"]: given["data"] for given in example["inputs"]}
    row = next(iter(values.values())) if len(values) == 1 else [value for (value,) in values.values()]
    if path == "v1":
        (prediction,) = examples.post(f"/v1/models/{model}:predict", {"instances": [row]}).json["predictions"]
    else:
        (prediction,) = examples.post("/predict", {"features": row, "model_name": model}).json["predictions"]
    if not isinstance(prediction, dict):
        prediction = {next(iter(example["expect"])): prediction}
    assert prediction.keys() == example["expect"].keys()
    for name, expected in example["expect"].items():
        got = prediction[name] if isinstance(prediction[name], list) else [prediction[name]]
        assert got == (expected if isinstance(got[0], str) else pytest.approx(expected, abs=1e-4))


ONE, TWO = {"a.onnx": onnx_models.identity()}, {"a.onnx": onnx_models.identity(), "b.onnx": onnx_models.identity()}
DEFAULTS: dict[str, tuple[dict[str, bytes], str, dict[str, Any], str | int]] = {
    "the only model": (ONE, "", {}, "a"),
    "the only model for an empty name": (ONE, "", {"model_name": ""}, "a"),
    "the only model for null": (ONE, "", {"model_name": None}, "a"),
    "the only model for default": (ONE, "", {"model_name": "default"}, "a"),
    "DEFAULT_MODEL": (TWO, "b", {}, "b"),
    "DEFAULT_MODEL for default": (TWO, "b", {"model_name": "default"}, "b"),
    "the named model": (TWO, "b", {"model_name": "a"}, "a"),
    "a model of the name default": (
        {**ONE, "default.onnx": onnx_models.identity()},
        "a",
        {"model_name": "default"},
        "default",
    ),
    "none of two": (TWO, "", {}, 400),
    "none of none": ({}, "", {}, 400),
    "a DEFAULT_MODEL that isn't there": (TWO, "c", {}, 404),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_model(app: Callable[..., ASGIApp], tmp_path: Any, name: str) -> None:
    files, default, given, expected = DEFAULTS[name]
    (tmp_path / "models").mkdir()
    answer = ask(app(files, default_model=default), "POST", "/predict", json={"features": [1, 2, 3], **given})
    if isinstance(expected, int):
        assert answer.status_code == expected
        assert list(answer.json()) == ["error"]
    else:
        assert answer.json() == {
            "model_name": expected,
            "model_version": "1",
            "predictions": [{"y": [1.0, 2.0, 3.0]}],
        }


def test_health(app: Callable[..., ASGIApp]) -> None:
    answer = ask(app(TWO, app_name="shop", app_version="1.2.3", environment="prod"), "GET", "/health")
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json() == {
        "status": "ok",
        "name": "shop",
        "version": "1.2.3",
        "environment": "prod",
        "models": ["a", "b"],
    }


def test_metrics(tiny: Server) -> None:
    answer = tiny.ask("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = answer.body.decode().splitlines()
    assert "# TYPE inferry_build_info gauge" in lines
    assert f'inferry_build_info{{version="{inferry.__version__}"}} 1' in lines


def test_metrics_can_be_off(app: Callable[..., ASGIApp]) -> None:
    answer = ask(app(ONE, enable_metrics=False), "GET", "/metrics")
    assert (answer.status_code, answer.json()) == (404, {"error": "metrics are off (ENABLE_METRICS, METRICS_SINKS)"})


UNSUPPORTED = [(route.method, route.path) for route in ROUTES if route.operation == "unsupported"]


@pytest.mark.parametrize(("method", "path"), UNSUPPORTED)
def test_what_is_not_offered_says_so(tiny: Server, method: str, path: str) -> None:
    path = path.format(model="echo", region="region", version="1")
    error = f"{path} is a part of the protocol that inferry doesn't offer"
    body = json.dumps({"error": error}, separators=(",", ":")).encode()
    assert tiny.ask(method, path, b"{}" if method == "POST" else None) == Answer(
        501, {"content-type": JSON, "content-length": str(len(body))}, body
    )


def test_shared_memory_trace_and_logging_are_not_offered() -> None:
    actions = ("generate", "generate_stream", ":explain")
    assert {action for action in actions for _, path in UNSUPPORTED if path.endswith(action)} == set(actions)
    assert {path.split("/")[2] for _, path in UNSUPPORTED} == {
        "trace",
        "models",
        "logging",
        "systemsharedmemory",
        "cudasharedmemory",
    }
