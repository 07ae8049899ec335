"""The OpenAPI document: true, complete, and a description that random requests made from it can't break."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import onnx_models
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inferry.http.asgi import ASGIApp
from inferry.http.openapi import REQUESTS, status
from inferry.http.routes import ROUTES, Route
from inferry.protocol.tensors import DATATYPES
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from servers import Server, ask, tensor
from tiny import TINY

LONG = os.environ.get("FUZZ") == "long"
BUDGET = settings(max_examples=200 if LONG else 8, suppress_health_check=list(HealthCheck))
BUDGET_OF_CHANGES = settings(BUDGET, max_examples=1000 if LONG else 25)
CONFORMANCE = [content_type_conformance, status_code_conformance, response_schema_conformance]
IDS = [f"{route.method} {route.path}" for route in ROUTES]
EXAMPLE_MODELS = ["diabetes", "digits", "digits-conv", "encoder", "newsline"]


@pytest.fixture(scope="module")
def document(examples: Server) -> Any:
    return examples.ask("GET", "/openapi.json").json


@pytest.fixture(scope="module")
def schema(document: Any) -> Any:
    return schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_the_document_is_openapi(document: Any) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_document_describes_every_route_and_no_other(document: Any) -> None:
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_the_names_of_operations(document: Any) -> None:
    """A generated client calls its functions by them: one that changes breaks its users."""
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert sorted(names) == sorted({route.name for route in ROUTES})
    assert {"infer", "infer_of_version", "model_ready", "v1_predict", "get_v2_trace_setting", "live"} <= set(names)


def test_media_types(document: Any) -> None:
    bodies = [
        body["content"]
        for item in document["paths"].values()
        for operation in item.values()
        for body in [operation.get("requestBody", {"content": {}}), *operation["responses"].values()]
    ]
    assert {name for content in bodies for name in content} == {
        "application/json",
        "application/octet-stream",
        "application/openmetrics-text",
        "image/png",
        "image/svg+xml",
        "text/css",
        "text/html",
        "text/javascript",
        "text/plain",
    }


@pytest.mark.parametrize("route", ROUTES, ids=IDS)
def test_every_route_has_a_summary_a_tag_and_its_answers(document: Any, route: Route) -> None:
    operation = document["paths"][route.path][route.method.lower()]
    assert (operation["summary"], operation["tags"]) == (route.summary, [route.tag])
    assert "description" not in operation
    assert operation["responses"].keys() == {str(status(route)), "default"} | (
        {"202"} if route.operation in ("infer", "deferred") else set()
    )
    error = operation["responses"]["default"]["content"]
    assert error == {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    declared = [(parameter["name"], parameter["in"]) for parameter in operation.get("parameters", [])]
    in_path = [(part[1:].partition("}")[0], "path") for part in route.path.split("/") if part.startswith("{")]
    assert [parameter for parameter in declared if parameter[1] == "path"] == in_path


def bodies(document: Any, path: str) -> dict[str, Any]:
    examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    return {name: example["value"] for name, example in examples.items()}


PATHS = ["/v2/models/{model}/infer", "/predict", "/v1/models/{model}:predict"]


@pytest.mark.parametrize("path", PATHS)
def test_there_is_an_example_for_every_loaded_model(document: Any, path: str) -> None:
    assert sorted(bodies(document, path)) == EXAMPLE_MODELS


@pytest.mark.parametrize("model", EXAMPLE_MODELS)
@pytest.mark.parametrize("path", PATHS)
def test_every_example_is_answered(examples: Server, document: Any, path: str, model: str) -> None:
    answer = examples.post(path.format(model=model), bodies(document, path)[model])
    assert answer.status == 200, answer
    if "outputs" not in answer.json:
        assert len(answer.json["predictions"]) == 1


UNLOADABLE = {"broken", "sequence", "complex"}


def test_examples_are_made_for_models_without_a_card(tiny: Server) -> None:
    document = tiny.ask("GET", "/openapi.json").json
    models = {path.split("/")[0].removesuffix(".onnx") for path in TINY} - UNLOADABLE
    for path in PATHS:
        examples = bodies(document, path)
        assert examples.keys() == models
        # Seven elements are what the model that fails wants.
        refused = {
            model: answer
            for model, body in examples.items()
            if model != "failing" and (answer := tiny.post(path.format(model=model), body)).status != 200
        }
        assert refused == {}


CARD_INPUT = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[0.1, 0.2, 0.3], [1, 2, 3]]}
CARDS: dict[str, tuple[bytes, Any, Any, Any]] = {
    "two rows, nested": (onnx_models.identity(), [CARD_INPUT], [CARD_INPUT], [[0.1, 0.2, 0.3], [1, 2, 3]]),
    "a card of another model": (
        onnx_models.identity("FP32", (1, 2)),
        [CARD_INPUT],
        [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}],
        [[0, 0]],
    ),
    "a card that is no request": (
        onnx_models.identity("BOOL", ("n",)),
        "many",
        [{"name": "x", "shape": [1], "datatype": "BOOL", "data": [False]}],
        [False],
    ),
    "inputs of different lengths": (
        onnx_models.echo({"a": ("FP32", ("n",)), "b": ("INT64", ("m",))}),
        [
            {"name": "a", "shape": [1], "datatype": "FP32", "data": [1]},
            {"name": "b", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        ],
        [
            {"name": "a", "shape": [1], "datatype": "FP32", "data": [1]},
            {"name": "b", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        ],
        None,
    ),
    "an input of 150,528 numbers": (onnx_models.identity("FP32", ("n", 3, 224, 224)), None, None, None),
}


@pytest.mark.parametrize("name", CARDS)
def test_examples_from_cards(app: Callable[..., ASGIApp], name: str) -> None:
    model, card, infer, rows = CARDS[name]
    config = json.dumps({"example": {"inputs": card}} if card else {}).encode()
    served = app({"m/1/model.onnx": model, "m/config.json": config})
    assert ask(served, "GET", "/v2/models/m/ready").status_code == 200
    paths = ask(served, "GET", "/openapi.json").json()["paths"]
    contents = {path: paths[path]["post"]["requestBody"]["content"]["application/json"] for path in PATHS}
    examples = {path: content["examples"]["m"]["value"] for path, content in contents.items() if "examples" in content}
    expected = {
        "/v2/models/{model}/infer": infer and {"inputs": infer},
        "/predict": rows and {"features": rows, "model_name": "m"},
        "/v1/models/{model}:predict": rows and {"instances": rows},
    }
    assert examples == {path: value for path, value in expected.items() if value}


# Only bodies can be wrong in ways of their own: every string is a name of a model.
MODES = [
    (route, mode)
    for route in ROUTES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or route.operation in REQUESTS
]


@pytest.mark.fuzz
@pytest.mark.parametrize(
    ("route", "mode"), MODES, ids=[f"{route.method} {route.path} {mode.value}" for route, mode in MODES]
)
def test_random_requests(
    examples: Server, schema: Any, http: requests.Session, route: Route, mode: GenerationMode
) -> None:
    operation = schema[route.path][route.method]
    checks = CONFORMANCE if route.operation == "unsupported" else [*CONFORMANCE, not_a_server_error]

    @BUDGET
    @given(operation.as_strategy(generation_mode=mode), st.sampled_from([None, *EXAMPLE_MODELS]))
    def run(case: Any, model: str | None) -> None:
        if model and "model" in (case.path_parameters or {}):
            case.path_parameters["model"] = model
        response = case.call(base_url=examples.url, session=http)
        case.validate_response(response, checks=checks)

    run()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*DATATYPES, "x", "y", "a", "b", 0, 1, -1, 2**63, ""]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from spots(item, (*path, key))


def changed(draw: Any, value: Any) -> Any:
    """A copy of `value` with something in it replaced, left out or doubled."""
    value = copy.deepcopy(value)
    *path, key = draw(st.sampled_from(list(spots(value))))
    owner = value
    for part in path:
        owner = owner[part]
    change = draw(st.sampled_from(["replace", "drop", "double"]))
    if change == "replace":
        owner[key] = draw(VALUES)
    elif change == "drop":
        del owner[key]
    elif isinstance(owner, list):
        owner.append(owner[key])
    else:
        owner[draw(st.sampled_from(["parameters", "outputs", "id", "data", "shape"]))] = owner[key]
    return value


def infer(model: str, *inputs: Any, **output: Any) -> tuple[str, Any]:
    outputs = {"outputs": [{"name": "y", "parameters": output}]} if output else {}
    parameters = {"binary_data_output": False, "timeout": 10**7}
    return f"/v2/models/{model}/infer", {"id": "1", "inputs": list(inputs), "parameters": parameters, **outputs}


def predict(model: str, features: Any) -> tuple[str, Any]:
    return "/predict", {"features": features, "model_name": model}


def v1(model: str, instances: Any) -> tuple[str, Any]:
    return f"/v1/models/{model}:predict", {"instances": instances}


GOOD = {
    "FP32": infer("FP32", tensor("x", "FP32", [2], [1.5, 2]), binary_data=False),
    "INT8, classes": infer("INT8", tensor("x", "INT8", [2], [1, -2]), classification=1),
    "BOOL": infer("BOOL", tensor("x", "BOOL", [2], [True, False])),
    "BYTES": infer("text", tensor("x", "BYTES", [2, 1], [["a"], ["b"]]), binary_data=True),
    "nested": infer("image", tensor("x", "FP32", [1, 1, 2, 2], [[[[1, 2], [3, 4]]]])),
    "two inputs": infer("pair", tensor("a", "FP32", [1], [1]), tensor("b", "INT64", [2], [1, 2])),
    "batch": infer("batched", tensor("x", "FP32", [1, 3], [0.5, 1, 2]), classification=2),
    "maps": infer("classifier", tensor("x", "FP32", [1, 2], [[0.5, 1]])),
    "image": predict("image", [[[[1, 2], [3, 4]]]]),
    "table": predict("table", [{"a": 1, "b": 2}]),
    "strings": predict("text", [["a", "b"], ["c", "d"]]),
    "optional": v1("scaled", [{"x": [1, 2, 3], "factor": 2}]),
    "BF16": v1("BF16", [1, 2]),
}
# Parts of the protocol that aren't offered (sequences, shared memory), and a time that was too short.
LEGITIMATE = {200, 400, 404, 501, 504}


@pytest.mark.fuzz
@pytest.mark.parametrize("name", GOOD)
def test_good_requests_with_something_changed(tiny: Server, http: requests.Session, name: str) -> None:
    path, good = GOOD[name]
    assert tiny.post(path, good).status == 200

    @BUDGET_OF_CHANGES
    @given(st.data())
    def run(data: st.DataObject) -> None:
        value = changed(data.draw, good)
        for _ in range(data.draw(st.integers(0, 2))):
            value = changed(data.draw, value) if value else value
        # Python writes NaN and Infinity as bare tokens, as tritonclient does.
        answer = http.post(tiny.url + path, data=json.dumps(value))
        assert answer.status_code in LEGITIMATE, (value, answer.text)
        if answer.status_code != 200:
            assert answer.headers["content-type"] == "application/json"
            assert list(answer.json()) == ["error"]

    run()
