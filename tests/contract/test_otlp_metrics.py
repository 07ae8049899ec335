"""Metrics as an OpenTelemetry collector gets them."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import onnx_models
import pytest
from inferry.observability import catalogue
from inferry.observability.registry import Gauge, Metrics
from inferry.observability.sinks.otlp import OTLP
from inferry.observability.sinks.pusher import Pusher
from inferry.observability.stats import Timings
from inferry.settings import Settings
from otlp import Receiver, attributes, receiving
from servers import environment, serving, tensor

MS = 1_000_000
MODEL = {"model": "m", "version": "1"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        yield receiver


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    stats = metrics.model("m", "1")
    for ns in (3 * MS, 3 * MS, 40_000 * MS):
        stats.in_flight += 1
        stats.succeeded(Timings(infer=ns), 1, time.perf_counter_ns(), 100, 50)
    stats.traced(3 * MS, TRACE, SPAN)
    metrics.watch(lambda: [Gauge(catalogue.QUEUED, ("m", "1"), 2)])
    return metrics


def pushing(metrics: Metrics) -> Pusher:
    return Pusher(metrics, {"otlp": OTLP(Settings(app_name="mine", metrics_timeout=1), {})}, interval=15, timeout=1)


def last(collector: Receiver) -> dict[str, Any]:
    (scope,) = collector.metrics[-1].scope_metrics
    assert scope.scope.name == "inferry"
    return {metric.name: metric for metric in scope.metrics}


def test_what_a_collector_gets(metrics: Metrics, collector: Receiver) -> None:
    before = time.time_ns()
    expected = {family.metric.name for family in metrics.collect()}
    pusher = pushing(metrics)
    pusher.push()
    found = last(collector)
    assert found.keys() == expected
    requests = found["inferry_requests_total"]
    (point,) = requests.sum.data_points
    assert (requests.unit, requests.sum.is_monotonic, requests.sum.aggregation_temporality) == ("{requests}", True, 2)
    assert (attributes(point), point.as_int) == (MODEL, 3)
    assert before - 60e9 < point.start_time_unix_nano < before < point.time_unix_nano < time.time_ns()
    duration = found["inferry_request_duration_seconds"]
    (point,) = duration.histogram.data_points
    counts = dict(zip((*point.explicit_bounds, float("inf")), point.bucket_counts, strict=True))
    assert (duration.unit, point.count, point.sum) == ("s", 3, pytest.approx(40.006))
    assert {bound: count for bound, count in counts.items() if count} == {0.005: 2, float("inf"): 1}
    assert tuple(point.explicit_bounds) == catalogue.SECONDS
    (exemplar,) = point.exemplars
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex(), exemplar.as_double) == (TRACE, SPAN, 0.003)
    (point,) = found["inferry_requests_queued"].gauge.data_points
    assert (attributes(point), point.as_int) == (MODEL, 2)
    pusher.close()


def test_a_push_that_is_lost_loses_nothing(
    metrics: Metrics, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and by nobody else."""
    pusher = pushing(metrics)
    collector.fate = lambda: 401
    with caplog.at_level(logging.INFO):
        pusher.push()
        pusher.push()
        collector.fate = lambda: 200
        pusher.push()
    pusher.close()
    (failed, again) = [record.getMessage() for record in caplog.records]
    assert failed.startswith("metrics don't reach otlp: Failed to export metrics batch code: 401")
    assert again == "metrics reach otlp again"
    found = last(collector)
    assert found["inferry_requests_total"].sum.data_points[0].as_int == 3
    assert found["inferry_metric_flush_failures_total"].sum.data_points[0].as_int == 2


def test_a_child_is_another_instance(metrics: Metrics, collector: Receiver) -> None:
    pusher = pushing(metrics)
    pusher.push()
    pusher.renew()
    pusher.push()
    pusher.close()
    first, second = (attributes(sent.resource) for sent in collector.metrics[:2])
    assert first["service.instance.id"] != second.pop("service.instance.id")
    assert {name: first[name] for name in second} == second
    assert (second["service.name"], second["deployment.environment.name"]) == ("mine", "dev")


def test_a_server_pushes_until_its_end(repository: Callable[..., str], collector: Receiver) -> None:
    env = {"METRICS_SINKS": "otlp", "METRICS_INTERVAL": "60", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    with serving(repository({"quick.onnx": onnx_models.identity()}), **env) as server:
        for _ in range(5):
            assert server.infer("quick", tensor("x", "FP32", [1, 3], [1, 2, 3])).status == 200
    (point,) = last(collector)["inferry_requests_total"].sum.data_points
    assert (attributes(point), point.as_int) == ({"model": "quick", "version": "1"}, 5)


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from inferry.cli import main as cli
sys.exit(cli.main(["serve", sys.argv[1], "--port", "0"]))
"""


def test_the_extra_is_named_where_it_is_missing(repository: Callable[..., str]) -> None:
    command = [sys.executable, "-c", WITHOUT, repository({"quick.onnx": onnx_models.identity()})]
    env = environment({"METRICS_SINKS": "otlp"})
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        "inferry: the sink otlp needs OpenTelemetry: install the extra 'otel': "
    )
