"""functions/api.py: every HTTP event is the request that it stands for, and what an invocation knows is passed on."""

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import lambda_events as events
import onnx_models
import pytest
from contract.servers import ask
from inferry.cpus import session_threads
from inferry.errors import ModelNotFound
from inferry.settings import Settings
from wrappers.conftest import EXAMPLES, INVOCATION, Function

from functions import gateway, initialization, sources

JSON = "application/json"
Make = Callable[..., Function]

# What each kind of event makes of an answer's headers.
ALONE = {"headers": lambda headers: headers}
LISTS = {"multiValueHeaders": lambda headers: {name: [value] for name, value in headers.items()}}
FORMS: dict[str, dict[str, Any]] = {
    "alb": ALONE,
    "alb-multi-value": LISTS,
    "rest": ALONE | {"multiValueHeaders": lambda _: {}},
    "http": ALONE,
    "function": ALONE,
}


def form(name: str) -> dict[str, Any]:
    return FORMS[name] if name in FORMS else FORMS[name.partition("-")[0]]


def plain(event: Mapping[str, Any]) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers of the request that an event stands for."""
    request = event["requestContext"].get("http", {})
    text = event.get("body") or ""
    headers = event["headers"] if "headers" in event else {k: v[0] for k, v in event["multiValueHeaders"].items()}
    return (
        event.get("httpMethod") or request["method"],
        (event.get("path") or request["path"]).removeprefix("/ml").removeprefix("/prod"),
        base64.b64decode(text) if event.get("isBase64Encoded") else text.encode(),
        {**headers, "accept-encoding": "identity"},
    )


@pytest.mark.parametrize("name", events.HTTP)
def test_an_event_is_answered_as_the_request_it_stands_for(function: Make, name: str) -> None:
    event = events.load(name)
    method, path, body, headers = plain(event)
    served = function()
    direct = ask(served.module.create_app(served.module.service), method, path, content=body, headers=headers)
    request_id = event["requestContext"].get("requestId", INVOCATION)
    answer = served(event)
    assert direct.status_code == 200
    assert events.body(answer) == direct.content
    binary = direct.headers["content-type"] == "application/octet-stream"
    assert answer == {
        "statusCode": 200,
        "body": answer["body"],
        "isBase64Encoded": binary,
        **{key: of({**direct.headers, "x-request-id": request_id}) for key, of in form(name).items()},
    }


def test_every_sample_of_http_is_tested() -> None:
    found = {path.stem for path in events.FOLDER.glob("*.json")}
    assert {name for name in found if "requestContext" in events.load(name)} == {*events.HTTP, "vpc-lattice"}


def test_every_sample_has_a_source() -> None:
    rows = [line for line in (events.FOLDER / "README.md").read_text().splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall("`([a-z0-9-]+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(path.stem for path in events.FOLDER.glob("*.json"))
    assert [row for row in rows if "https://" not in row] == [row for row in rows if "| our own" in row]


def test_the_digit_is_read(function: Make) -> None:
    answer = json.loads(function()(events.load("http-api"))["body"])
    assert (answer["model_name"], answer["outputs"][0]["data"]) == ("digits", [7])


UNKNOWN: dict[str, tuple[Any, str]] = {
    "s3": (events.load("s3"), "the keys Records"),
    "sqs": (events.load("sqs-s3"), "the keys Records"),
    "eventbridge": (events.load("eventbridge-schedule"), "the keys account, detail, detail-type, id"),
    "s3 test": (events.load("s3-test"), "the keys Bucket, Event, HostId"),
    "vpc lattice": (
        events.load("vpc-lattice"),
        "the keys body, headers, isBase64Encoded, method, path, requestContext",
    ),
    "vpc lattice, the older structure": (
        {"raw_path": "/v2", "method": "GET", "headers": {}, "query_string_parameters": {}, "body": None},
        "the keys body, headers, method, query_string_parameters, raw_path",
    ),
    "websocket": ({"requestContext": {"connectionId": "c"}, "body": ""}, "the keys body, requestContext"),
    "empty": ({}, "the keys (none)"),
    "list": ([1], "got list"),
    "nothing": (None, "got NoneType"),
    "text": ("requestContext", "got str"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_event_of_unknown_shape_is_named_by_its_keys(function: Make, name: str) -> None:
    event, words = UNKNOWN[name]
    with pytest.raises(sources.UnknownEvent) as failure:
        function()(event)
    assert words in str(failure.value)
    assert "HTTP events" in str(failure.value)
    for form in ("inputs", "features", "ready"):
        assert f'{{"model_name": NAME, "{form}": ' in str(failure.value)


INFER = "/v2/models/digits/infer"


@pytest.mark.parametrize("name", events.HTTP)
@pytest.mark.parametrize("body", ["A", "QUI=\n", "Q U J D", "QUJ\u00e4", "****"])
def test_a_body_that_is_not_base64(function: Make, name: str, body: str) -> None:
    event = events.load(name)
    if "get" in name:
        event["requestContext"]["http"] |= {"method": "POST", "path": INFER}
    answer = function()({**event, "body": body, "isBase64Encoded": True})
    assert answer["statusCode"] == 400
    assert "isn't the base64" in json.loads(answer["body"])["error"]


SIZES = {"text": False, "base64": True}


@pytest.mark.parametrize("is_base64", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("path", [INFER, "/predict"])
def test_a_body_over_lambdas_limit(function: Make, path: str, is_base64: bool) -> None:
    event = events.http_api("POST", path) | {"isBase64Encoded": is_base64}
    served = function()
    at_limit = served(event | {"body": "A" * sources.MAX_BODY})
    assert at_limit["statusCode"] == 400, at_limit
    answer = served(event | {"body": "A" * (sources.MAX_BODY + 4)})
    error = json.loads(answer["body"])["error"]
    assert answer["statusCode"] == 413
    assert "6000004 bytes" in error
    assert "6000000" in error
    assert "4.5 MB" in error


ESCAPED = {"quotes": '"', "backslashes": "\\", "two bytes": "é", "four bytes": "😀"}


# What each gateway passes on of an answer's JSON: "1 MB" of a load balancer's function, Lambda's 6 MB of the others.
ROOM = {name: 1_000_000 if name.startswith("alb") else 6 * 2**20 for name in events.HTTP if "get" not in name}
LIMITS = {name: sources.MAX_BALANCED if name.startswith("alb") else sources.MAX_ANSWER for name in ROOM}
WHOSE = {
    sources.MAX_BALANCED: "740000 (what a load balancer takes from a function)",
    sources.MAX_ANSWER: "4500000 (what Lambda passes on)",
}


@pytest.mark.parametrize("name", ROOM)
@pytest.mark.parametrize("character", ESCAPED.values(), ids=ESCAPED)
def test_an_answer_within_the_limit_fits_into_the_gateways(
    function: Make, repository: Callable[..., str], character: str, name: str
) -> None:
    served = function(MODEL_PATH=repository({"digits.onnx": onnx_models.identity("BYTES", ("n",))}))
    size = len(json.dumps(character, ensure_ascii=False).encode()) - len('""')
    text = character * (LIMITS[name] * 9 // 10 // size)
    answer = served(echoed(name, text))
    assert answer["statusCode"] == 200, answer["body"][:300]
    assert json.loads(events.body(answer))["outputs"][0]["data"] == [text]
    # As the runtime writes it where it isn't told to leave characters as they are.
    assert len(json.dumps(answer)) < ROOM[name]


def echoed(name: str, text: str) -> dict[str, Any]:
    """The event of a request that a model of texts answers with the same text."""
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [text]}
    body = json.dumps({"inputs": [tensor]}, ensure_ascii=False)
    event = {**events.load(name), "body": body, "isBase64Encoded": False}
    for headers in (event[key] for key in ("headers", "multiValueHeaders") if key in event):
        for header in [header for header in headers if header.lower() == "inference-header-content-length"]:
            del headers[header]
    return event


@pytest.mark.parametrize("setting", ["0", "1000000000", "2000"])
@pytest.mark.parametrize("name", ROOM)
def test_an_answer_over_the_limit_says_whose_it_is(
    function: Make, repository: Callable[..., str], name: str, setting: str
) -> None:
    """A setting may make the limit smaller, and no larger: the gateway would answer 502."""
    served = function(
        MODEL_PATH=repository({"digits.onnx": onnx_models.identity("BYTES", ("n",))}), MAX_RESPONSE_BYTES=setting
    )
    answer = served(echoed(name, "a" * LIMITS[name]))
    size = LIMITS[name] + len(json.dumps(_empty_answer(served, name), separators=(",", ":")))
    whose = "2000 (MAX_RESPONSE_BYTES)" if setting == "2000" else WHOSE[LIMITS[name]]
    assert (answer["statusCode"], json.loads(answer["body"])["error"]) == (
        413,
        f"the response has {size} bytes, over {whose}: ask for fewer rows or outputs, or for outputs by "
        "reference ('uri'); by HTTP also for binary ones ('binary_data_output') or gzip (Accept-Encoding)",
    )


def _empty_answer(served: Function, name: str) -> Any:
    return json.loads(events.body(served(echoed(name, ""))))


@pytest.mark.parametrize(("name", "status"), [("alb", 413), ("http-api", 200)])
def test_other_answers_have_the_same_limit(
    function: Make, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    served = function(MODEL_PATH=str(EXAMPLES))
    padding = "# padding\n" * (sources.MAX_BALANCED // 10 + 1)
    monkeypatch.setattr("inferry.observability.sinks.prometheus.text", lambda *_: padding)
    assert served(got(name, "/metrics"))["statusCode"] == status


def got(name: str, path: str) -> dict[str, Any]:
    event = events.load(name) | {"body": "", "isBase64Encoded": False}
    if name == "alb":
        return event | {"httpMethod": "GET", "path": path}
    event["requestContext"]["http"] |= {"method": "GET", "path": path}
    return event | {"rawPath": path}


class Recorded:
    """An application that keeps the scopes it is called with."""

    def __init__(self) -> None:
        self.contexts: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.contexts.append(scope["inferry"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


TRACES = {
    "X-Ray's": (
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
        "1-5759e988-bd862e3fe1be46a994272793",
    ),
    "without a root": ("Sampled=0", ""),
    "none": ("", ""),
}


@pytest.mark.parametrize("name", TRACES)
def test_what_an_invocation_knows_is_passed_on(function: Make, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    header, trace_id = TRACES[name]
    monkeypatch.setenv("_X_AMZN_TRACE_ID", header)
    served, recorded = function(), Recorded()
    served.module.gateway.app = recorded
    before = time.monotonic()
    for event in ("http-api", "alb"):
        served(events.load(event), seconds=20)
    first, second = recorded.contexts
    for known in (first, second):
        assert 19 < known.pop("deadline") + gateway.MARGIN - before < 21
    assert first == {
        "request_id": "B7xQ2jOdliAEPLg=",
        "trace_id": trace_id,
        "cold_start": True,
        "max_response": (4_500_000, "what Lambda passes on"),
    }
    assert second == {
        "request_id": INVOCATION,
        "trace_id": trace_id,
        "cold_start": False,
        "max_response": (740_000, "what a load balancer takes from a function"),
    }


def test_a_prediction_ends_before_the_invocation_does(function: Make, repository: Callable[..., str]) -> None:
    served = function(MODEL_PATH=repository({"slow.onnx": onnx_models.slow()}), DEFAULT_MODEL="slow")
    body = json.dumps({"inputs": [{"name": "turns", "datatype": "INT64", "shape": [1], "data": [10**9]}]}).encode()
    start = time.monotonic()
    answer = served(events.http_api("POST", "/v2/models/slow/infer", body, {"content-type": JSON}), seconds=1)
    assert answer["statusCode"] == 504
    assert "the platform would have ended the request" in json.loads(answer["body"])["error"]
    assert time.monotonic() - start < 1


LOADED = {
    "the default model": ("b", ["b"]),
    "all, where none is the default": ("", ["a", "b"]),
}


@pytest.mark.parametrize("name", LOADED)
def test_models_are_loaded_during_the_init(function: Make, repository: Callable[..., str], name: str) -> None:
    default, loaded = LOADED[name]
    models = repository({"a.onnx": onnx_models.identity(), "b.onnx": onnx_models.identity()})
    repository_ = function(MODEL_PATH=models, DEFAULT_MODEL=default).module.service.repository
    assert [model for model in ("a", "b") if repository_.peek(model, None)] == loaded


def test_a_default_model_that_can_not_be_loaded_says_why(function: Make, repository: Callable[..., str]) -> None:
    served = function(MODEL_PATH=repository({"m.onnx": b"broken"}), DEFAULT_MODEL="m")
    answer = served(events.http_api("GET", "/v2/models/m/ready"))
    assert answer["statusCode"] == 503
    assert "can't be loaded" in json.loads(answer["body"])["error"]


def test_a_default_model_that_is_not_there_ends_the_init(function: Make, repository: Callable[..., str]) -> None:
    with pytest.raises(ModelNotFound, match="unknown model 'n'; the repository has: m"):
        function(MODEL_PATH=repository({"m.onnx": onnx_models.identity()}), DEFAULT_MODEL="n")


THREADS = {"128": 1, "1024": 1, "1769": 1, "1770": 2, "3538": 2, "10240": 6}


@pytest.mark.parametrize("memory", THREADS)
def test_threads_follow_the_memory(memory: str) -> None:
    defaults = initialization.threads({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory})
    assert session_threads(Settings.from_env(defaults)) == THREADS[memory]


def test_settings_come_before_what_the_memory_implies(function: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3538")
    assert function(INTRA_OP_THREADS="5").module.settings.intra_op_threads == 5
    assert initialization.threads({}) == {}


def test_an_init_near_the_limit_says_what_to_do(
    function: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(initialization, "NEAR", 0.05)
    monkeypatch.setattr(initialization, "preload", lambda service: time.sleep(0.3))
    function()
    [warning] = caplog.messages
    for words in ("0.05 s", "10 s", "memory", "SnapStart", "image", "DEFAULT_MODEL"):
        assert words in warning


def test_an_init_in_time_says_nothing(
    function: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(initialization, "NEAR", 0.2)
    monkeypatch.setattr(initialization, "preload", lambda service: None)
    function()
    time.sleep(0.3)
    assert caplog.messages == []


def test_the_log_level(function: Make) -> None:
    function(LOG_LEVEL="ERROR")
    assert logging.getLogger("inferry").level == logging.ERROR
