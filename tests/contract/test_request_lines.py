"""The lines of requests: what each says, and what none ever says."""

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import onnx_models
import pytest
from inferry.cli.serve import _with_lifespan
from inferry.http import asgi
from inferry.http.asgi import ASGIApp
from inferry.observability import logs
from inferry.observability.access_log import Request
from inferry.settings import Settings
from servers import ask, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
FILES = {
    "m.onnx": onnx_models.identity("FP32", ("n",)),
    "failing.onnx": onnx_models.failing(),
    "b/1/model.onnx": onnx_models.identity("FP32", ("n", 1)),
    "b/config.json": b'{"max_batch_size": 8, "dynamic_batching": {}}',
}
BODY = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
TEXT = json.dumps(BODY).encode()
PARTS = {"decode_ms", "queue_ms", "infer_ms", "encode_ms"}


# Where a line goes: into records for whoever handles them, to stderr without one, to a host's handlers as a message.
WAYS = ("records", "stderr", "host")
HEAD = ("location", "message", "timestamp", "service")
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def app(app: Callable[..., ASGIApp], way: str) -> Callable[..., ASGIApp]:
    """Configures the log as well, within the test: pytest adds handlers to a log that is configured before."""

    def make(files: dict[str, bytes], **settings: Any) -> ASGIApp:
        if way != "records":
            logs.configure(Settings(log_format="json", debug=True), hosted=way == "host")
        return app(files, **settings)

    return make


@pytest.fixture
def logged(way: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Lines:
    """What the log has so far: levels, and all that lines say beside their messages."""
    caplog.set_level(logging.DEBUG)
    plain = vars(logging.makeLogRecord({})).keys() | {"message"}
    written: list[str] = []

    def records() -> list[dict[str, Any]]:
        found = [item for item in caplog.records if item.name == "inferry"]
        given = [{name: value for name, value in vars(item).items() if name not in plain} for item in found]
        return [{"level": item.levelname, **fields} for item, fields in zip(found, given, strict=True)]

    def texts() -> list[dict[str, Any]]:
        written.extend(capfd.readouterr().err.splitlines())
        found = caplog.messages if way == "host" else written
        lines = [json.loads(text) for text in found if text.startswith("{")]
        return [{name: value for name, value in line.items() if name not in HEAD} for line in lines]

    return records if way == "records" else texts


@pytest.fixture
def lines(logged: Lines) -> Lines:
    """Of these the requests' lines without their levels; times as True when they are numbers."""

    def read() -> list[dict[str, Any]]:
        found = [line for line in logged() if line.pop("level") and "duration_ms" in line]
        return [{name: value > 0 if name.endswith("_ms") else value for name, value in line.items()} for line in found]

    return read


def infer(app: ASGIApp, model: str = "m", **headers: str) -> Any:
    return ask(
        app, "POST", f"/v2/models/{model}/infer", content=TEXT, headers={"accept-encoding": "identity", **headers}
    )


def test_a_prediction(app: Callable[..., ASGIApp], lines: Lines) -> None:
    served = app(FILES, log_format="json")
    answers = [infer(served, traceparent=PARENT, **{"x-request-id": "42"}) for _ in range(2)]
    expected = {
        "request_id": "42",
        "trace_id": TRACE,
        "cold_start": False,
        "method": "POST",
        "path": "/v2/models/m/infer",
        "status": 200,
        "outcome": "success",
        "duration_ms": True,
        "request_bytes": len(TEXT),
        "response_bytes": len(answers[0].content),
        "model": "m",
        "version": "1",
        "rows": 2,
        "decode_ms": True,
        "queue_ms": False,
        "infer_ms": True,
        "encode_ms": True,
    }
    first, second = lines()
    assert first == expected | {"load_ms": True, "queue_ms": first["queue_ms"]}
    assert second == expected


@pytest.mark.parametrize(
    ("path", "body"),
    [("/predict", {"features": [1, 2], "model_name": "m"}), ("/v1/models/m:predict", {"instances": [1, 2]})],
)
def test_rows(app: Callable[..., ASGIApp], lines: Lines, path: str, body: Any) -> None:
    served = app(FILES, log_format="json")
    assert ask(served, "POST", path, json=body).status_code == 200
    (line,) = lines()
    assert (line["path"], line["model"], line["version"], line["outcome"]) == (path, "m", "1", "success")
    assert line.keys() > PARTS


def test_a_batch(app: Callable[..., ASGIApp], lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crowded(_: Any) -> bool:
        return False

    monkeypatch.setattr("inferry.runtime.scheduler.Scheduler._is_alone", crowded)
    body = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}]}
    assert ask(app(FILES, log_format="json"), "POST", "/v2/models/b/infer", json=body).status_code == 200
    (line,) = lines()
    assert (line["rows"], line["batch_rows"]) == (2, 2)


@pytest.mark.parametrize(
    ("method", "path", "status", "outcome"),
    [
        ("GET", "/v2", 200, "success"),
        ("GET", "/nowhere", 404, "invalid"),
        ("PUT", "/v2", 405, "invalid"),
        ("POST", "/v2/models/none/infer", 404, "not_found"),
        ("POST", "/v2/models/m/infer", 400, "invalid"),
        ("GET", "/v2/models/none", 404, "not_found"),
    ],
)
def test_outcomes(app: Callable[..., ASGIApp], lines: Lines, method: str, path: str, status: int, outcome: str) -> None:
    assert ask(app(FILES, log_format="json"), method, path).status_code == status
    (line,) = lines()
    assert (line["status"], line["outcome"]) == (status, outcome)


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2"])
def test_bytes_of_answers(app: Callable[..., ASGIApp], lines: Lines, path: str) -> None:
    """As they were sent, by the data plane and by everything else."""
    served = app(FILES, log_format="json")
    sizes = [len(ask(served, method, path).content) for method in ("GET", "HEAD")]
    assert [line["response_bytes"] for line in lines()] == sizes
    assert sizes[0] > sizes[1] == 0


def test_one_id_for_all_that_a_request_leaves(app: Callable[..., ASGIApp], logged: Lines) -> None:
    """Also when nobody gave one: the answer, its text, the error's line and the request's."""
    answer = infer(app(FILES, log_format="json"), "failing")
    request_id = answer.headers["x-request-id"]
    assert len(bytes.fromhex(request_id)) == 8
    assert answer.json()["error"].endswith(f"(request {request_id})")
    said = [line for line in logged() if line["level"] == "ERROR" or "status" in line]
    assert [line["request_id"] for line in said] == [request_id, request_id]
    line = said[-1]
    assert (line["status"], line["outcome"], line["model"], line["version"]) == (500, "error", "failing", "1")


def test_what_the_host_knows(app: Callable[..., ASGIApp], lines: Lines) -> None:
    served = app(FILES, log_format="json")

    async def hosted(scope: Any, receive: Any, send: Any) -> None:
        host = {"request_id": "host's", "trace_id": "1-abc-def", "cold_start": True}
        await served({**scope, "inferry": host}, receive, send)

    infer(hosted, traceparent=PARENT)
    (line,) = lines()
    assert (line["request_id"], line["trace_id"], line["cold_start"]) == ("host's", "1-abc-def", True)


def test_probes_are_for_debugging(app: Callable[..., ASGIApp], logged: Lines) -> None:
    served = app(FILES, log_format="json")
    for path in ("/health", "/v2/health/live", "/v2/health/ready", "/metrics", "/v2/models"):
        ask(served, "GET", path)
    found = [(line["path"], line["level"]) for line in logged() if "duration_ms" in line]
    assert found == [
        ("/health", "DEBUG"),
        ("/v2/health/live", "DEBUG"),
        ("/v2/health/ready", "DEBUG"),
        ("/metrics", "DEBUG"),
        ("/v2/models", "INFO"),
    ]


def test_probes_of_a_server_that_is_not_ready_are_for_debugging(app: Callable[..., ASGIApp], logged: Lines) -> None:
    served = app(FILES, log_format="json", strict_readiness=True, default_model="nobody")
    assert ask(served, "GET", "/v2/health/ready").status_code == 503
    found = [(line["path"], line["status"], line["level"]) for line in logged() if "duration_ms" in line]
    assert found == [("/v2/health/ready", 503, "DEBUG")]


def test_no_lines_in_text(app: Callable[..., ASGIApp], lines: Lines) -> None:
    answer = infer(app(FILES))
    assert answer.status_code == 200
    assert "x-request-id" not in answer.headers
    assert lines() == []


KEY = "the key of a client"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.mark.parametrize("limit", [0, 10, 10_000])
def test_payloads(app: Callable[..., ASGIApp], lines: Lines, limit: int) -> None:
    served = app(FILES, log_format="json", log_payloads=limit, api_keys=(DIGEST,))
    answer = infer(served, **{"x-api-key": KEY, "authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200
    (line,) = lines()
    if not limit:
        assert "request_payload" not in line
        assert "response_payload" not in line
    else:
        assert line["request_payload"] == TEXT.decode()[:limit]
        assert line["response_payload"] == answer.text[:limit]
    assert KEY not in str(line)
    assert DIGEST not in str(line)


def test_payloads_that_are_compressed_stay_out(app: Callable[..., ASGIApp], lines: Lines) -> None:
    infer(app(FILES, log_format="json", log_payloads=100), **{"accept-encoding": "gzip", "content-encoding": "x"})
    (line,) = lines()
    assert "request_payload" not in line
    body = {"inputs": [{"name": "x", "shape": [1000], "datatype": "FP32", "data": [0] * 1000}]}
    answer = ask(app(FILES, log_format="json", log_payloads=100), "POST", "/v2/models/m/infer", json=body)
    assert answer.headers["content-encoding"] == "gzip"
    assert "response_payload" not in lines()[-1]


def test_a_path_can_not_forge_a_line(app: Callable[..., ASGIApp], lines: Lines) -> None:
    ask(app(FILES, log_format="json"), "GET", "/a%0a" + "b" * 500)
    (line,) = lines()
    assert line["path"] == "/a\n" + "b" * 197  # JSON writes it as \n


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_logs_json_only(repository: Callable[..., str], workers: str) -> None:
    folder = repository(FILES | {"broken.onnx": b"no model"})
    with serving(folder, "--workers", workers, LOG_FORMAT="json", APP_NAME="mine", DEBUG="true") as server:
        body = TEXT
        assert server.ask("POST", "/v2/models/m/infer", body, {"X-Request-Id": "42"}).status == 200
        assert server.ask("POST", "/v2/models/failing/infer", body, {"X-Request-Id": "43"}).status == 500
    logged = [json.loads(line) for line in server.final_log.splitlines()]
    assert {line["service"] for line in logged} == {"mine"}
    assert all(line["level"] and line["location"] and line["timestamp"] for line in logged)
    # Lines of different workers are written within a moment, in no order.
    requests = sorted(
        (line for line in logged if line.get("path", "").endswith("/infer")), key=lambda line: line["request_id"]
    )
    assert [(line["request_id"], line["status"], line["model"]) for line in requests] == [
        ("42", 200, "m"),
        ("43", 500, "failing"),
    ]
    assert re.fullmatch(r"POST /v2/models/m/infer 200 in [\d.]+ ms", requests[0]["message"])
    assert any("broken" in line["message"] for line in logged)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_writes_lines_soon_and_at_its_end(repository: Callable[..., str], workers: str) -> None:
    """Lines wait for each other, but the last of them for nothing."""
    with serving(repository(FILES), "--workers", workers, LOG_FORMAT="json") as server:
        assert server.ask("POST", "/v2/models/m/infer", TEXT, {"X-Request-Id": "soon"}).status == 200
        deadline = time.monotonic() + 10
        while '"soon"' not in server.log and time.monotonic() < deadline:
            time.sleep(0.02)
        before = server.log
        for _ in range(5):
            assert server.ask("POST", "/v2/models/m/infer", TEXT, {"X-Request-Id": "last"}).status == 200
    assert (before.count('"soon"'), server.final_log.count('"last"')) == (1, 5)


def test_nothing_waits_behind_the_last_request(capfd: pytest.CaptureFixture[str]) -> None:
    """uvicorn's workers are ended by their signal: nothing is written behind their lifespan."""
    logs.configure(Settings(log_format="json"))
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(_: Any) -> None:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asgi.not_http(scope["type"], receive, send)

    async def ended() -> list[str]:
        logs.together(lambda _: None)
        writer = logs.writer()
        assert writer
        writer.add(Request("GET", "/v2", "42", "", 0))
        waiting = capfd.readouterr().err
        await _with_lifespan(app, (), None)({"type": "lifespan"}, receive, send)
        return [waiting, *(json.loads(line)["request_id"] for line in capfd.readouterr().err.splitlines())]

    assert asyncio.run(ended()) == ["", "42"]
