"""Every setting, read from the environment in one place."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from inferry import __version__
from inferry.errors import InvalidSettings

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")
_PREFIX = r"(s3|az|gs|memory)://[^/@:?]+(/[^?]*)?|(file://)?/+[^/].*"
# What Kubernetes sets for a Service of this name, METRICS_PORT for one that is called "metrics": not a setting of ours.
_SERVICE_LINK = r"(tcp|udp|sctp)://\S+"
_BASE = r"(/[^/?#%\s]+)+/?|/"
# How paths of the API itself begin: where a proxy takes it off, a base path like these could not be told from them.
_OF_THE_API = ("docs", "health", "metrics", "openapi.json", "page", "predict", "v1", "v2")
_DIGEST = "[0-9a-fA-F]{64}"
# Nothing that would turn the checks of a certificate off.
_REDIS = r"rediss?://([^/@?#\s]*@)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/\d{0,9})?(\?ssl_ca_certs=[^&#\s]+)?"


def _setting(default: Any, help: str, minimum: float | None = None, secret: bool = False) -> Any:  # noqa: A002
    return field(default=default, repr=not secret, metadata={"help": help, "minimum": minimum})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field per environment variable: MODEL_PATH is `model_path`, and so on."""

    model_path: str = _setting(
        "models", "Model repository: a folder, an .onnx file, or a URL (s3, az, gs, memory, mlflow+http)"
    )
    model_name: str = _setting("", "Name of the only model at MODEL_PATH, where that is the model's own folder or file")
    default_model: str = _setting("", "Model for requests that name none; empty: the repository's only model")
    model_cache_size: int = _setting(8, "Models kept loaded; the least recently used one is unloaded first", 1)
    model_cache_dir: str = _setting("", "Folder for models that are fetched or copied; empty: in the temporary folder")
    model_timeout: float = _setting(30.0, "Seconds that a prediction may take, including its time in the queue", 0.001)
    model_refresh: float = _setting(0.0, "Seconds between looks for changed models; 0: only when asked to load", 0)
    model_control: bool = _setting(False, "Allow POST /v2/repository/models/NAME/load and unload")
    strict_readiness: bool = _setting(
        False, "GET /v2/health/ready is 503 while a model is loading, broken or missing, as with Triton and KServe"
    )
    max_request_bytes: int = _setting(64 * 2**20, "Largest request body in bytes, before and after decompression", 1)
    max_buffered_bytes: int = _setting(
        0, "Most bytes of large bodies that the local server holds at a time; 0: 8 times MAX_REQUEST_BYTES", 0
    )
    max_header_bytes: int = _setting(64 * 2**10, "Largest header of a request to the local server, in bytes", 256)
    header_timeout: float = _setting(10.0, "Seconds within which a request's header must reach the local server", 0.001)
    body_timeout: float = _setting(
        30.0, "Seconds that a request's body, or a response, may stall at the local server", 0.001
    )
    idle_timeout: float = _setting(5.0, "Seconds that a connection to the local server may wait for a request", 0.001)
    max_connections: int = _setting(900, "Open connections of a process of the local server; more are refused", 1)
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "Proxies (addresses, networks) whose X-Forwarded-For tells clients of the local server apart, comma-separated",
    )
    max_response_bytes: int = _setting(0, "Largest response body in bytes; 0: no limit", 0)
    data_prefixes: tuple[str, ...] = _setting(
        (), "Prefixes (URLs, absolute folders) below which requests may name objects as tensors, comma-separated"
    )
    max_data_bytes: int = _setting(256 * 2**20, "Most bytes of tensors by reference in a request, or in a response", 1)
    batch_input: str = _setting("", "Prefix (a URL, an absolute folder) whose files are predicted when they arrive")
    batch_output: str = _setting("", "Prefix for their results, and for the responses to requests in messages")
    batch_model: str = _setting("", "Model for all of BATCH_INPUT; empty: the first folder of a file's path names it")
    batch_queue: str = _setting("", "URL of the queue that messages come from, to which unfinished jobs are sent again")
    batch_dead_letters: str = _setting("", "URL of the queue for messages that can't be processed, with the reason")
    batch_tries: int = _setting(5, "Most deliveries of a message; the last one produces a response in any case", 1)
    max_deferred: int = _setting(128, "Most requests that wait for the local server to answer them later", 2)
    batch_runner: str = _setting("", "What `inferry batch --on` starts: the ARN of a state machine, the URL of a queue")
    response_cache_bytes: int = _setting(
        64 * 2**20, "Most bytes of responses that a process keeps in memory, for models with response_cache", 0
    )
    response_cache_entry_bytes: int = _setting(2**20, "Largest response that is kept, in bytes of its outputs", 1)
    response_cache_seconds: float = _setting(3600.0, "Seconds that a response is kept", 0.001)
    response_cache_shared: bool = _setting(False, "Give a response that is kept to other API keys than its own, too")
    response_cache_url: str = _setting(
        "", "Redis that keeps responses instead, redis://HOST:6379/0 for example; rediss: with TLS", secret=True
    )
    response_cache_password: str = _setting("", "Password for that Redis, where its URL has none", secret=True)
    response_cache_timeout: float = _setting(0.002, "Seconds that a request waits for that Redis at most", 0.0001)
    intra_op_threads: int = _setting(0, "Threads of a model's session; 0: the CPUs this process may use", 0)
    base_path: str = _setting(
        "", "Path below which clients call the API, /ml for example; /: the root; empty: what the platform says"
    )
    cors_origins: tuple[str, ...] = _setting((), "Origins whose pages may call the API, comma-separated; * for all")
    allowed_hosts: tuple[str, ...] = _setting(
        (), "Names by which clients may call a server that listens on loopback, comma-separated; * for all"
    )
    api_keys: tuple[str, ...] = _setting(
        (), "SHA-256 digests of the keys that may call the API, comma-separated; empty: everybody may", secret=True
    )
    enable_metrics: bool = _setting(True, "Whether metrics are collected at all; false: METRICS_SINKS is ignored")
    metrics_sinks: tuple[str, ...] = _setting(("prometheus",), "Where metrics go, comma-separated")
    metrics_port: int = _setting(0, "Second port of the local server, for GET /metrics alone; 0: none", 0)
    metrics_interval: float = _setting(
        15.0, "Seconds between pushes of metrics; a function's come after an invocation, and at its end", 0.01
    )
    metrics_timeout: float = _setting(2.0, "Seconds that a push of metrics may take", 0.001)
    price_second: float = _setting(
        0.0,
        "USD that a second of an answered request costs, for the metric of its cost; 0 both here and below: none",
        0,
    )
    price_request: float = _setting(0.0, "USD that an answered request costs besides", 0)
    emf_detail: str = _setting(
        "service",
        "What the sink emf prints: the few metrics of the service, model: these of each model too, all: every metric",
    )
    remote_write_url: str = _setting("", "URL of the store's remote-write endpoint, for the sinks that push")
    remote_write_username: str = _setting("", "User of basic authentication at that URL")
    remote_write_password: str = _setting("", "Password of basic authentication at that URL", secret=True)
    remote_write_token: str = _setting("", "Bearer token for that URL", secret=True)
    remote_write_headers: tuple[str, ...] = _setting(
        (), "Further headers for that URL, comma-separated, such as X-Scope-OrgID=shop", secret=True
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL")
    log_format: str = _setting("text", "text, or json: an object per line, and a line per request")
    log_payloads: int = _setting(0, "Bytes of each body to include in a request's log line; 0: none", 0)
    request_log_url: str = _setting(
        "", "Database for a row of each request to the local server, postgresql://user@host/database", secret=True
    )
    request_log_retention: int = _setting(0, "Full days that these rows are kept; 0: for ever", 0)
    capture: tuple[str, ...] = _setting(
        (), "Shares of requests whose inputs and outputs are kept beside these rows, digits=0.01,*=0.001, by model"
    )
    capture_errors: bool = _setting(False, "Keep those of all requests to these models that fail")
    capture_slow: float = _setting(0.0, "Seconds from which on all requests to these models are kept; 0: never", 0)
    capture_max_bytes: int = _setting(2**16, "Largest tensor that is kept, in bytes; of others the SHA-256", 0)
    traces: bool = _setting(False, "Send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT")
    environment: str = _setting("dev", "Name of the deployment, reported by GET /health")
    app_name: str = _setting("inferry", "Name that GET /v2 reports")
    app_version: str = _setting(__version__, "Version that GET /v2 reports")
    debug: bool = _setting(False, "Log every request of the local server, and at level DEBUG")
    host: str = _setting("127.0.0.1", "Address the local server listens on")
    port: int = _setting(8000, "Port the local server listens on; 0: any free one", 0)
    page: str = _setting("", "Whether GET / is a page to browsers, true or false; empty: of `inferry serve`")
    grpc_port: int = _setting(0, "Second port of the local server, for the protocol over gRPC; 0: none", 0)
    shutdown_grace: float = _setting(
        5.0, "Seconds after SIGTERM during which the local server still responds, but is not ready", 0
    )
    workers: int = _setting(1, "Processes of the local server, on one port", 1)

    def __post_init__(self) -> None:
        for name, value, minimum in ((f.name, getattr(self, f.name), f.metadata["minimum"]) for f in fields(self)):
            if minimum is not None and not (minimum <= value < math.inf):
                raise InvalidSettings(f"{name.upper()} must be at least {minimum}, got {value}")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise InvalidSettings(f"LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got {self.log_level!r}")
        if self.log_format not in ("text", "json"):
            raise InvalidSettings(f"LOG_FORMAT must be text or json, got {self.log_format!r}")
        if self.emf_detail not in ("service", "model", "all"):
            raise InvalidSettings(f"EMF_DETAIL must be service, model or all, got {self.emf_detail!r}")
        self.has_page(default=False)
        if self.base_path and not re.fullmatch(_BASE, self.base_path):
            raise InvalidSettings(f"BASE_PATH must be a path like /ml, got {self.base_path!r}")
        if self.base_path and (first := self.base_path.split("/")[1]) in _OF_THE_API:
            raise InvalidSettings(f"BASE_PATH can't begin with /{first}, as paths of the API itself do")
        for name in ("port", "metrics_port", "grpc_port"):
            if getattr(self, name) > 65535:
                raise InvalidSettings(f"{name.upper()} must be at most 65535, got {getattr(self, name)}")

    def has_page(self, default: bool) -> bool:
        """Whether browsers get a page at /; `default`: what holds where the settings say nothing of it."""
        return _bool("PAGE", self.page) if self.page.strip() else default

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Settings from `env` (os.environ); other variables are left alone. InvalidSettings names the variable."""
        given = {f.name: f for f in fields(cls) if f.name.upper() in env and not _is_service_link(f.name, env)}
        read = cls(**{name: _parse(f.name.upper(), env[f.name.upper()], f.default) for name, f in given.items()})
        # Here and not above: a deployment writes references that are filled in before anybody reads them.
        if not all(re.fullmatch(_DIGEST, digest) for digest in read.api_keys):
            # The value is not repeated: it may be a key.
            raise InvalidSettings(
                "API_KEYS must be SHA-256 digests (64 digits of hex), not the keys: see `inferry key`"
            )
        if not all(re.fullmatch(_PREFIX, prefix) for prefix in read.data_prefixes):
            raise InvalidSettings("DATA_PREFIXES must be URLs like s3://bucket/tensors, or absolute folders")
        if read.request_log_url and not re.match("postgres(ql)?://", read.request_log_url):
            # Nor this one, which may have a password.
            raise InvalidSettings("REQUEST_LOG_URL must begin with postgresql://")
        if 0 < read.max_buffered_bytes < 2 * read.max_request_bytes:
            raise InvalidSettings(
                f"MAX_BUFFERED_BYTES must be at least twice MAX_REQUEST_BYTES ({read.max_request_bytes}), of which one "
                f"client may have half; got {read.max_buffered_bytes}"
            )
        if not all(map(_is_network, read.trusted_proxies)):
            raise InvalidSettings("TRUSTED_PROXIES must be addresses like 10.0.0.7, or networks like 10.0.0.0/8")
        if read.response_cache_url and not re.fullmatch(_REDIS, read.response_cache_url):
            # Nor this one: it may have a password.
            raise InvalidSettings(
                "RESPONSE_CACHE_URL must be like redis://HOST:6379/0 or rediss://:PASSWORD@HOST:6379/0"
            )
        for name in ("batch_input", "batch_output"):
            if (prefix := getattr(read, name)) and not re.fullmatch(_PREFIX, prefix):
                raise InvalidSettings(f"{name.upper()} must be a URL like s3://bucket/files, or an absolute folder")
        return read

    def to_env(self) -> dict[str, str]:
        """The variables that `from_env` reads back as these settings; the ones left at their defaults are absent."""
        values = {f.name.upper(): (getattr(self, f.name), f.default) for f in fields(self)}
        return {name: _format(value) for name, (value, default) in values.items() if value != default}


def _is_service_link(name: str, env: Mapping[str, str]) -> bool:
    return name.endswith("port") and re.fullmatch(_SERVICE_LINK, env[name.upper()].strip()) is not None


def _is_network(text: str) -> bool:
    from ipaddress import ip_network

    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _parse(name: str, text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, bool):
        return _bool(name, text)
    try:
        return type(default)(text.strip())
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise InvalidSettings(f"{name} must be {kind}, got {text!r}") from None


def _bool(name: str, text: str) -> bool:
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise InvalidSettings(f"{name} must be true or false, got {text!r}")


def _format(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
