"""Who may call, and how long an answer may be: on every route."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import inferry
import onnx_models
import pytest
import tritonclient.http as triton
from inferry.http.asgi import ASGIApp
from inferry.http.routes import ROUTES, Route
from openapi_spec_validator import OpenAPIV31SpecValidator
from servers import Server, ask, serving

if TYPE_CHECKING:
    import httpx

KEY = "the key of a client"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
FILES = {"m.onnx": onnx_models.identity("FP32", ("n",))}
BODY = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
MISSING = {"error": "this needs an API key: send it in the header x-api-key, or as Authorization: Bearer KEY"}
REFUSED = {"error": "the API key is not a valid one"}
HEALTH = {"status": "ok", "name": "inferry", "version": inferry.__version__, "environment": "dev"}

PUBLIC = [
    "/v2/health/live",
    "/v2/health/ready",
    "/health",
    "/",
    "/page/{file}",
    "/docs",
    "/docs/assets/{file}",
    "/openapi.json",
]
ASSETS = {"docs_asset": "swagger-ui.css", "page_asset": "page.css"}
IDS = [f"{route.method} {route.path}" for route in ROUTES]


def path(route: Route) -> str:
    values = {"{model}": "m", "{version}": "1", "{file}": ASSETS.get(route.operation, ""), "{region}": "r"}
    for name, value in values.items():
        route = Route(route.method, route.path.replace(name, value), route.operation)
    return route.path


def test_the_public_routes() -> None:
    assert [route.path for route in ROUTES if route.public] == PUBLIC


@pytest.fixture
def closed(app: Callable[..., ASGIApp]) -> ASGIApp:
    return app(FILES, api_keys=(DIGEST,), page="true")


@pytest.mark.parametrize("route", ROUTES, ids=IDS)
def test_every_route_wants_a_key_but_the_public_ones(closed: ASGIApp, route: Route) -> None:
    answers = [
        ask(closed, route.method, path(route), headers=headers)
        for headers in ({}, {"x-api-key": "another"}, {"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"})
    ]
    statuses = [answer.status_code for answer in answers]
    if route.public:
        assert {200} == set(statuses)
        return
    missing, refused, *accepted = answers
    assert statuses[:2] == [401, 403]
    assert not {401, 403} & ({answer.status_code for answer in accepted} - {403})
    assert [answer.headers["content-type"] for answer in (missing, refused)] == ["application/json"] * 2
    assert [answer.json() for answer in (missing, refused)] == [MISSING, REFUSED]
    assert (missing.headers["www-authenticate"], "www-authenticate" in refused.headers) == ("Bearer", False)
    assert all(
        answer.json() not in (MISSING, REFUSED) for answer in accepted if "json" in answer.headers["content-type"]
    )


def test_health_names_no_models_where_keys_are_set(app: Callable[..., ASGIApp], closed: ASGIApp) -> None:
    """It is public: probes have no key."""
    for headers in ({}, {"x-api-key": KEY}):
        assert ask(closed, "GET", "/health", headers=headers).json() == HEALTH
    assert ask(app(FILES), "GET", "/health").json() == {**HEALTH, "models": ["m"]}


def test_a_body_is_not_read_without_a_key(app: Callable[..., ASGIApp]) -> None:
    served = app(FILES, api_keys=(DIGEST,), max_request_bytes=10)
    answer = ask(served, "POST", "/v2/models/m/infer", json=BODY)
    assert (answer.status_code, answer.json()) == (401, MISSING)
    assert ask(served, "POST", "/v2/models/m/infer", json=BODY, headers={"x-api-key": KEY}).status_code == 413


def test_a_preflight_has_no_key(app: Callable[..., ASGIApp]) -> None:
    served = app(FILES, api_keys=(DIGEST,), cors_origins=("https://a.example",))
    headers = {
        "origin": "https://a.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
    }
    assert ask(served, "OPTIONS", "/v2/models/m/infer", headers=headers).status_code == 200
    answer = ask(served, "GET", "/v2", headers={"origin": "https://a.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "https://a.example")


def test_the_document_says_how_to_send_a_key(app: Callable[..., ASGIApp], closed: ASGIApp) -> None:
    document = ask(closed, "GET", "/openapi.json").json()
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert document["security"] == [{"key": []}, {"bearer": []}]
    assert document["components"]["securitySchemes"] == {
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "the same key"},
    }
    without = [path for path, item in document["paths"].items() for method in item.values() if "security" in method]
    assert without == PUBLIC
    plain = ask(app(FILES), "GET", "/openapi.json").json()
    assert "securitySchemes" not in plain["components"]
    assert "security" not in json.dumps(plain)


def test_the_open_document_shows_no_model(app: Callable[..., ASGIApp], closed: ASGIApp) -> None:
    for served, shown in ((app(FILES), True), (closed, False)):
        assert ask(served, "GET", "/v2/models/m/ready", headers={"x-api-key": KEY}).status_code == 200
        infer = ask(served, "GET", "/openapi.json").json()["paths"]["/v2/models/{model}/infer"]["post"]
        assert ("examples" in infer["requestBody"]["content"]["application/json"]) is shown


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = onnx_models.write(tmp_path_factory.mktemp("closed"), FILES)
    with serving(folder, API_KEYS=DIGEST) as server:
        yield server
        shown = server.output
    assert KEY not in server.final_log + shown
    assert DIGEST not in server.final_log + shown


@pytest.mark.parametrize("headers", [{"x-api-key": KEY}, {"Authorization": f"Bearer {KEY}"}], ids=["key", "bearer"])
def test_tritonclient(server: Server, headers: dict[str, str]) -> None:
    with triton.InferenceServerClient(server.address) as client:
        assert client.is_server_live()
        assert client.is_model_ready("m", headers=headers)
        with pytest.raises(triton.InferenceServerException, match="this needs an API key"):
            client.get_model_metadata("m")
        with pytest.raises(triton.InferenceServerException, match="not a valid one"):
            client.get_model_metadata("m", headers={"x-api-key": "another"})


@pytest.mark.local
def test_a_key_for_a_setting_ends_the_command(tmp_path: Any) -> None:
    with (
        pytest.raises(AssertionError, match="API_KEYS must be SHA-256 digests") as caught,
        serving(tmp_path, API_KEYS="my key"),
    ):
        pass
    assert "my key" not in str(caught.value)


def limited(app: Callable[..., ASGIApp], limit: int) -> ASGIApp:
    return app(FILES, max_response_bytes=limit)


ANSWERS: list[tuple[str, str, Any]] = [
    ("POST", "/v2/models/m/infer", BODY),
    ("POST", "/v2/models/m/infer", BODY | {"parameters": {"binary_data_output": True}}),
    ("POST", "/predict", {"features": [1, 2, 3]}),
    ("POST", "/v1/models/m:predict", {"instances": [1, 2, 3]}),
    ("GET", "/v2/models/m", None),
    ("GET", "/openapi.json", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ANSWERS)
def test_an_answer_up_to_the_limit(app: Callable[..., ASGIApp], method: str, path: str, body: Any) -> None:
    plain = {"accept-encoding": "identity"}
    whole = ask(app(FILES), method, path, json=body, headers=plain)
    assert whole.status_code == 200
    size = len(whole.content)
    at_limit = ask(limited(app, size), method, path, json=body, headers=plain)
    assert (at_limit.status_code, at_limit.content) == (200, whole.content)
    over = ask(limited(app, size - 1), method, path, json=body, headers=plain)
    assert (over.status_code, over.headers["content-type"]) == (413, "application/json")
    assert over.json() == {
        "error": f"the response has {size} bytes, over {size - 1} (MAX_RESPONSE_BYTES): ask for fewer rows or outputs, "
        "or for outputs by reference ('uri'); by HTTP also for binary ones ('binary_data_output') or gzip "
        "(Accept-Encoding)"
    }


def test_what_is_compressed_counts(app: Callable[..., ASGIApp]) -> None:
    body = {"inputs": [{"name": "x", "shape": [1000], "datatype": "FP32", "data": [0] * 1000}]}
    served = limited(app, 500)

    def status(**headers: str) -> int:
        answer: httpx.Response = ask(served, "POST", "/v2/models/m/infer", json=body, headers=headers)
        return answer.status_code

    assert (status(**{"accept-encoding": "identity"}), status(**{"accept-encoding": "gzip"})) == (413, 200)


def test_an_answer_that_is_too_long_is_a_failure(app: Callable[..., ASGIApp]) -> None:
    served = limited(app, 100)
    headers = {"accept-encoding": "identity"}
    assert ask(served, "POST", "/v2/models/m/infer", json=BODY, headers=headers).status_code == 413
    head = ask(served, "HEAD", "/v2/models/m")
    assert (head.status_code, head.content) == (413, b"")
    stats = ask(app(FILES, max_response_bytes=0), "GET", "/v2/models/m/stats")
    assert stats.status_code == 200
