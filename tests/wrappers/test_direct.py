"""functions/direct.py: a request that is the event itself, its response, and errors by their classes."""

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import lambda_events as events
import onnx_models
import pytest
from contract.servers import ask
from inferry import errors
from inferry.http.errors import STATUS
from wrappers.conftest import DEFAULTS, INVOCATION, Function

from functions import direct, sources

ROOT = Path(__file__).parents[2]
Make = Callable[..., Function]
EVENT = events.load("direct")
ROW = EVENT["inputs"][0]["data"]
X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
# The event, and the request by HTTP that says the same.
REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "tensors": (EVENT, "POST", "/v2/models/digits/infer"),
    "a version": (
        {"model_name": "digits", "model_version": "1", "inputs": EVENT["inputs"]},
        "POST",
        "/v2/models/digits/versions/1/infer",
    ),
    "the default model": ({"inputs": EVENT["inputs"]}, "POST", "/v2/models/digits/infer"),
    "all outputs": ({"model_name": "digits", "inputs": EVENT["inputs"]}, "POST", "/v2/models/digits/infer"),
    "classes": (
        EVENT | {"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]},
        "POST",
        "/v2/models/digits/infer",
    ),
    "a row": ({"model_name": "digits", "features": ROW}, "POST", "/predict"),
    "rows": ({"features": [ROW, ROW]}, "POST", "/predict"),
    "a question": ({"model_name": "digits", "ready": True}, "GET", "/v2/models/digits/ready"),
    "a question about a version": (
        {"model_name": "digits", "model_version": "1", "ready": True},
        "GET",
        "/v2/models/digits/versions/1/ready",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_response_is_that_of_the_request_by_http(function: Make, name: str) -> None:
    event, method, path = REQUESTS[name]
    served = function()
    by_http = ask(served.module.create_app(served.module.service), method, path, json=event)
    assert (by_http.status_code, served(event)) == (200, by_http.json())
    assert served(event | {"on_error": "return"}) == by_http.json()


def test_below_a_path_of_the_gateways(function: Make) -> None:
    served = function(BASE_PATH="/ml")
    assert served(EVENT)["outputs"][0]["data"] == [7]
    assert served({"features": ROW})["predictions"][0]["label"] == 7


def test_no_key_is_asked_for(function: Make) -> None:
    """While requests by HTTP need one."""
    served = function(API_KEYS=sha256(b"key").hexdigest())
    assert served(EVENT)["id"] == EVENT["id"]
    assert served({"features": ROW})["predictions"][0]["label"] == 7
    assert served(events.load("http-api"))["statusCode"] == 401


FILES = {
    "m.onnx": onnx_models.identity(),
    "failing.onnx": onnx_models.failing(),
    "slow.onnx": onnx_models.slow(),
    "broken.onnx": b"?",
    "echo.onnx": onnx_models.identity("BYTES", ("n",)),
}
TURNS = {"name": "turns", "shape": [1], "datatype": "INT64", "data": [10**9]}
BINARY = {"parameters": {"binary_data": True}}
# The event, the class of what it raises, and the error's text.
FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such model": (
        {"model_name": "nobody", "inputs": [X]},
        "ModelNotFound",
        "unknown model 'nobody'; the repository has: broken, echo, failing, m, slow",
    ),
    "no such model for rows": (
        {"model_name": "nobody", "features": [1]},
        "ModelNotFound",
        "unknown model 'nobody'; the repository has: broken, echo, failing, m, slow",
    ),
    "no such version": (
        {"model_name": "m", "model_version": "7", "ready": True},
        "ModelNotFound",
        "unknown version '7' of model 'm'",
    ),
    "no inputs": (
        {"model_name": "m", "inputs": []},
        "InvalidRequest",
        "the request's 'inputs' must be an array of at least one object",
    ),
    "no default model": (
        {"inputs": [X]},
        "InvalidRequest",
        "name a model with 'model_name', or set DEFAULT_MODEL; the repository has: broken, echo, failing, m, slow",
    ),
    "another member": (
        {"model": "m", "inputs": [X]},
        "InvalidRequest",
        "a request with 'inputs' has no member 'model'; it may have model_name, model_version, id, parameters, "
        "outputs, on_error",
    ),
    "a version of rows": (
        {"model_name": "m", "model_version": "1", "features": [1, 2, 3]},
        "InvalidRequest",
        "a request with 'features' has no member 'model_version'; it may have model_name, on_error",
    ),
    "two kinds": (
        {"model_name": "m", "inputs": [X], "features": [1]},
        "InvalidRequest",
        "'inputs' and 'features' are of two kinds of requests: send one of them",
    ),
    "a name that is a path": (
        {"model_name": "m/versions/1", "inputs": [X]},
        "InvalidRequest",
        "'model_name' must be a string without /, got 'm/versions/1'",
    ),
    "a version that is a number": (
        {"model_name": "m", "model_version": 1, "inputs": [X]},
        "InvalidRequest",
        "'model_version' must be a string without /, got '1'",
    ),
    "errors that are ignored": (
        {"model_name": "m", "inputs": [X], "on_error": "ignore"},
        "InvalidRequest",
        "'on_error' must be 'raise' or 'return', got 'ignore'",
    ),
    "not a question": (
        {"model_name": "m", "ready": False},
        "InvalidRequest",
        "'ready' must be true: it asks whether the model can be served",
    ),
    "a response in binary": (
        {"model_name": "m", "inputs": [X], "parameters": {"binary_data_output": True}},
        "NotSupported",
        "the response to a direct invocation is JSON: ask for no binary outputs",
    ),
    "an output in binary": (
        {"model_name": "m", "inputs": [X], "outputs": [{"name": "y", **BINARY}]},
        "NotSupported",
        "the response to a direct invocation is JSON: ask for no binary outputs",
    ),
    "a tensor that is elsewhere": (
        {"model_name": "m", "inputs": [{**X, "data": None, "parameters": {"uri": "s3://b/x"}}]},
        "DataRefused",
        "'s3://b/x' may not be read or written",
    ),
    "a model that is none": (
        {"model_name": "broken", "inputs": [X]},
        "ModelUnavailable",
        "model 'broken' can't be loaded: ",
    ),
    "a run that fails": (
        {"model_name": "failing", "inputs": [{**X, "shape": [1], "data": [1]}]},
        "InferenceFailed",
        "model 'failing' failed: ",
    ),
    "a run that takes too long": (
        {"model_name": "slow", "inputs": [TURNS], "parameters": {"timeout": 200_000}},
        "InferenceTimeout",
        "",  # of two, by the moment at which its time was over
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_is_raised_by_its_class(function: Make, repository: Callable[..., str], name: str) -> None:
    event, kind, text = FAILURES[name]
    served = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="")
    with pytest.raises(Exception) as caught:
        served(event)
    assert (type(caught.value).__name__, str(caught.value)[: len(text)]) == (kind, text)
    if event.get("on_error"):
        return
    returned = served(event | {"on_error": "return"})
    status = next(STATUS[base] for base in getattr(errors, kind).__mro__ if base in STATUS)
    assert returned.keys() == {"error", "status"}
    assert (returned["error"][: len(text)], returned["status"]) == (text, status)


def test_a_failure_that_nobody_expected(function: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is, only the log says."""
    served = function()

    async def infer(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(served.module.service, "infer", infer)
    with pytest.raises(direct.InternalError, match=rf"^internal error \(request {INVOCATION}\)$"):
        served(EVENT)
    assert served(EVENT | {"on_error": "return"}) == {"error": f"internal error (request {INVOCATION})", "status": 500}


def text(size: int) -> dict[str, Any]:
    """A request that a model `echo` answers with a text of this size."""
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a" * size]}
    return {"model_name": "echo", "inputs": [tensor]}


def test_a_response_of_lambdas_limit(function: Make, repository: Callable[..., str]) -> None:
    served = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="echo")
    most, _ = direct.MAX_ANSWER
    around = len(json.dumps(served(text(0)), separators=(",", ":")))
    assert len(json.dumps(served(text(most - around)), separators=(",", ":"))) == most
    with pytest.raises(errors.ResponseTooLarge) as caught:
        served(text(most - around + 1))
    assert str(caught.value).startswith(f"the response has {most + 1} bytes, over {most} (what Lambda passes on): ask")


def test_a_request_over_the_limit_of_the_settings(function: Make, repository: Callable[..., str]) -> None:
    served = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="echo", MAX_REQUEST_BYTES="1000")
    with pytest.raises(errors.RequestTooLarge, match="over 1000 bytes"):
        served(text(1000))


def test_text_that_is_no_unicode(function: Make, repository: Callable[..., str]) -> None:
    served = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="echo")
    with pytest.raises(errors.InvalidRequest, match="surrogate"):
        served(text(0) | {"id": "\ud800"})


def test_it_has_its_line_and_its_metrics(function: Make, capsys: pytest.CaptureFixture[str]) -> None:
    served = function(LOG_FORMAT="json", METRICS_SINKS="emf", EMF_DETAIL="all")
    capsys.readouterr()
    served(EVENT)
    with pytest.raises(errors.InvalidRequest):
        served({"features": []})
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.err.splitlines() if '"status"' in line]
    names = ("request_id", "cold_start", "path", "status", "outcome", "model", "rows")
    assert [tuple(line[name] for name in names) for line in lines] == [
        (INVOCATION, True, "/v2/models/digits/infer", 200, "success", "digits", 1),
        (INVOCATION, False, "/predict", 400, "invalid", "digits", 0),
    ]
    metrics = [json.loads(line) for line in printed.out.splitlines() if line.startswith('{"_aws"')]
    counted = {name: value for line in metrics for name, value in line.items() if name.startswith("inferry_request")}
    assert (counted["inferry_requests_total"], counted["inferry_request_failures_total"]) == ([1.0], [1.0])


def test_what_it_asks_for_in_vain_is_counted(function: Make) -> None:
    """As the same request by HTTP is."""
    served = function()
    with pytest.raises(errors.InvalidRequest):
        served({"model": "digits", "inputs": [X]})
    assert served.module.service.metrics.responses == {("POST", "/v2/models/{model}/infer", 400): 1}


def test_an_init_does_not_wait_for_it() -> None:
    script = "import sys, functions.api; print('functions.direct' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=DEFAULTS, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_other_functions_know_no_direct_invocation() -> None:
    """A gateway of an application alone."""
    from functions.gateway import Gateway

    with pytest.raises(sources.UnknownEvent):
        Gateway(lambda *_: None)(EVENT, None)  # type: ignore[arg-type]
