"""Every metric, declared once: name, kind, unit, labels, buckets and help.

`docs/generate.py` writes the table of metrics.md from here. Labels are bounded: a model's name and version exist in the
repository, every other label takes its values from a table. What identifies a request is no label.
"""

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

MODEL = ("model", "version")

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

PHASES = ("decode", "queue", "infer", "encode")
# Of models whose responses are kept.
CACHE = "cache"
HIT, MISS = "hit", "miss"
# Why the response cache was of no use to a request, but for what it doesn't have.
TIMEOUT, UNREACHABLE, REFUSED, FOREIGN = "timeout", "unreachable", "refused", "foreign"
# Those of HTTP; a client may send any other word, which OpenTelemetry calls so.
METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
OTHER_METHOD = "_OTHER"
# Why a request failed, once its model was known, and before.
REASONS = ("invalid", "invalid_argument", "denied", "rejected", "timeout", "canceled", "error")
EARLY_REASONS = ("invalid", "denied", "not_found", "unavailable", "rejected", "timeout", "canceled", "error")
SUCCESS, FAILED = "success", "failed"


class Metric(NamedTuple):
    """One metric as Prometheus names it; `buckets` are the upper bounds of a histogram, without the last, infinity."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


REQUESTS = Metric(
    "inferry_requests_total",
    COUNTER,
    "requests",
    MODEL,
    "Inference requests, successful or failed; model is empty when it is unknown",
)
LAST_REQUEST = Metric(
    "inferry_last_request_timestamp_seconds",
    GAUGE,
    "seconds",
    MODEL,
    "Time of the last successful response, since the epoch",
)
HTTP_REQUESTS = Metric(
    "inferry_http_requests_total",
    COUNTER,
    "requests",
    ("method", "route", "status"),
    "HTTP requests of any kind; route is empty where there is none, status 499 for clients that went away",
)
FAILURES = Metric(
    "inferry_request_failures_total",
    COUNTER,
    "requests",
    (*MODEL, "reason"),
    "Requests for predictions that failed, by reason",
)
DURATION = Metric(
    "inferry_request_duration_seconds",
    HISTOGRAM,
    "seconds",
    MODEL,
    "Time of a successful request, from its body to the response's bytes",
    SECONDS,
)
PHASE_SECONDS = Metric(
    "inferry_request_phase_seconds_total",
    COUNTER,
    "seconds",
    (*MODEL, "phase"),
    "The same time by phase: decode, queue, infer, encode; cache of models with response_cache",
)
COST = Metric(
    "inferry_request_cost_dollars_total",
    COUNTER,
    "dollars",
    MODEL,
    "Cost of successful requests by PRICE_SECOND and PRICE_REQUEST, where these are set",
)
FAILURE_SECONDS = Metric(
    "inferry_request_failure_seconds_total", COUNTER, "seconds", MODEL, "Time that requests took until they failed"
)
ROWS = Metric("inferry_rows_total", COUNTER, "rows", MODEL, "Rows of successful requests")
BATCH_SIZE = Metric(
    "inferry_batch_size",
    HISTOGRAM,
    "rows",
    MODEL,
    "Rows of one run of the model, which may serve several requests",
    BATCH_ROWS,
)
RECEIVED = Metric(
    "inferry_request_bytes_total", COUNTER, "bytes", MODEL, "Bodies of successful inference requests, inflated"
)
SENT = Metric("inferry_response_bytes_total", COUNTER, "bytes", MODEL, "Bodies of their responses, as sent")
IN_FLIGHT = Metric("inferry_requests_in_flight", GAUGE, "requests", MODEL, "Requests being processed now")
QUEUED = Metric(
    "inferry_requests_queued",
    GAUGE,
    "requests",
    MODEL,
    "Of these, those that wait for a batch, or are in the queue for a thread or in it",
)
LOADS = Metric(
    "inferry_model_loads_total", COUNTER, "loads", (*MODEL, "outcome"), "Loads of a model version: success or failed"
)
LOAD_SECONDS = Metric(
    "inferry_model_load_seconds_total",
    COUNTER,
    "seconds",
    MODEL,
    "Time of loads, from fetched files to the warm-up's end",
)
LAST_LOAD = Metric(
    "inferry_model_last_load_timestamp_seconds", GAUGE, "seconds", MODEL, "When it was loaded last, since the epoch"
)
LOADED_BYTES = Metric(
    "inferry_model_loaded_bytes",
    GAUGE,
    "bytes",
    (*MODEL, "form"),
    "Size of the files of a model that is loaded now; form: plain, or native, portable or original of a prepared one",
)
CACHE_HITS = Metric("inferry_model_cache_hits_total", COUNTER, "requests", (), "Requests that found their model loaded")
CACHE_MISSES = Metric(
    "inferry_model_cache_misses_total", COUNTER, "requests", (), "Requests that had to wait for a load, or its failure"
)
CACHE_EVICTIONS = Metric(
    "inferry_model_cache_evictions_total", COUNTER, "models", (), "Models dropped to keep to MODEL_CACHE_SIZE"
)
RESPONSE_CACHE_LOOKUPS = Metric(
    "inferry_response_cache_lookups_total",
    COUNTER,
    "lookups",
    (*MODEL, "outcome"),
    "Runs of models with response_cache that responses were looked for in place of: hit or miss",
)
RESPONSE_CACHE_FAILURES = Metric(
    "inferry_response_cache_failures_total",
    COUNTER,
    "failures",
    ("reason",),
    "Failures of Redis as the response cache: timeout, unreachable, refused (an error), foreign (no entry of ours)",
)
RESPONSE_CACHE_EVICTIONS = Metric(
    "inferry_response_cache_evictions_total",
    COUNTER,
    "responses",
    (),
    "Responses dropped from memory to keep to RESPONSE_CACHE_BYTES",
)
RESPONSE_CACHE_BYTES = Metric(
    "inferry_response_cache_bytes", GAUGE, "bytes", (), "Responses that are kept in memory now"
)
COLD_STARTS = Metric("inferry_cold_starts_total", COUNTER, "starts", (), "Starts of a function's environment")
INIT_SECONDS = Metric(
    "inferry_init_seconds_total", COUNTER, "seconds", (), "Time of these starts until the first request"
)
JOB_FILES = Metric(
    "inferry_job_files_total",
    COUNTER,
    "files",
    (*MODEL, "outcome"),
    "Files of batch jobs that are done: success or failed",
)
JOB_ROWS = Metric("inferry_job_rows_total", COUNTER, "rows", MODEL, "Rows predicted by batch jobs")
JOB_ROW_ERRORS = Metric(
    "inferry_job_row_errors_total", COUNTER, "rows", MODEL, "Rows of batch jobs that could not be predicted"
)
FLUSHES = Metric("inferry_metric_flushes_total", COUNTER, "flushes", ("sink",), "Pushes of metrics that a sink took")
FLUSH_FAILURES = Metric(
    "inferry_metric_flush_failures_total",
    COUNTER,
    "flushes",
    ("sink",),
    "Pushes of metrics that failed; most are tried again",
)
DROPPED = Metric(
    "inferry_metric_samples_dropped_total",
    COUNTER,
    "samples",
    ("sink",),
    "Samples that a sink refused and that are not sent again",
)
LOG_ROWS = Metric(
    "inferry_request_log_rows_total", COUNTER, "rows", ("sink",), "Rows of requests that the request log took"
)
LOG_DROPPED = Metric(
    "inferry_request_log_rows_dropped_total",
    COUNTER,
    "rows",
    ("sink",),
    "Rows of requests that it did not take in time, and that are not written any more",
)
BUILD_INFO = Metric("inferry_build_info", GAUGE, "info", ("version",), "The version of inferry; always 1")

CATALOGUE = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))

# As every process has them whose metrics prometheus_client offers; GET /metrics has them beside ours.
PROCESS = (
    Metric("process_virtual_memory_bytes", GAUGE, "bytes", (), "Virtual memory size in bytes."),
    Metric("process_resident_memory_bytes", GAUGE, "bytes", (), "Resident memory size in bytes."),
    Metric(
        "process_start_time_seconds", GAUGE, "seconds", (), "Start time of the process since unix epoch in seconds."
    ),
    Metric("process_cpu_seconds_total", COUNTER, "seconds", (), "Total user and system CPU time spent in seconds."),
    Metric("process_open_fds", GAUGE, "descriptors", (), "Number of open file descriptors."),
    Metric("process_max_fds", GAUGE, "descriptors", (), "Maximum number of open file descriptors."),
)

# Triton's names, which its dashboards chart; GET /metrics offers them beside ours.
_NV = "nv_inference_"
# As there, a request that is refused (it doesn't fit, the queue is full) is no failure: the model had no part in it.
NV_REASONS: dict[str, tuple[str, ...]] = {
    "REJECTED": ("timeout",),
    "CANCELED": ("canceled",),
    "BACKEND": ("error", "invalid_argument"),
    "OTHER": (),
}
NV_FAILURES = tuple(reason for reasons in NV_REASONS.values() for reason in reasons)
NV_SUCCESS = Metric(f"{_NV}request_success", COUNTER, "requests", MODEL, "Number of successful inference requests")
NV_FAILURE = Metric(
    f"{_NV}request_failure", COUNTER, "requests", (*MODEL, "reason"), "Number of failed inference requests"
)
NV_COUNT = Metric(
    f"{_NV}count",
    COUNTER,
    "inferences",
    MODEL,
    "Number of inferences performed: one per row, with max_batch_size 0 one per request; none for cached responses",
)
NV_EXEC_COUNT = Metric(f"{_NV}exec_count", COUNTER, "runs", MODEL, "Number of model executions performed")
NV_REQUEST = Metric(
    f"{_NV}request_duration_us", COUNTER, "microseconds", MODEL, "Cumulative inference request duration"
)
NV_QUEUE = Metric(f"{_NV}queue_duration_us", COUNTER, "microseconds", MODEL, "Cumulative inference queuing duration")
NV_INPUT = Metric(
    f"{_NV}compute_input_duration_us", COUNTER, "microseconds", MODEL, "Cumulative compute input duration"
)
NV_INFER = Metric(
    f"{_NV}compute_infer_duration_us", COUNTER, "microseconds", MODEL, "Cumulative compute inference duration"
)
NV_OUTPUT = Metric(
    f"{_NV}compute_output_duration_us", COUNTER, "microseconds", MODEL, "Cumulative compute output duration"
)
NV_PENDING = Metric(
    f"{_NV}pending_request_count", GAUGE, "requests", MODEL, "Number of requests waiting for execution, or in a thread"
)

NV_HITS = Metric("nv_cache_num_hits_per_model", COUNTER, "requests", MODEL, "Number of cache hits per model")
NV_MISSES = Metric("nv_cache_num_misses_per_model", COUNTER, "requests", MODEL, "Number of cache misses per model")
NV_HIT_TIME = Metric(
    "nv_cache_hit_duration_per_model",
    COUNTER,
    "microseconds",
    MODEL,
    "Total cache hit duration per model, in microseconds",
)
NV_MISS_TIME = Metric(
    "nv_cache_miss_duration_per_model",
    COUNTER,
    "microseconds",
    MODEL,
    "Total cache miss (insert+lookup) duration per model, in microseconds",
)

TRITON = tuple(
    value for name, value in tuple(globals().items()) if name.startswith("NV_") and isinstance(value, Metric)
)


def known_method(method: str) -> str:
    """An HTTP method as a label's value: one that HTTP knows, else a common name for all others."""
    return method if method in METHODS else OTHER_METHOD
