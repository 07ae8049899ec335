"""The catalogue, and what is counted under its names."""

import asyncio
import re
import time
from typing import Any

import prometheus_client
import pytest
from inferry import errors
from inferry.observability import catalogue, process_metrics
from inferry.observability.catalogue import CATALOGUE, COUNTER, GAUGE, HISTOGRAM, TRITON, Metric
from inferry.observability.registry import Family, Gauge, Metrics, samples
from inferry.observability.sinks import prometheus
from inferry.observability.stats import Histogram, ModelStats, Timings
from prometheus_client import parser
from prometheus_client.openmetrics import parser as open_parser

MS = 1_000_000
MOMENTS = ("inferry_last_request_timestamp_seconds", "inferry_model_last_load_timestamp_seconds")


def values(metrics: Metrics) -> dict[str, dict[tuple[str, ...], Any]]:
    """All that is not zero, by name; histograms as their counts and sum."""
    found = {family.metric.name: dict(family.series) for family in metrics.collect()}
    del found["inferry_build_info"]
    for name in MOMENTS:
        moments: Any = found.pop(name, {})
        assert all(time.time() - 60 < moment <= time.time() for moment in moments.values())
    kept = {
        name: {labels: value for labels, value in series.items() if is_any(value)} for name, series in found.items()
    }
    return {name: series for name, series in kept.items() if series}


def is_any(value: float | Histogram) -> bool:
    return bool(value.counts[-1] if isinstance(value, Histogram) else value)


def test_names_are_declared_once_and_as_prometheus_wants_them() -> None:
    names = [metric.name for metric in (*CATALOGUE, *TRITON)]
    assert len(set(names)) == len(names)
    for metric in CATALOGUE:
        assert re.fullmatch(r"inferry_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == COUNTER), metric.name
        assert (metric.unit == "seconds") == bool(re.search(r"_seconds(_total)?$", metric.name)), metric.name
        assert (metric.unit == "bytes") == bool(re.search(r"_bytes(_total)?$", metric.name)), metric.name
        assert bool(metric.buckets) == (metric.kind == HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.kind in (COUNTER, GAUGE, HISTOGRAM)


def test_labels_are_bounded() -> None:
    """What identifies a request is no label: the values of these come from the repository or from a table."""
    assert {label for metric in CATALOGUE for label in metric.labels} == {
        "model",
        "version",
        "form",
        "reason",
        "phase",
        "outcome",
        "sink",
        "method",
        "route",
        "status",
    }


def answered(stats: ModelStats, *phases: int, rows: int = 1, received: int = 0, sent: int = 0) -> None:
    stats.in_flight += 1
    decode, queue, infer, encode = phases
    stats.succeeded(Timings(decode, queue, infer, encode), rows, time.perf_counter_ns(), received, sent)


def failed(stats: ModelStats, exc: BaseException, ns: int) -> None:
    stats.in_flight += 1
    stats.failed(exc, ns)


def test_what_a_model_did() -> None:
    """A request that was refused is in our counters, and not in Triton's."""
    metrics = Metrics()
    stats = metrics.model("m", "2")
    assert metrics.model("m", "2") is stats
    answered(stats, 1 * MS, 2 * MS, 3 * MS, 4 * MS, rows=3, received=100, sent=50)
    answered(stats, 0, 0, MS // 2, 0, received=7, sent=8)
    failed(stats, errors.QueueFull(), 5 * MS)
    stats.in_flight += 1
    model = ("m", "2")
    buckets = dict.fromkeys(catalogue.SECONDS, 0)
    assert values(metrics) == {
        "inferry_requests_total": {model: 3},
        "inferry_request_failures_total": {(*model, "rejected"): 1},
        "inferry_request_duration_seconds": {
            # 0.5 ms and 10 ms are each at most their bucket's bound.
            model: Histogram(tuple((bound >= 0.0005) + (bound >= 0.01) for bound in (*buckets, float("inf"))), 0.0105)
        },
        "inferry_request_phase_seconds_total": {
            (*model, "decode"): 0.001,
            (*model, "queue"): 0.002,
            (*model, "infer"): 0.0035,
            (*model, "encode"): 0.004,
        },
        "inferry_request_failure_seconds_total": {model: 0.005},
        "inferry_rows_total": {model: 4},
        "inferry_batch_size": {model: Histogram((1, 1, *[2] * 10), 4)},
        "inferry_request_bytes_total": {model: 107},
        "inferry_response_bytes_total": {model: 58},
        "inferry_requests_in_flight": {model: 1},
    }
    assert {family.metric.name: dict(family.series) for family in metrics.triton()} == {
        "nv_inference_request_success": {model: 2},
        "nv_inference_request_failure": {
            (*model, "REJECTED"): 0,
            (*model, "CANCELED"): 0,
            (*model, "BACKEND"): 0,
            (*model, "OTHER"): 0,
        },
        "nv_inference_count": {model: 4},
        "nv_inference_exec_count": {model: 2},
        "nv_inference_request_duration_us": {model: 10500},
        "nv_inference_queue_duration_us": {model: 2000},
        "nv_inference_compute_input_duration_us": {model: 1000},
        "nv_inference_compute_infer_duration_us": {model: 3500},
        "nv_inference_compute_output_duration_us": {model: 4000},
    }
    statistics = stats.as_dict()
    assert statistics.pop("last_inference") == pytest.approx(time.time() * 1000, abs=60_000)
    assert statistics == {
        "inference_count": 4,
        "execution_count": 2,
        "inference_stats": {
            "success": {"count": 2, "ns": 10_500_000},
            "queue": {"count": 2, "ns": 2_000_000},
            "compute_input": {"count": 2, "ns": 1_000_000},
            "compute_infer": {"count": 2, "ns": 3_500_000},
            "compute_output": {"count": 2, "ns": 4_000_000},
            "fail": {"count": 0, "ns": 0},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": 1, "ns": decode},
                "compute_infer": {"count": 1, "ns": infer},
                "compute_output": {"count": 1, "ns": encode},
            }
            for size, decode, infer, encode in ((1, 0, MS // 2, 0), (3, 1 * MS, 3 * MS, 4 * MS))
        ],
    }


def test_runs_of_batches_and_of_single_requests() -> None:
    """A request that was in a batch is no run of its own: whoever ran the batch counts it."""
    stats = ModelStats()
    stats.in_flight += 3
    for rows, batch in ((2, 5), (3, 5), (7, 0)):
        stats.succeeded(Timings(decode=rows, infer=MS, encode=10 * rows, batch=batch), rows, 1)
    stats.executed(5, MS)
    counted = stats.as_dict()
    assert (counted["inference_count"], counted["execution_count"]) == (12, 2)
    assert counted["batch_stats"] == [runs_of(5, 1, (5, MS, 50)), runs_of(7, 1, (7, MS, 70))]


def runs_of(size: int, count: int, ns: tuple[int, int, int]) -> dict[str, Any]:
    parts = zip(("compute_input", "compute_infer", "compute_output"), ns, strict=True)
    return {"batch_size": size, **{name: {"count": count, "ns": took} for name, took in parts}}


def test_inferences_of_a_model_without_batches() -> None:
    """As in Triton, a request to a model with max_batch_size 0 is one inference; our rows are still rows."""
    metrics = Metrics()
    stats = metrics.model("m", "1")
    stats.serves(batched=False)
    answered(stats, 1, 2, 3, 4, rows=3)
    answered(stats, 10, 20, 30, 40, rows=5)
    stats.executed(7, 100)
    counted = stats.as_dict()
    assert (counted["inference_count"], counted["execution_count"]) == (2, 3)
    assert counted["batch_stats"] == [runs_of(1, 3, (11, 133, 44))]
    assert {f.metric.name: dict(f.series) for f in metrics.triton()}["nv_inference_count"] == {("m", "1"): 2}
    found = values(metrics)
    assert found["inferry_rows_total"] == {("m", "1"): 8}
    assert found["inferry_batch_size"] == {("m", "1"): Histogram((0, 0, 1, *[3] * 9), 15)}


def test_a_config_that_changes_counts_from_then_on() -> None:
    stats = ModelStats(batched=False)
    answered(stats, 1, 2, 3, 4, rows=3)
    stats.serves(batched=True)
    answered(stats, 1, 2, 3, 4, rows=3)
    assert stats.as_dict()["inference_count"] == 1 + 3


@pytest.mark.parametrize(
    ("exc", "reason"),
    [
        (errors.InvalidRequest(), None),
        (errors.NotSupported(), None),
        (errors.DataRefused(), None),
        (errors.QueueFull(), None),
        (errors.InferenceTimeout(), "REJECTED"),
        (errors.InferenceFailed(), "BACKEND"),
        (errors.InvalidArgument(), "BACKEND"),
        (asyncio.CancelledError(), "CANCELED"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_in_tritons_counters(exc: BaseException, reason: str | None) -> None:
    metrics = Metrics()
    stats = metrics.model("m", "1")
    failed(stats, exc, 5)
    failures = {f.metric.name: dict(f.series) for f in metrics.triton()}["nv_inference_request_failure"]
    assert failures == {("m", "1", name): int(name == reason) for name in catalogue.NV_REASONS}
    once = int(reason is not None)
    assert stats.as_dict()["inference_stats"]["fail"] == {"count": once, "ns": 5 * once}
    assert sum(values(metrics)["inferry_request_failures_total"].values()) == 1


REASONS: list[tuple[BaseException, str, str]] = [
    (errors.InvalidRequest(), "invalid", "invalid"),
    (errors.RequestTooLarge(), "invalid", "invalid"),
    (errors.InvalidArgument(), "invalid_argument", "error"),
    (errors.NotSupported(), "invalid", "invalid"),
    (errors.DataRefused(), "denied", "denied"),
    (errors.QueueFull(), "rejected", "rejected"),
    (errors.Overloaded(), "rejected", "rejected"),
    (errors.InferenceTimeout(), "timeout", "timeout"),
    (errors.InferenceFailed(), "error", "error"),
    (errors.ModelNotFound(), "error", "not_found"),
    (errors.InvalidModel(), "error", "unavailable"),
    (errors.StoreError(), "error", "unavailable"),
    (ZeroDivisionError(), "error", "error"),
    (asyncio.CancelledError(), "canceled", "canceled"),
]


@pytest.mark.parametrize(("exc", "later", "early"), REASONS, ids=lambda value: type(value).__name__)
def test_reasons(exc: BaseException, later: str, early: str) -> None:
    """Of a request whose model is known, and of one whose model never was."""
    metrics = Metrics()
    failed(metrics.model("m", "1"), exc, 0)
    metrics.refused(exc)
    assert values(metrics) == {
        "inferry_requests_total": {("m", "1"): 1, ("", ""): 1},
        "inferry_request_failures_total": {("m", "1", later): 1, ("", "", early): 1},
    }


def test_what_a_process_did() -> None:
    metrics = Metrics()
    for status in (200, 200, 404):
        metrics.responses["GET", "/v2/models/{model}", status] += 1
    metrics.loaded("m", "1", 0.25)
    metrics.load_failed("n", "1")
    metrics.cache_hits += 2
    metrics.cache_missed()
    metrics.evicted()
    metrics.cold_start(1.5)
    metrics.job_rows("m", "1", 90, 10)
    metrics.job_file("m", "1")
    metrics.job_file("m", "1", failed=True)
    metrics.flushed("emf")
    metrics.flush_failed("amp", dropped=34)
    metrics.logged("postgres", 8)
    metrics.not_logged("postgres", 1)
    metrics.flush_failed("amp")
    metrics.watch(
        lambda: [Gauge(catalogue.LOADED_BYTES, ("m", "1", "plain"), 1234), Gauge(catalogue.QUEUED, ("m", "1"), 2)]
    )
    assert values(metrics) == {
        "inferry_http_requests_total": {
            ("GET", "/v2/models/{model}", "200"): 2,
            ("GET", "/v2/models/{model}", "404"): 1,
        },
        "inferry_model_loads_total": {("m", "1", "success"): 1, ("n", "1", "failed"): 1},
        "inferry_model_load_seconds_total": {("m", "1"): 0.25},
        "inferry_model_loaded_bytes": {("m", "1", "plain"): 1234},
        "inferry_requests_queued": {("m", "1"): 2},
        "inferry_model_cache_hits_total": {(): 2},
        "inferry_model_cache_misses_total": {(): 1},
        "inferry_model_cache_evictions_total": {(): 1},
        "inferry_cold_starts_total": {(): 1},
        "inferry_init_seconds_total": {(): 1.5},
        "inferry_job_files_total": {("m", "1", "success"): 1, ("m", "1", "failed"): 1},
        "inferry_job_rows_total": {("m", "1"): 90},
        "inferry_job_row_errors_total": {("m", "1"): 10},
        "inferry_metric_flushes_total": {("emf",): 1},
        "inferry_metric_flush_failures_total": {("amp",): 2},
        "inferry_metric_samples_dropped_total": {("amp",): 34},
        "inferry_request_log_rows_total": {("postgres",): 8},
        "inferry_request_log_rows_dropped_total": {("postgres",): 1},
    }


def test_a_process_that_starts_from_the_memory_of_another_has_done_nothing() -> None:
    metrics = Metrics()
    stats = metrics.model("m", "1")
    answered(stats, 1, 2, 3, 4, rows=5)
    failed(stats, errors.QueueFull(), 1)
    metrics.cold_start(1)
    metrics.cache_hits += 1
    metrics.responses["GET", "/v2", 200] += 1
    metrics.loaded("m", "1", 1)
    stats.traced(5, "f" * 32, "f" * 16)
    metrics.reset()
    assert values(metrics) == {}
    assert metrics.model("m", "1") is stats
    answered(stats, 1, 0, 0, 0)
    assert values(metrics)["inferry_requests_total"] == {("m", "1"): 1}


SIZES = Metric("sizes", HISTOGRAM, "rows", ("model",), "Rows of a run", (1, 2.5))
EVENTS = Metric("events_total", COUNTER, "events", ("model", "why"), "Events")
UPTIME = Metric("uptime_seconds", GAUGE, "seconds", (), "Time")
TEXT = r"""# HELP sizes Rows of a run
# TYPE sizes histogram
sizes_bucket{model="m",le="1.0"} 1
sizes_bucket{model="m",le="2.5"} 1
sizes_bucket{model="m",le="+Inf"} 3
sizes_sum{model="m"} 9
sizes_count{model="m"} 3
# HELP events_total Events
# TYPE events_total counter
events_total{model="",why="a"} 1
events_total{model="m",why="say \"no\"\\\n"} 2
# HELP uptime_seconds Time
# TYPE uptime_seconds gauge
uptime_seconds 0.1
"""


def test_what_requests_cost() -> None:
    """By the seconds and the number of those that were answered; without prices there is no such metric."""
    for prices, wanted in (((2.0, 0.5), 2.0 * 0.03 + 2 * 0.5), ((2.0, 0.0), 2.0 * 0.03), ((0.0, 0.5), 1.0)):
        metrics = Metrics(*prices)
        for _ in range(2):
            answered(metrics.model("m", "1"), 1 * MS, 2 * MS, 8 * MS, 4 * MS)
        failed(metrics.model("m", "1"), errors.QueueFull(), 5 * MS)
        assert values(metrics)["inferry_request_cost_dollars_total"] == {("m", "1"): pytest.approx(wanted)}
    metrics = Metrics()
    answered(metrics.model("m", "1"), 1 * MS, 2 * MS, 8 * MS, 4 * MS)
    assert catalogue.COST not in {family.metric for family in metrics.collect()}


def test_text() -> None:
    families = [
        Family(SIZES, {("m",): Histogram((1, 1, 3), 9)}),
        Family(EVENTS, {("", "a"): 1, ("m", 'say "no"\\\n'): 2}),
        Family(UPTIME, {(): 0.1}),
    ]
    assert prometheus.joined([prometheus.page(families)]) == TEXT
    assert [sample.value for sample in samples(families[0])] == [1, 1, 3, 9, 3]


@pytest.fixture
def busy() -> Metrics:
    """A process in which everything of the catalogue has happened."""
    metrics = Metrics(price_second=2.0)
    stats = metrics.model("m", "1")
    answered(stats, 1 * MS, 2 * MS, 3 * MS, 4 * MS, rows=3, received=100, sent=50)
    stats.serves(batched=True, keeps_responses=True)
    stats.cache_miss(1)
    metrics.response_cache_failed(catalogue.TIMEOUT)
    stats.traced(10 * MS, "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    failed(stats, errors.QueueFull(), 5 * MS)
    metrics.loaded("m", "1", 0.25)
    metrics.cold_start(1.5)
    metrics.job_rows("m", "1", 90, 10)
    metrics.job_file("m", "1")
    metrics.flushed("emf")
    metrics.flush_failed("amp", dropped=34)
    metrics.logged("postgres", 8)
    metrics.not_logged("postgres", 1)
    metrics.responses["POST", "/v2/models/{model}/infer", 200] += 2
    metrics.watch(
        lambda: [
            Gauge(catalogue.LOADED_BYTES, ("m", "1", "plain"), 1234),
            Gauge(catalogue.QUEUED, ("m", "1"), 2),
            Gauge(catalogue.RESPONSE_CACHE_BYTES, (), 5678),
        ]
    )
    assert {family.metric for family in metrics.collect()} == set(CATALOGUE)
    return metrics


def ours(families: list[Family]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(sample.name, frozenset(sample.labels)): sample.value for family in families for sample in samples(family)}


def theirs(families: list[prometheus_client.Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Triton's counters have no _total, which the parser adds to all of the older format."""
    return {
        (
            sample.name.removesuffix("_total" * sample.name.startswith("nv_")),
            frozenset(sample.labels.items()),
        ): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize(
    ("form", "parse"),
    [
        (prometheus.TEXT, parser.text_string_to_metric_families),
        (prometheus.OPENMETRICS, open_parser.text_string_to_metric_families),
    ],
    ids=["text", "openmetrics"],
)
def test_prometheus_own_parser_reads_the_page(busy: Metrics, form: prometheus.Format, parse: Any) -> None:
    families = prometheus.families(busy)
    text = prometheus.joined([prometheus.page(families, form)], form)
    parsed = list(parse(text))
    assert theirs(parsed) == ours(families)
    kinds = {family.name: family.type for family in parsed}
    for family in families:
        metric = family.metric
        name = metric.name.removesuffix("_total") if metric.kind == COUNTER else metric.name
        is_tritons = metric.name.startswith("nv_") and metric.kind == COUNTER
        assert kinds[name] == ("unknown" if is_tritons and form is prometheus.OPENMETRICS else metric.kind)


def test_openmetrics_says_since_when_and_shows_traces(busy: Metrics) -> None:
    before = time.time()
    text = prometheus.text(busy, prometheus.OPENMETRICS)
    found = [s for f in open_parser.text_string_to_metric_families(text) for s in f.samples]
    created = {sample.name: sample.value for sample in found if sample.name.endswith("_created")}
    counting = {metric.name.removesuffix("_total") for metric in CATALOGUE if metric.kind != GAUGE}
    assert created.keys() == {f"{name}_created" for name in counting}
    assert all(before - 60 < moment <= before for moment in created.values())
    exemplars = {sample.labels["le"]: sample.exemplar for sample in found if sample.exemplar}
    ((le, exemplar),) = exemplars.items()
    span = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    assert (le, exemplar.labels, exemplar.value) == ("0.01", span, 0.01)
    assert float(exemplar.timestamp) == pytest.approx(before, abs=60)


def test_a_version_that_comes_again_counts_from_then_on(busy: Metrics) -> None:
    busy.forget("m", "1")
    before = time.time()
    busy.model("m", "1")
    requests = next(family for family in busy.collect() if family.metric is catalogue.REQUESTS)
    assert requests.created["m", "1"] >= before
    assert catalogue.LAST_LOAD not in {family.metric for family in busy.collect()}


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/plain;version=0.0.4", "text"),
        ("application/openmetrics-text;q=0, text/plain", "text"),
        # Prometheus 2.42 and 3.5.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "openmetrics",
        ),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3", "openmetrics"),
        ("a," * 490 + "application/openmetrics-text", "openmetrics"),
        ("a," * 512 + "application/openmetrics-text", "text"),  # nobody means what is behind 1 KiB
    ],
)
def test_formats_by_accept(accept: str, form: str) -> None:
    assert prometheus.accepted(accept).name == form


def test_the_process_as_prometheus_client_sees_it() -> None:
    (*_,) = families = process_metrics.families()
    collected = theirs(list(prometheus_client.ProcessCollector(registry=None).collect()))
    found = ours(families)
    assert found.keys() == collected.keys()
    for (name, _), value in found.items():
        assert value == pytest.approx(collected[name, frozenset()], rel=0.05, abs=1), name
