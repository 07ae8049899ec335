"""What other hosts than uvicorn do to the application: prefixes, lifespans, WebSockets, and bugs of ours."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import httpx
import onnx_models
import pytest
from inferry.http import management
from inferry.http.asgi import ASGIApp
from inferry.http.management import create_management
from inferry.repository.repository import Repository
from inferry.service import Service
from servers import ask

FILES = {"m.onnx": onnx_models.identity()}


def converse(app: ASGIApp, scope: dict[str, Any], *messages: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    """What the application sends when it is given these messages and no more."""
    sent: list[MutableMapping[str, Any]] = []
    given = iter(messages)

    async def receive() -> MutableMapping[str, Any]:
        return next(given)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def go() -> None:
        await app(scope, receive, send)

    asyncio.run(go())
    return sent


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/models/m", "/v1/models/m"])
def test_a_prefix(app: Callable[..., ASGIApp], path: str) -> None:
    served = app(FILES)
    plain = ask(served, "GET", path)
    assert plain.status_code == 200
    # Some hosts strip the prefix from the path, others leave it on.
    for given in (path, f"/prod{path}", f"/prod{path}/"):
        answer = ask(served, "GET", given, root_path="/prod")
        assert (answer.status_code, answer.json()) == (200, plain.json()), given


@pytest.mark.parametrize("path", ["/production/v2", "/prod2/v2/health/live"])
def test_a_path_that_only_starts_like_the_prefix(app: Callable[..., ASGIApp], path: str) -> None:
    answer = ask(app(FILES), "GET", path, root_path="/prod")
    assert answer.status_code == 404
    assert repr(path) in answer.json()["error"]


def test_a_lifespan_is_answered(app: Callable[..., ASGIApp]) -> None:
    messages = ({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert converse(app(FILES), {"type": "lifespan"}, *messages) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]


def test_a_websocket_is_closed(app: Callable[..., ASGIApp]) -> None:
    scope = {"type": "websocket", "path": "/v2", "headers": []}
    assert converse(app(FILES), scope, {"type": "websocket.connect"}) == [{"type": "websocket.close"}]


def test_head_has_no_body_on_any_host(app: Callable[..., ASGIApp]) -> None:
    served = app(FILES)
    for path in ("/v2", "/v2/health/live", "/nothing"):
        scope: dict[str, Any] = {"type": "http", "method": "HEAD", "path": path, "headers": [], "query_string": b""}
        start, *bodies = converse(served, scope, {"type": "http.request"})
        assert int(dict(start["headers"])[b"content-length"]) > 0
        assert b"".join(message.get("body", b"") for message in bodies) == b""


@pytest.mark.parametrize("path", ["/v2/models/\udce9", "/v2/models/\udce9/ready"])
def test_a_path_that_is_no_text_on_any_host(app: Callable[..., ASGIApp], path: str) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    start, body = converse(app(FILES), scope, {"type": "http.request"})
    assert start["status"] == 404
    assert json.loads(body["body"]) == {"error": "unknown model '?'; the repository has: m"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/models/m/ready", "/health", "/metrics", "/v2/models/m", "/docs"]
)
def test_no_body_is_read_where_none_is_taken(app: Callable[..., ASGIApp], method: str, path: str) -> None:
    """Probes need no key, and a body can take long to inflate."""
    headers = [(b"content-encoding", b"gzip"), (b"content-length", b"160000")]
    start, *_ = converse(
        app(FILES), {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    )
    assert start["status"] == 200


def test_of_a_body_over_the_limit_no_more_is_read(app: Callable[..., ASGIApp]) -> None:
    scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": [], "query_string": b""}
    chunk = {"type": "http.request", "body": bytes(600), "more_body": True}
    start, _ = converse(app(FILES, max_request_bytes=1000), scope, chunk, chunk)
    assert start["status"] == 413


def within(app: ASGIApp, **host: Any) -> ASGIApp:
    """`app` on a host that knows this of every request."""

    async def hosted(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "inferry": host}, receive, send)

    return hosted


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2", "/v2/models/none", "/nowhere"])
def test_an_answer_repeats_the_id_of_its_request(app: Callable[..., ASGIApp], path: str) -> None:
    served = app(FILES)
    assert "x-request-id" not in ask(served, "GET", path).headers
    assert ask(served, "GET", path, headers={"X-Request-Id": "42"}).headers.get_list("x-request-id") == ["42"]
    hosted = ask(within(served, request_id="host's"), "GET", path, headers={"X-Request-Id": "42"})
    assert hosted.headers.get_list("x-request-id") == ["host's"]


PREDICTIONS = [
    ("/v2/models/slow/infer", {"inputs": [{"name": "turns", "shape": [1], "datatype": "INT64", "data": [10**6]}]}),
    ("/predict", {"features": [[10**6]]}),
    ("/v1/models/slow:predict", {"instances": [10**6]}),
]
HINT = "; the platform would have ended the request: send fewer rows, or give the function more time or CPUs"


@pytest.mark.parametrize(("path", "body"), PREDICTIONS)
def test_a_prediction_ends_before_its_host_ends_it(app: Callable[..., ASGIApp], path: str, body: Any) -> None:
    served = app({"slow.onnx": onnx_models.slow()})
    assert ask(served, "GET", "/v2/models/slow/ready").status_code == 200
    start = time.monotonic()
    answer = ask(within(served, deadline=start + 0.2), "POST", path, json=body)
    assert 0.2 <= time.monotonic() - start < 2
    assert (answer.status_code, answer.headers["content-type"]) == (504, "application/json")
    assert answer.json()["error"].endswith(HINT)


@pytest.mark.parametrize(("path", "body"), PREDICTIONS)
def test_a_load_ends_before_its_host_ends_it(
    app: Callable[..., ASGIApp], path: str, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = app({"slow.onnx": onnx_models.slow()})
    ready, get = threading.Event(), Repository.get
    monkeypatch.setattr(Repository, "get", lambda *arguments: ready.wait(30) and get(*arguments))
    answer = ask(within(served, deadline=time.monotonic() + 0.1), "POST", path, json=body)
    ready.set()
    assert (answer.status_code, answer.json()) == (
        504,
        {"error": f"the time for this request was over while model 'slow' was loading{HINT}"},
    )


def test_the_sooner_limit_counts(app: Callable[..., ASGIApp]) -> None:
    served = app({"slow.onnx": onnx_models.slow()}, model_timeout=0.1)
    answer = ask(within(served, deadline=time.monotonic() + 60), "POST", PREDICTIONS[0][0], json=PREDICTIONS[0][1])
    assert answer.status_code == 504
    assert HINT not in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/m/ready", "/v2/models/m", "/v1/models/m"])
def test_a_bug_of_ours_becomes_one_answer_and_one_line_of_the_log(
    app: Callable[..., ASGIApp], path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(Service, "model", fail)
    caplog.set_level(logging.DEBUG, "inferry")
    answer = ask(app(FILES), "GET", path, headers={"X-Request-Id": "42"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    assert answer.json() == {"error": "internal error (request 42)"}
    assert [record.getMessage() for record in caplog.records] == ["request 42 failed"]
    assert [vars(record)["request_id"] for record in caplog.records] == ["42"]
    assert "a secret of ours" in caplog.text


def test_a_bug_of_ours_without_a_request_id_gets_one(
    app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(Service, "model", fail)
    error = ask(app(FILES), "GET", "/v2/models/m").json()["error"]
    request_id = error.removeprefix("internal error (request ").removesuffix(")")
    assert len(bytes.fromhex(request_id)) == 8
    assert f"request {request_id} failed" in caplog.text


def test_a_bug_of_ours_in_a_batch_is_a_line_for_each_of_its_requests(
    app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr("inferry.runtime.batcher._join", fail)
    config = json.dumps({"max_batch_size": 8, "dynamic_batching": {}}).encode()
    served = app({"m/1/model.onnx": onnx_models.scaled(2.0), "m/config.json": config})
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}

    async def together() -> list[httpx.Response]:
        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = (client.post("/v2/models/m/infer", json=body, headers={"X-Request-Id": f"{n}"}) for n in range(4))
            return await asyncio.gather(*asked)

    answers = asyncio.run(together())
    failed = [answer.headers["x-request-id"] for answer in answers if answer.status_code == 500]
    assert len(failed) >= 2, [answer.text for answer in answers]
    assert sorted(record.getMessage() for record in caplog.records) == [f"request {n} failed" for n in failed]


def test_the_first_requests_together_make_one_management(
    app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def create(*arguments: Any) -> ASGIApp:
        time.sleep(0.01)  # so that each finds none there
        made.append(create_management(*arguments))
        return made[-1]

    monkeypatch.setattr(management, "create_management", create)
    served = app(FILES)

    async def go() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://test") as client:
            return await asyncio.gather(*(client.get("/v2") for _ in range(20)))

    assert [answer.status_code for answer in asyncio.run(go())] == [200] * 20
    assert len(made) == 1
