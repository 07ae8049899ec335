"""azure_app/function_app.py in this process: what an invocation knows is passed on, and nothing is imported in vain."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from threading import local
from types import SimpleNamespace
from typing import Any, cast

import azure.functions as func
import onnx_models
import pytest
from contract.servers import environment
from inferry.app import create_app
from inferry.errors import InvalidSettings
from inferry.http.routes import ROUTES
from inferry.observability import logs
from inferry.observability.context import read
from inferry.service import Service
from inferry.settings import Settings

from azure_app.environment import auth_level, defaults
from azure_app.middleware import LIMIT, FunctionApp

ROOT = Path(__file__).parents[2]
INVOCATION = "0f8fad5b-d9cb-469f-a165-70867728950e"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Recorder:
    """An application that keeps the scopes it is called with."""

    def __init__(self) -> None:
        self.scopes: list[MutableMapping[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/x")]})
        await send({"type": "http.response.body", "body": (await receive())["body"]})


def context(traceparent: str = PARENT) -> Any:
    return SimpleNamespace(
        function_directory=".",
        function_name="api",
        invocation_id=INVOCATION,
        thread_local_storage=local(),
        trace_context=SimpleNamespace(trace_parent=traceparent),
        retry_context=None,
    )


def request(path: str = "/v2", **headers: str) -> func.HttpRequest:
    return func.HttpRequest("POST", f"http://app{path}", headers=headers, body=b"\x00\xff")


def invoke(app: FunctionApp, *requests: func.HttpRequest, invocation: Any = None) -> list[func.HttpResponse]:
    """The answers of the function `api`, as the worker calls it, to all requests at once."""
    (function,) = (f for f in app.get_functions() if f.get_function_name() == "api")
    handler = function.get_user_function()

    async def go() -> list[func.HttpResponse]:
        return list(await asyncio.gather(*(handler(req=r, context=invocation or context()) for r in requests)))

    return asyncio.run(go())


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def app(recorder: Recorder) -> FunctionApp:
    return FunctionApp(recorder, func.AuthLevel.FUNCTION, function_name="api")


def test_an_invocation_is_known_to_the_application(app: FunctionApp, recorder: Recorder) -> None:
    before = time.monotonic() + LIMIT
    (answer,) = invoke(app, request())
    (scope,) = recorder.scopes
    deadline = scope["inferry"].pop("deadline")
    assert scope["inferry"] == {"request_id": INVOCATION, "cold_start": True}
    assert before <= deadline <= time.monotonic() + LIMIT
    assert (answer.status_code, answer.get_body(), answer.headers["content-type"]) == (200, b"\x00\xff", "text/x")


def test_a_callers_own_request_id_stays(app: FunctionApp, recorder: Recorder) -> None:
    invoke(app, request(**{"X-Request-Id": "mine"}))
    assert "request_id" not in recorder.scopes[0]["inferry"]


@pytest.mark.parametrize("hosts", [PARENT, ""])
def test_the_hosts_span_is_the_parent(app: FunctionApp, recorder: Recorder, hosts: str) -> None:
    theirs = f"00-{TRACE}-1111111111111111-01"
    invoke(app, request(traceparent=theirs), invocation=context(hosts))
    (scope,) = recorder.scopes
    assert dict(scope["headers"])[b"traceparent"].decode() == (hosts or theirs)
    assert read(scope).trace_id == TRACE


def test_a_request_has_its_line(repository: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    """As the message of a record, which the worker brings to Application Insights, with the invocation's ids."""
    settings = Settings(model_path=repository({"m.onnx": onnx_models.identity()}), log_format="json")
    logs.configure(settings, hosted=True)
    service = Service.from_settings(settings)
    caplog.set_level("INFO")
    invoke(FunctionApp(create_app(service), func.AuthLevel.FUNCTION, function_name="api"), request())
    service.close()
    (line,) = [json.loads(message) for message in caplog.messages if message.startswith("{")]
    names = ("request_id", "trace_id", "cold_start", "path", "status", "outcome")
    assert [line[name] for name in names] == [INVOCATION, TRACE, True, "/v2", 405, "invalid"]


def test_only_the_first_request_is_cold_and_no_lifespan_reaches_the_application(
    app: FunctionApp, recorder: Recorder
) -> None:
    invoke(app, *[request()] * 5)
    assert [scope["type"] for scope in recorder.scopes] == ["http"] * 5
    assert [read(scope).cold_start for scope in recorder.scopes] == [True, False, False, False, False]


def test_the_request_as_asgi_has_it(app: FunctionApp, recorder: Recorder) -> None:
    invoke(app, request("/v2/models/a%20b%ff?q=1&r=%20", Host="app", Accept="*/*"))
    (scope,) = recorder.scopes
    scope.pop("inferry")
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v2/models/a b\N{REPLACEMENT CHARACTER}",
        "raw_path": b"/v2/models/a%20b%ff",
        "query_string": b"q=1&r=%20",
        "root_path": "",
        "headers": [(b"host", b"app"), (b"accept", b"*/*"), (b"traceparent", PARENT.encode())],
        "server": None,
        "client": None,
    }


def test_headers_in_a_mapping_of_another_library(app: FunctionApp, recorder: Recorder) -> None:
    """The host may bring an azure.functions of its own, and what is read of its headers is not documented."""
    given = SimpleNamespace(method="GET", url="http://app/", headers={"accept": "*/*"}, get_body=lambda: b"")
    invoke(app, cast("func.HttpRequest", given), invocation=context(""))
    assert recorder.scopes[0]["headers"] == [(b"accept", b"*/*")]


@pytest.mark.parametrize("url", ["http://app", "http://app/"])
def test_the_root(app: FunctionApp, recorder: Recorder, url: str) -> None:
    invoke(app, func.HttpRequest("GET", url, headers={}, body=b""))
    assert recorder.scopes[0]["path"] == "/"


def test_the_client_leaves_when_the_answer_is_complete() -> None:
    """Applications that listen for it, as Starlette's streams do, must neither wait for long nor be told too soon."""
    told: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await receive()

        async def listen() -> None:
            told.append((await receive())["type"])

        listening = asyncio.create_task(listen())
        await send({"type": "http.response.start", "status": 201, "headers": []})
        for part in (b"a", b"b"):
            await asyncio.sleep(0)
            assert told == []
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
        await listening
        told.append((await receive())["type"])

    (answer,) = invoke(FunctionApp(stream, func.AuthLevel.FUNCTION, function_name="api"), request())
    assert (answer.status_code, answer.get_body(), told) == (201, b"ab", ["http.disconnect"] * 2)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, "ROOT/models"),
        ({"MODEL_PATH": "mine"}, "ROOT/mine"),
        ({"MODEL_PATH": "/x"}, "/x"),
        ({"MODEL_PATH": "az://c/m"}, "az://c/m"),
    ],
)
def test_models_are_below_the_app_and_not_below_the_working_directory(given: dict[str, str], path: str) -> None:
    found = defaults({**given, "PORT": "1"}, ROOT)
    assert found == {"MODEL_PATH": path.replace("ROOT", str(ROOT)), "BASE_PATH": "", "PORT": "1"}


PREFIX = "AzureFunctionsJobHost__extensions__http__routePrefix"


@pytest.mark.parametrize(
    ("host", "given", "base"),
    [
        ("", {}, ""),
        ("ml", {}, "/ml"),
        ("ml/", {PREFIX: ""}, ""),
        ("", {PREFIX: "a/b"}, "/a/b"),
        ("ml", {"BASE_PATH": "/front"}, "/front"),
        ("", {"BASE_PATH": "/"}, "/"),
    ],
)
def test_the_hosts_prefix_is_the_base_path(tmp_path: Path, host: str, given: dict[str, str], base: str) -> None:
    (tmp_path / "host.json").write_text(json.dumps({"extensions": {"http": {"routePrefix": host}}}))
    assert defaults(given, tmp_path)["BASE_PATH"] == base


def test_levels_of_authorisation() -> None:
    levels: list[dict[str, str]] = [{}, {"AUTH_LEVEL": ""}, {"AUTH_LEVEL": "anonymous"}, {"AUTH_LEVEL": "Admin"}]
    expected = [func.AuthLevel.FUNCTION] * 2 + [func.AuthLevel.ANONYMOUS, func.AuthLevel.ADMIN]
    assert [auth_level(env) for env in levels] == expected
    with pytest.raises(InvalidSettings, match="AUTH_LEVEL must be function, anonymous or admin, got 'public'"):
        auth_level({"AUTH_LEVEL": "public"})


def test_the_open_functions_are_the_routes_of_health() -> None:
    """`{probe}` opens what is behind /v2/health/, now and later."""
    health = {route.path for route in ROUTES if route.tag == "Health" and route.path != "/metrics"}
    assert health == {"/health", "/v2/health/live", "/v2/health/ready"}


FIRST = """
import asyncio, sys
import function_app
import azure.functions as func
from types import SimpleNamespace

handler = function_app.app.get_functions()[0].get_user_function()
loaded = sys.modules['azure_app.function_app'].service.repository.peek("m", None) is not None
body = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
trace = SimpleNamespace(trace_parent="")
context = SimpleNamespace(invocation_id="i", trace_context=trace)
request = func.HttpRequest("POST", "http://app/v2/models/m/infer", headers={}, body=body)
answer = asyncio.run(handler(req=request, context=context))
heavy = [name for name in ("fastapi", "starlette", "pydantic", "obstore", "boto3", "uvicorn") if name in sys.modules]
print(loaded, answer.status_code, answer.get_body().decode(), heavy)
"""


def test_the_model_is_loaded_by_the_import_and_a_first_prediction_imports_nothing_heavy(tmp_path: Path) -> None:
    models = onnx_models.write(tmp_path / "models", {"m.onnx": onnx_models.identity()})
    env = environment({"MODEL_PATH": str(models), "PYTHONPATH": str(ROOT)})
    done = subprocess.run([sys.executable, "-c", FIRST], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == (
        'True 200 {"model_name":"m","model_version":"1","outputs":'
        '[{"name":"y","datatype":"FP32","shape":[1,3],"data":[1.0,2.0,3.0]}]} []\n'
    ), done.stderr
    assert done.stderr == ""
