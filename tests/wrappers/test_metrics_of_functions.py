"""Metrics of the Lambda function: lines before an answer, pushes after it, and a snapshot's restore."""

import json
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lambda_events as events
import pytest
from contract.gate import gate
from contract.otlp import receiving
from contract.timeseries import prometheus
from inferry.observability.sinks.pusher import Pusher, open_pusher
from inferry.observability.traces import tracer
from wrappers.conftest import Function

from functions.metrics import traceparent

Make = Callable[..., Function]
EVENT = next(name for name in events.HTTP if name.startswith("http"))


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith('{"_aws"')]


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def test_a_line_per_invocation(function: Make, capsys: pytest.CaptureFixture[str]) -> None:
    served = function(METRICS_SINKS="emf", EMF_DETAIL="all", APP_NAME="app")
    capsys.readouterr()
    for number in range(3):
        assert served(events.load(EVENT))["statusCode"] == 200
        (line,) = lines(capsys.readouterr().out)
        assert (line["service"], line["model"], line["inferry_requests_total"]) == ("app", "digits", [1.0])
        assert line.get("inferry_cold_starts_total") == ([1.0] if number == 0 else None)
        # Since this process started, which may be long ago here.
        assert number > 0 or 0 < line["inferry_init_seconds_total"][0] < uptime()


def test_without_a_sink_that_pushes_nothing_is_around_the_handler(function: Make) -> None:
    module = function().module
    assert module.handler is module.gateway


class Runtime:
    """Lambda's side of the extension's API."""

    def __init__(self) -> None:
        self.address = ""
        self.happened: list[str] = []
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.asked: queue.Queue[None] = queue.Queue()

    def invoke(self, call: Callable[[], Any]) -> Any:
        """An invocation: the event for the extension, the handler, and the moment when both are done."""
        self.events.put({"eventType": "INVOKE", "deadlineMs": int((time.time() + 30) * 1000)})
        before = list(self.happened)
        time.sleep(0.1)
        assert self.happened == before, "nothing is pushed before the handler is done"
        answer = call()
        self.happened.append("answered")
        self.asked.get(timeout=10)
        return answer


@contextmanager
def runtime() -> Iterator[Runtime]:
    made = Runtime()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/2020-01-01/extension/register"
            assert (self.headers["Lambda-Extension-Name"], body) == ("inferry-metrics", {"events": ["INVOKE"]})
            made.happened.append("registered")
            self.answer({"functionName": "inferry"}, {"Lambda-Extension-Identifier": "id-1"})

        def do_GET(self) -> None:
            assert self.path == "/2020-01-01/extension/event/next"
            assert self.headers["Lambda-Extension-Identifier"] == "id-1"
            made.happened.append("next")
            made.asked.put(None)
            event = made.events.get(timeout=30)
            if event is not None:
                self.answer(event, {})
            self.close_connection = event is None

        def answer(self, value: Any, headers: dict[str, str]) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            for name, text in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    made.address = f"127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        made.events.put(None)
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a function leaves to the end of its process: the answer to SIGTERM, and connections."""
    before = signal.getsignal(signal.SIGTERM)
    pushers: list[Pusher] = []

    def opened(*arguments: Any) -> Pusher | None:
        pusher = open_pusher(*arguments)
        pushers.extend([pusher] if pusher else [])
        return pusher

    monkeypatch.setattr("functions.metrics.open_pusher", opened)
    yield
    signal.signal(signal.SIGTERM, before)
    for pusher in pushers:
        pusher.close()


@pytest.mark.usefixtures("_process")
def test_pushes_come_after_the_answer_and_before_the_freeze(function: Make) -> None:
    with runtime() as lam, gate() as store:

        def fate() -> int:
            lam.happened.append("pushed")
            return 204

        store.fate = fate
        env = {"METRICS_SINKS": "remote_write", "REMOTE_WRITE_URL": store.url, "METRICS_INTERVAL": "0.01"}
        served = function(**env, AWS_LAMBDA_RUNTIME_API=lam.address)
        lam.asked.get(timeout=10)
        for _ in range(2):
            assert lam.invoke(lambda: served(events.load(EVENT)))["statusCode"] == 200
    turn = ["answered", "pushed", "next"]
    happened = lam.happened
    assert happened[:2] == ["registered", "next"]
    # The handler's end lets the push go: which of the two is written down first is chance.
    assert [sorted(happened[2:4]), happened[4], sorted(happened[5:7]), happened[7]] == [turn[:2], "next"] * 2


@pytest.mark.usefixtures("_process")
def test_spans_are_sent_before_the_freeze(function: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """By nothing else: the thread of OpenTelemetry that sends them would do it in an hour."""
    with runtime() as lam, receiving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        served = function(TRACES="true", AWS_LAMBDA_RUNTIME_API=lam.address)
        lam.asked.get(timeout=10)
        for count in (1, 2):
            assert lam.invoke(lambda: served(events.load(EVENT)))["statusCode"] == 200
            assert [span.name for span in collector.spans].count("infer") == count


@pytest.mark.usefixtures("_process")
def test_a_burst_is_pushed_once_and_the_rest_at_the_end(function: Make, tmp_path: Path) -> None:
    """Of an interval, that is, and Lambda's end is a SIGTERM."""
    with runtime() as lam, prometheus(tmp_path) as store, gate(store.write_url) as between:
        env = {"METRICS_SINKS": "remote_write", "REMOTE_WRITE_URL": between.url, "METRICS_INTERVAL": "600"}
        served = function(**env, AWS_LAMBDA_RUNTIME_API=lam.address)
        lam.asked.get(timeout=10)
        for _ in range(4):
            assert lam.invoke(lambda: served(events.load(EVENT)))["statusCode"] == 200
        total = "sum(max_over_time(inferry_requests_total[5m]))"
        assert (len(between.requests), store.numbers(total)) == (1, {(): 1})
        end: Any = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit):
            end(signal.SIGTERM, None)
        assert store.numbers(total) == {(): 4}


X_RAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled="
CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.usefixtures("_process")
@pytest.mark.parametrize("sampled", [True, False])
def test_x_ray_is_the_parent_where_it_samples(
    function: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], sampled: bool
) -> None:
    """Else it is who called, and the log names the trace that is exported."""
    with runtime() as lam, receiving() as collector:
        tracer.cache_clear()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        served = function(TRACES="true", LOG_FORMAT="json", AWS_LAMBDA_RUNTIME_API=lam.address)
        lam.asked.get(timeout=10)
        monkeypatch.setenv("_X_AMZN_TRACE_ID", f"{X_RAY}{int(sampled)};Lineage=1:0:0")
        event = events.load(EVENT)
        event["headers"] = {**event["headers"], "traceparent": CLIENT}
        assert lam.invoke(lambda: served(event))["statusCode"] == 200
        request = next(span for span in collector.spans if span.name.startswith("POST"))
    trace, parent = ("5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8") if sampled else CLIENT.split("-")[1:3]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (trace, parent)
    (line,) = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"outcome"' in line]
    assert line["trace_id"] == trace


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"{X_RAY}1", "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"),
        (f"{X_RAY}0", ""),
        ("Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=1:0:0", ""),
        ("Root=2-5759e988-x", ""),
        ("", ""),
    ],
)
def test_traceparent_of_x_ray(header: str, expected: str) -> None:
    assert traceparent(header) == expected


@pytest.mark.usefixtures("_process")
def test_a_store_that_hangs_ends_with_its_time(function: Make) -> None:
    with runtime() as lam, gate() as store:
        store.fate = lambda: "hang"
        served = function(
            METRICS_SINKS="remote_write",
            REMOTE_WRITE_URL=store.url,
            METRICS_TIMEOUT="2",
            AWS_LAMBDA_RUNTIME_API=lam.address,
        )
        lam.asked.get(timeout=10)
        start = time.monotonic()
        answer = served(events.load(EVENT))
        assert (answer["statusCode"], time.monotonic() - start < 1.5) == (200, True)
        lam.invoke(lambda: None)
        assert 2 <= time.monotonic() - start < 10


def test_an_environment_from_a_snapshot_starts_anew(
    function: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[Any] = []
    monkeypatch.setattr("functions.metrics.register_after_restore", lambda *hook: hooks.append(hook))
    served = function(METRICS_SINKS="emf", EMF_DETAIL="all")
    served(events.load(EVENT))
    capsys.readouterr()
    ((restored, *arguments),) = hooks
    restored(*arguments)
    served(events.load(EVENT))
    (line,) = lines(capsys.readouterr().out)
    assert (line["inferry_requests_total"], line["inferry_cold_starts_total"]) == ([1.0], [1.0])
    assert "inferry_model_loads_total.success" not in line
