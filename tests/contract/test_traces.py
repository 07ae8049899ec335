"""Traces as a collector gets them, and that none are made where nobody asked."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from inferry.observability.traces import Tracer
from inferry.settings import Settings
from otlp import Receiver, attributes, failed, receiving
from servers import Server, environment, serving

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
FILES = {
    "m.onnx": onnx_models.identity("FP32", ("n",)),
    "late.onnx": onnx_models.identity("FP32", ("n",)),
    "failing.onnx": onnx_models.failing(),
    "b/1/model.onnx": onnx_models.slow(),
    "b/config.json": b'{"max_batch_size": 0}',
    "kept/1/model.onnx": onnx_models.identity("FP32", ("n",)),
    "kept/config.json": b'{"response_cache": {"enable": true}}',
}
BODY = json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}).encode()


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def traced(repository: Callable[..., str], collector: Receiver) -> Iterator[Server]:
    folder = repository(FILES)
    options = {
        "TRACES": "true",
        "LOG_FORMAT": "json",
        "MODEL_CACHE_SIZE": "1",
        "DEFAULT_MODEL": "m",
        "APP_NAME": "mine",
        "ENVIRONMENT": "test",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with serving(folder, **options) as server:
        yield server


def ids(span: Any) -> tuple[str, str]:
    return span.trace_id.hex(), span.parent_span_id.hex()


def test_a_prediction(traced: Server, collector: Receiver) -> None:
    path = "/v2/models/m/infer"
    answer = traced.ask("POST", path, BODY, {"traceparent": TRACEPARENT, "X-Request-Id": "42"})
    assert answer.status == 200
    request, infer = collector.wait(2)
    assert answer.headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert (request.name, request.kind, ids(request)) == ("POST /v2/models/{model}/infer", 2, (TRACE, PARENT))
    assert attributes(request) == {
        "http.request.method": "POST",
        "url.path": path,
        "url.scheme": "http",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "inferry.request_id": "42",
        "inferry.model": "m",
        "inferry.version": "1",
    }
    assert (infer.name, ids(infer)) == ("infer", (TRACE, request.span_id.hex()))
    assert attributes(infer).keys() == {"inferry.rows", "inferry.queue_ms"}
    assert attributes(infer)["inferry.rows"] == 2
    assert request.start_time_unix_nano < infer.start_time_unix_nano
    assert infer.start_time_unix_nano < infer.end_time_unix_nano < request.end_time_unix_nano
    assert set(collector.paths) == {"/v1/traces"}
    resource = collector.resources[0]
    wanted = {"service.name": "mine", "deployment.environment.name": "test"}
    assert {name: resource[name] for name in wanted} == wanted


def test_a_response_that_was_kept(traced: Server, collector: Receiver) -> None:
    for _ in range(2):
        assert traced.ask("POST", "/v2/models/kept/infer", BODY).status == 200
    spans = collector.wait(4)
    ran, kept = (attributes(span) for span in spans if span.parent_span_id == b"")
    assert [span.name for span in spans if span.parent_span_id] == ["load", "infer"]
    assert [ran["inferry.cached"], kept["inferry.cached"]] == [False, True]
    assert min(ran["inferry.cache_ms"], kept["inferry.cache_ms"]) > 0


def test_a_load(traced: Server, collector: Receiver) -> None:
    assert traced.ask("POST", "/v2/models/late/infer", BODY).status == 200
    request, load, infer = collector.wait(3)
    assert [span.name for span in (load, infer)] == ["load", "infer"]
    assert {ids(span) for span in (load, infer)} == {(request.trace_id.hex(), request.span_id.hex())}
    assert request.parent_span_id == b""
    assert load.end_time_unix_nano <= infer.start_time_unix_nano


def test_a_failure(traced: Server, collector: Receiver) -> None:
    assert traced.ask("POST", "/v2/models/failing/infer", BODY).status == 500
    request = collector.wait(2)[0]
    assert (failed(request), attributes(request)["error.type"]) == (True, "error")
    assert traced.ask("GET", "/v2/models/none").status == 404
    request = collector.wait(3)[-1]
    assert (request.name, failed(request), attributes(request)["error.type"]) == (
        "GET /v2/models/{model}",
        False,
        "not_found",
    )


def test_a_client_that_is_not_sampled(traced: Server, collector: Receiver) -> None:
    answer = traced.ask("POST", "/v2/models/m/infer", BODY, {"traceparent": TRACEPARENT[:-1] + "0"})
    assert answer.headers["traceparent"].endswith("-00")
    assert traced.ask("GET", "/v2").status == 200
    assert [span.name for span in collector.wait(1)] == ["GET /v2"]


def test_what_has_no_route_has_a_name_all_the_same(traced: Server, collector: Receiver) -> None:
    """Paths and methods are the client's words: a name of them would be one more each time."""
    assert traced.ask("GET", "/wp-admin/setup.php").status == 404
    assert traced.ask("PROPFIND", "/v2").status == 405
    first, second = collector.wait(2)
    assert (first.name, second.name) == ("GET", "HTTP")
    asked = {"url.scheme": "http", "inferry.request_id": attributes(second)["inferry.request_id"]}
    assert attributes(second) == asked | {
        "http.request.method": "_OTHER",
        "http.request.method_original": "PROPFIND",
        "url.path": "/v2",
        "http.response.status_code": 405,
        "error.type": "error",
    }


@pytest.mark.parametrize("base", ["", "/ml"])
def test_probes_and_scrapes_make_no_spans(repository: Callable[..., str], collector: Receiver, base: str) -> None:
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "BASE_PATH": base}
    with serving(repository(FILES), TRACES="true", **options) as server:
        for path in ("/health", "/v2/health/live", "/v2/health/ready", "/metrics", "/v2/health/live/"):
            answer = server.ask("GET", base + path, headers={"traceparent": TRACEPARENT})
            assert (answer.status, "traceparent" in answer.headers) == (200, False)
        assert server.ask("GET", f"{base}/v2").status == 200
    assert [span.name for span in collector.wait(1)] == ["GET /v2"]


def test_a_request_that_timed_out_shows_where_it_waited(repository: Callable[..., str], collector: Receiver) -> None:
    """All threads are busy: its time is over in the queue. What is stopped in its run was there."""
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "MODEL_TIMEOUT": "2"}
    row = {"name": "turns", "shape": [1], "datatype": "INT64", "data": [10**9]}
    with serving(repository(FILES), TRACES="true", **options) as server, ThreadPoolExecutor(16) as pool:
        running = [pool.submit(server.infer, "b", row) for _ in range(8)]
        assert {run.result().status for run in running} == {504}
    spans = collector.spans
    requests = {span.span_id: span for span in spans if span.name.startswith("POST")}
    parts = [span for span in spans if span.parent_span_id in requests]
    assert {span.name for span in parts} == {"queue", "infer"}
    longest = {
        name: max(span.end_time_unix_nano - span.start_time_unix_nano for span in parts if span.name == name) / 1e9
        for name in ("queue", "infer")
    }
    assert longest == pytest.approx({"queue": 2, "infer": 2}, abs=0.7)
    for key, request in requests.items():
        took = request.end_time_unix_nano - request.start_time_unix_nano
        shown = sum(s.end_time_unix_nano - s.start_time_unix_nano for s in parts if s.parent_span_id == key)
        assert shown > 0.8 * took


def test_scrapes_show_sampled_traces(traced: Server, collector: Receiver) -> None:
    sampled = traced.ask("POST", "/v2/models/m/infer", BODY, {"traceparent": TRACEPARENT})
    assert sampled.status == 200
    found = traced.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text"}).body.decode()
    (exemplar,) = re.findall(r'# {trace_id="(\w+)",span_id="\w{16}"}', found)
    assert exemplar == TRACE
    assert traced.ask("POST", "/v2/models/failing/infer", BODY).status == 500
    assert traced.ask("POST", "/v2/models/late/infer", BODY, {"traceparent": TRACEPARENT[:-1] + "0"}).status == 200
    again = traced.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text"}).body.decode()
    assert re.findall(r'# {trace_id="(\w+)",span_id="\w{16}"}', again) == [TRACE]


def test_logs_name_the_trace(traced: Server, collector: Receiver) -> None:
    answer = traced.ask("POST", "/v2/models/m/infer", BODY)
    traced.terminate()
    traced.wait()
    lines = [json.loads(line) for line in traced.log.splitlines()]
    (line,) = [line for line in lines if line.get("model") == "m" and "status" in line]
    assert answer.headers["traceparent"].split("-")[1] == line["trace_id"]
    # What was not yet sent is sent at the end.
    assert line["trace_id"] in {span.trace_id.hex() for span in collector.wait(2)}


def heavy(width: int = 512, products: int = 200) -> bytes:
    """Takes some milliseconds, so that others arrive meanwhile; FP32 `y` [n, width] is `x` times the identity."""
    nodes = [
        onnx_models.helper.make_node("MatMul", [f"y{n}" if n else "x", "weights"], [f"y{n + 1}"])
        for n in range(products)
    ]
    nodes.append(onnx_models.helper.make_node("Identity", [f"y{products}"], ["y"]))
    weights = onnx_models.helper.make_tensor("weights", 1, [width, width], np.eye(width, dtype=np.float32).ravel())
    ends = [onnx_models.tensor(name, "FP32", ("n", width)) for name in ("x", "y")]
    return onnx_models.model(nodes, ends[:1], ends[1:], [weights])


def test_a_batch(repository: Callable[..., str], collector: Receiver) -> None:
    files = {
        "b/1/model.onnx": heavy(),
        "b/config.json": b'{"max_batch_size": 8, "dynamic_batching": {"max_queue_delay_us": 20000}}',
    }
    row = {"name": "x", "shape": [1, 512], "datatype": "FP32", "parameters": {"binary_data_size": 2048}}
    text = json.dumps({"inputs": [row], "parameters": {"binary_data_output": True}}).encode()
    body, headers = text + bytes(2048), {"Inference-Header-Content-Length": str(len(text))}
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving(repository(files), TRACES="true", **options) as server, ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda _: server.ask("POST", "/v2/models/b/infer", body, headers), range(64))
        assert {answer.status for answer in answers} == {200}
    spans = {span.span_id: span for span in collector.spans}
    batches = [span for span in spans.values() if span.name == "batch"]
    assert max(attributes(span)["inferry.batch_rows"] for span in batches) > 1
    for batch in batches:
        assert spans[batch.parent_span_id].name == "POST /v2/models/{model}/infer"
    inside = [span for span in spans.values() if span.name == "infer" and spans[span.parent_span_id].name == "batch"]
    assert len(inside) == len(batches)


@pytest.mark.parametrize("file", ["rows.jsonl", "rows.parquet"])
def test_a_file_of_a_batch_job(repository: Callable[..., str], collector: Receiver, tmp_path: Path, file: str) -> None:
    rows = tmp_path / file
    rows.write_text('{"features": [1, 2, 3]}\n' * 7 + '"no"\n')
    env = {
        "MODEL_PATH": repository({"m.onnx": onnx_models.scaled(2, 3)}),
        "TRACES": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "TRACEPARENT": TRACEPARENT,
    }
    command = ["batch", str(rows), f"{tmp_path}/out/", "--model", "m"]
    ended = subprocess.run([sys.executable, "-m", "inferry", *command], env=environment(env), timeout=60, check=False)
    (span,) = collector.wait(1)
    asked = {"inferry.input": str(rows), "inferry.model": "m", "inferry.version": "1"}
    told = {"inferry.outcome": "finished", "inferry.rows": 7, "inferry.row_errors": 1}
    fails = file == "rows.parquet"
    assert (ended.returncode != 0 or not fails, span.name, failed(span)) == (True, "job", fails)
    assert ids(span) == (TRACE, PARENT)
    assert attributes(span) == asked | ({"error.type": "invalid"} if fails else told)


def test_a_job_belongs_to_its_message(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    tracer = Tracer(Settings(traces=True))
    with tracer.message("17", TRACEPARENT), tracer.job("in.csv", "m", "1"):
        pass
    tracer.flush()
    message, job = collector.wait(2)
    assert (message.name, ids(message)) == ("message", (TRACE, PARENT))
    assert (job.name, ids(job)) == ("job", (TRACE, message.span_id.hex()))


def test_a_collector_that_is_away_disturbs_nobody(repository: Callable[..., str]) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with serving(repository(FILES), TRACES="true", OTEL_EXPORTER_OTLP_TIMEOUT="1", **endpoint) as server:
        assert [server.ask("POST", "/v2/models/m/infer", BODY).status for _ in range(20)] == [200] * 20


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from inferry.cli import main as cli
sys.exit(cli.main(["serve", sys.argv[1], "--port", "0"]))
"""


def test_the_extra_is_named_where_it_is_missing(repository: Callable[..., str]) -> None:
    command = [sys.executable, "-c", WITHOUT, repository(FILES)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment({"TRACES": "true"})
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("inferry: TRACES needs OpenTelemetry: install the extra 'otel': ")
