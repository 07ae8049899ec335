"""Settings: from the environment and back, every bad value's message, and the file that lists them."""

import math
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inferry import __version__
from inferry.errors import InvalidSettings
from inferry.settings import Settings

ROOT = Path(__file__).parents[2]

DIGEST = "0123456789abcdef" * 4

DEFAULTS = {
    "MODEL_PATH": "models",
    "MODEL_NAME": "",
    "DEFAULT_MODEL": "",
    "MODEL_CACHE_SIZE": 8,
    "MODEL_CACHE_DIR": "",
    "MODEL_TIMEOUT": 30.0,
    "MODEL_REFRESH": 0.0,
    "MODEL_CONTROL": False,
    "STRICT_READINESS": False,
    "MAX_REQUEST_BYTES": 67_108_864,
    "MAX_BUFFERED_BYTES": 0,
    "MAX_HEADER_BYTES": 65_536,
    "HEADER_TIMEOUT": 10.0,
    "BODY_TIMEOUT": 30.0,
    "IDLE_TIMEOUT": 5.0,
    "MAX_CONNECTIONS": 900,
    "TRUSTED_PROXIES": (),
    "MAX_RESPONSE_BYTES": 0,
    "DATA_PREFIXES": (),
    "MAX_DATA_BYTES": 268_435_456,
    "BATCH_INPUT": "",
    "BATCH_OUTPUT": "",
    "BATCH_MODEL": "",
    "BATCH_QUEUE": "",
    "BATCH_DEAD_LETTERS": "",
    "BATCH_TRIES": 5,
    "MAX_DEFERRED": 128,
    "BATCH_RUNNER": "",
    "RESPONSE_CACHE_BYTES": 67_108_864,
    "RESPONSE_CACHE_ENTRY_BYTES": 1_048_576,
    "RESPONSE_CACHE_SECONDS": 3600.0,
    "RESPONSE_CACHE_SHARED": False,
    "RESPONSE_CACHE_URL": "",
    "RESPONSE_CACHE_PASSWORD": "",
    "RESPONSE_CACHE_TIMEOUT": 0.002,
    "INTRA_OP_THREADS": 0,
    "BASE_PATH": "",
    "CORS_ORIGINS": (),
    "ALLOWED_HOSTS": (),
    "API_KEYS": (),
    "ENABLE_METRICS": True,
    "METRICS_SINKS": ("prometheus",),
    "METRICS_PORT": 0,
    "METRICS_INTERVAL": 15.0,
    "METRICS_TIMEOUT": 2.0,
    "PRICE_SECOND": 0.0,
    "PRICE_REQUEST": 0.0,
    "EMF_DETAIL": "service",
    "REMOTE_WRITE_URL": "",
    "REMOTE_WRITE_USERNAME": "",
    "REMOTE_WRITE_PASSWORD": "",
    "REMOTE_WRITE_TOKEN": "",
    "REMOTE_WRITE_HEADERS": (),
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "text",
    "LOG_PAYLOADS": 0,
    "REQUEST_LOG_URL": "",
    "REQUEST_LOG_RETENTION": 0,
    "CAPTURE": (),
    "CAPTURE_ERRORS": False,
    "CAPTURE_SLOW": 0.0,
    "CAPTURE_MAX_BYTES": 65_536,
    "TRACES": False,
    "ENVIRONMENT": "dev",
    "APP_NAME": "inferry",
    "APP_VERSION": __version__,
    "DEBUG": False,
    "HOST": "127.0.0.1",
    "PORT": 8000,
    "PAGE": "",
    "GRPC_PORT": 0,
    "SHUTDOWN_GRACE": 5.0,
    "WORKERS": 1,
}


def values(given: Settings) -> dict[str, Any]:
    return {item.name.upper(): getattr(given, item.name) for item in fields(given)}


def test_defaults() -> None:
    assert values(Settings()) == values(Settings.from_env({})) == DEFAULTS
    assert Settings().to_env() == {}


def test_from_env() -> None:
    env = {
        "MODEL_PATH": "s3://bucket/models",
        "MODEL_NAME": "numbers",
        "DEFAULT_MODEL": "digits",
        "MODEL_CACHE_SIZE": "2",
        "MODEL_CACHE_DIR": "/tmp/c",
        "MODEL_TIMEOUT": "1.5",
        "MODEL_REFRESH": "60",
        "MODEL_CONTROL": "true",
        "STRICT_READINESS": "true",
        "MAX_REQUEST_BYTES": "1000",
        "MAX_BUFFERED_BYTES": "5000",
        "MAX_HEADER_BYTES": "4000",
        "HEADER_TIMEOUT": "3",
        "BODY_TIMEOUT": "4.5",
        "IDLE_TIMEOUT": "75",
        "MAX_CONNECTIONS": "100",
        "TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        "MAX_RESPONSE_BYTES": "2000",
        "DATA_PREFIXES": "s3://bucket/a,/data",
        "MAX_DATA_BYTES": "3000",
        "BATCH_INPUT": "s3://bucket/in",
        "BATCH_OUTPUT": "/out",
        "BATCH_MODEL": "encoder",
        "BATCH_QUEUE": "https://queues.example/1/jobs",
        "BATCH_DEAD_LETTERS": "https://queues.example/1/dead",
        "BATCH_TRIES": "7",
        "MAX_DEFERRED": "40",
        "BATCH_RUNNER": "arn:aws:states:eu-west-1:1:stateMachine:a",
        "RESPONSE_CACHE_BYTES": "1000",
        "RESPONSE_CACHE_ENTRY_BYTES": "100",
        "RESPONSE_CACHE_SECONDS": "60",
        "RESPONSE_CACHE_SHARED": "true",
        "RESPONSE_CACHE_URL": "rediss://me:it@cache.example:6380/1",
        "RESPONSE_CACHE_PASSWORD": "a password",
        "RESPONSE_CACHE_TIMEOUT": "0.02",
        "INTRA_OP_THREADS": "3",
        "BASE_PATH": "/ml",
        "CORS_ORIGINS": "https://a.example, https://b.example",
        "ALLOWED_HOSTS": "a.example, b.example",
        "API_KEYS": f"{DIGEST}, {DIGEST.upper()}",
        "ENABLE_METRICS": "false",
        "METRICS_SINKS": "prometheus,remote_write",
        "METRICS_PORT": "9100",
        "PAGE": "true",
        "GRPC_PORT": "8001",
        "METRICS_INTERVAL": "1",
        "METRICS_TIMEOUT": "0.5",
        "PRICE_SECOND": "0.0000133334",
        "PRICE_REQUEST": "2e-7",
        "EMF_DETAIL": "model",
        "REMOTE_WRITE_URL": "https://store.example/write",
        "REMOTE_WRITE_USERNAME": "me",
        "REMOTE_WRITE_PASSWORD": "a password",
        "REMOTE_WRITE_TOKEN": "a token",
        "REMOTE_WRITE_HEADERS": "X-Scope-OrgID=shop, X-Key=a key",
        "LOG_LEVEL": "ERROR",
        "LOG_FORMAT": "json",
        "LOG_PAYLOADS": "100",
        "REQUEST_LOG_URL": "postgresql://me:secret@db/requests",
        "REQUEST_LOG_RETENTION": "30",
        "CAPTURE": "digits=0.01, *=0.001",
        "CAPTURE_ERRORS": "true",
        "CAPTURE_SLOW": "0.5",
        "CAPTURE_MAX_BYTES": "1000",
        "TRACES": "true",
        "ENVIRONMENT": "prod",
        "APP_NAME": "my models",
        "APP_VERSION": "7",
        "DEBUG": "1",
        "HOST": "::",
        "PORT": "0",
        "SHUTDOWN_GRACE": "20",
        "WORKERS": "4",
    }
    expected = {
        "MODEL_PATH": "s3://bucket/models",
        "MODEL_NAME": "numbers",
        "DEFAULT_MODEL": "digits",
        "MODEL_CACHE_SIZE": 2,
        "MODEL_CACHE_DIR": "/tmp/c",
        "MODEL_TIMEOUT": 1.5,
        "MODEL_REFRESH": 60.0,
        "MODEL_CONTROL": True,
        "STRICT_READINESS": True,
        "MAX_REQUEST_BYTES": 1000,
        "MAX_BUFFERED_BYTES": 5000,
        "MAX_HEADER_BYTES": 4000,
        "HEADER_TIMEOUT": 3.0,
        "BODY_TIMEOUT": 4.5,
        "IDLE_TIMEOUT": 75.0,
        "MAX_CONNECTIONS": 100,
        "TRUSTED_PROXIES": ("10.0.0.0/8", "::1"),
        "MAX_RESPONSE_BYTES": 2000,
        "DATA_PREFIXES": ("s3://bucket/a", "/data"),
        "MAX_DATA_BYTES": 3000,
        "BATCH_INPUT": "s3://bucket/in",
        "BATCH_OUTPUT": "/out",
        "BATCH_MODEL": "encoder",
        "BATCH_QUEUE": "https://queues.example/1/jobs",
        "BATCH_DEAD_LETTERS": "https://queues.example/1/dead",
        "BATCH_TRIES": 7,
        "MAX_DEFERRED": 40,
        "BATCH_RUNNER": "arn:aws:states:eu-west-1:1:stateMachine:a",
        "RESPONSE_CACHE_BYTES": 1000,
        "RESPONSE_CACHE_ENTRY_BYTES": 100,
        "RESPONSE_CACHE_SECONDS": 60.0,
        "RESPONSE_CACHE_SHARED": True,
        "RESPONSE_CACHE_URL": "rediss://me:it@cache.example:6380/1",
        "RESPONSE_CACHE_PASSWORD": "a password",
        "RESPONSE_CACHE_TIMEOUT": 0.02,
        "INTRA_OP_THREADS": 3,
        "BASE_PATH": "/ml",
        "CORS_ORIGINS": ("https://a.example", "https://b.example"),
        "ALLOWED_HOSTS": ("a.example", "b.example"),
        "API_KEYS": (DIGEST, DIGEST.upper()),
        "ENABLE_METRICS": False,
        "METRICS_SINKS": ("prometheus", "remote_write"),
        "METRICS_PORT": 9100,
        "PAGE": "true",
        "GRPC_PORT": 8001,
        "METRICS_INTERVAL": 1.0,
        "METRICS_TIMEOUT": 0.5,
        "PRICE_SECOND": 0.0000133334,
        "PRICE_REQUEST": 2e-7,
        "EMF_DETAIL": "model",
        "REMOTE_WRITE_URL": "https://store.example/write",
        "REMOTE_WRITE_USERNAME": "me",
        "REMOTE_WRITE_PASSWORD": "a password",
        "REMOTE_WRITE_TOKEN": "a token",
        "REMOTE_WRITE_HEADERS": ("X-Scope-OrgID=shop", "X-Key=a key"),
        "LOG_LEVEL": "ERROR",
        "LOG_FORMAT": "json",
        "LOG_PAYLOADS": 100,
        "REQUEST_LOG_URL": "postgresql://me:secret@db/requests",
        "REQUEST_LOG_RETENTION": 30,
        "CAPTURE": ("digits=0.01", "*=0.001"),
        "CAPTURE_ERRORS": True,
        "CAPTURE_SLOW": 0.5,
        "CAPTURE_MAX_BYTES": 1_000,
        "TRACES": True,
        "ENVIRONMENT": "prod",
        "APP_NAME": "my models",
        "APP_VERSION": "7",
        "DEBUG": True,
        "HOST": "::",
        "PORT": 0,
        "SHUTDOWN_GRACE": 20.0,
        "WORKERS": 4,
    }
    assert env.keys() == expected.keys() == DEFAULTS.keys()
    read = values(Settings.from_env({**env, "PATH": "/bin", "model_path": "lower", "AWS_REGION": "x"}))
    assert read == expected
    assert {name: type(value) for name, value in read.items()} == {name: type(v) for name, v in DEFAULTS.items()}


def test_secrets_stay_out_of_the_representation() -> None:
    secret = Settings(
        remote_write_password="a password",
        remote_write_token="a token",
        remote_write_headers=("X-Key=a key",),
        request_log_url="postgresql://me:secret@db",
        response_cache_url="redis://:another@cache",
        response_cache_password="a third",
    )
    assert "another" not in repr(secret)
    assert "a third" not in repr(secret)
    assert "a password" not in repr(secret)
    assert "a token" not in repr(secret)
    assert "a key" not in repr(secret)
    assert "secret" not in repr(secret)


# Environments hold no NUL, and a shell's quoting leaves stray blanks around values, which are cut off.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(str.strip)
PREFIXES = st.sampled_from(["s3://b", "az://c/d", "gs://e/f/", "memory://m", "file:///g", "/h/i"])
ORIGINS = st.lists(TEXT.filter(lambda text: text and "," not in text)).map(tuple)


NAMED: dict[str, st.SearchStrategy[Any]] = {
    "log_level": st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
    "port": st.integers(0, 65535),
    "metrics_port": st.integers(0, 65535),
    "grpc_port": st.integers(0, 65535),
    "log_format": st.sampled_from(["text", "json"]),
    "emf_detail": st.sampled_from(["service", "model", "all"]),
    "base_path": st.sampled_from(["", "/", "/ml", "/ml/", "/a/b"]),
    "api_keys": st.lists(st.from_regex("[0-9a-f]{64}", fullmatch=True)).map(tuple),
    "max_buffered_bytes": st.just(0) | st.integers(2 * 10**30, 10**31),
    "trusted_proxies": st.lists(st.sampled_from(["10.0.0.7", "10.0.0.0/8", "::1"])).map(tuple),
    "data_prefixes": st.lists(PREFIXES).map(tuple),
    "request_log_url": st.sampled_from(["", "postgresql://", "postgres://me@db:5432/requests?sslmode=require"]),
    "batch_input": st.just("") | PREFIXES,
    "batch_output": st.just("") | PREFIXES,
    "response_cache_url": st.sampled_from(["", "redis://h", "rediss://:a%20b@[::1]:6380/1?ssl_ca_certs=/ca.pem"]),
    "page": st.sampled_from(("", "true", "false", "On")),
}


def strategy(item: "Field[Any]") -> st.SearchStrategy[Any]:
    if item.name in NAMED:
        return NAMED[item.name]
    minimum = item.metadata["minimum"]
    kinds: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(minimum, 10**30) if minimum is not None else st.nothing(),
        float: st.floats(minimum, allow_infinity=False) if minimum is not None else st.nothing(),
        tuple: ORIGINS,
        str: TEXT,
    }
    return kinds[type(item.default)]


EVERY = st.fixed_dictionaries({}, optional={item.name: strategy(item) for item in fields(Settings)})


@pytest.mark.fuzz
@given(EVERY)
def test_round_trip(given_values: dict[str, Any]) -> None:
    before = Settings(**given_values)
    env = before.to_env()
    assert Settings.from_env(env) == before
    changed = [name.upper() for name, value in given_values.items() if value != DEFAULTS[name.upper()]]
    assert sorted(env) == sorted(changed)
    assert all(isinstance(value, str) for value in env.values())


def test_the_strategy_covers_every_field() -> None:
    assert all(not strategy(item).is_empty for item in fields(Settings))


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "Yes", "on", " true "])
def test_true(text: str) -> None:
    assert Settings.from_env({"MODEL_CONTROL": text}).model_control is True


@pytest.mark.parametrize("text", ["0", "false", "False", "NO", "off", "", " "])
def test_false(text: str) -> None:
    assert Settings.from_env({"ENABLE_METRICS": text}).enable_metrics is False


@pytest.mark.parametrize(
    ("text", "origins"),
    [("", ()), ("*", ("*",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b")), (",,", ())],
)
def test_lists(text: str, origins: tuple[str, ...]) -> None:
    assert Settings.from_env({"CORS_ORIGINS": text}).cors_origins == origins


NO_PREFIX = "DATA_PREFIXES must be URLs like s3://bucket/tensors, or absolute folders"
BAD_PREFIXES = (
    "s3://",
    "s3:///a",
    "s3://key:secret@bucket/a",
    "s3://b?x",
    "s3://b/a?x",
    "https://b/a",
    "/",
    "file:///",
    "file://a",
    "a",
    "../a",
    "/good,bad",
)
NO_FOLDER = "must be a URL like s3://bucket/files, or an absolute folder"
NO_REDIS = "RESPONSE_CACHE_URL must be like redis://HOST:6379/0 or rediss://:PASSWORD@HOST:6379/0"
BAD_CACHES = (
    "redis:",
    "redis://",
    "localhost:6379",
    "http://h:6379",
    "unix:///socket",
    "redis://a b",
    "redis://h:123456",
    "redis://h:x",
    "redis://h/keys",
    "redis://h#a",
    "redis://u:p@x@h",
    # What would turn the checks of a certificate off, or the time-outs.
    "rediss://h?ssl_cert_reqs=none",
    "rediss://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
    "redis://h?socket_timeout=9",
)
NO_DIGEST = "API_KEYS must be SHA-256 digests (64 digits of hex), not the keys: see `inferry key`"


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("MODEL_CACHE_SIZE", "0", "MODEL_CACHE_SIZE must be at least 1, got 0"),
        ("MODEL_CACHE_SIZE", "", "MODEL_CACHE_SIZE must be a whole number, got ''"),
        ("MODEL_CACHE_SIZE", "2.5", "MODEL_CACHE_SIZE must be a whole number, got '2.5'"),
        ("MODEL_CACHE_SIZE", "many", "MODEL_CACHE_SIZE must be a whole number, got 'many'"),
        ("MODEL_TIMEOUT", "0", "MODEL_TIMEOUT must be at least 0.001, got 0.0"),
        ("MODEL_TIMEOUT", "-1", "MODEL_TIMEOUT must be at least 0.001, got -1.0"),
        ("MODEL_TIMEOUT", "30s", "MODEL_TIMEOUT must be a number, got '30s'"),
        ("MODEL_TIMEOUT", "nan", "MODEL_TIMEOUT must be at least 0.001, got nan"),
        ("MODEL_TIMEOUT", "inf", "MODEL_TIMEOUT must be at least 0.001, got inf"),
        ("MODEL_REFRESH", "-0.1", "MODEL_REFRESH must be at least 0, got -0.1"),
        ("MODEL_CONTROL", "maybe", "MODEL_CONTROL must be true or false, got 'maybe'"),
        ("ENABLE_METRICS", "2", "ENABLE_METRICS must be true or false, got '2'"),
        ("DEBUG", "None", "DEBUG must be true or false, got 'None'"),
        ("MAX_REQUEST_BYTES", "0", "MAX_REQUEST_BYTES must be at least 1, got 0"),
        ("MAX_REQUEST_BYTES", "64M", "MAX_REQUEST_BYTES must be a whole number, got '64M'"),
        ("MAX_BUFFERED_BYTES", "-1", "MAX_BUFFERED_BYTES must be at least 0, got -1"),
        (
            "MAX_BUFFERED_BYTES",
            "134217727",
            "MAX_BUFFERED_BYTES must be at least twice MAX_REQUEST_BYTES (67108864), of which one client may have "
            "half; got 134217727",
        ),
        ("MAX_DEFERRED", "1", "MAX_DEFERRED must be at least 2, got 1"),
        *[
            ("TRUSTED_PROXIES", text, "TRUSTED_PROXIES must be addresses like 10.0.0.7, or networks like 10.0.0.0/8")
            for text in ("nginx", "10.0.0.1/8", "::1,a", "*")
        ],
        ("MAX_RESPONSE_BYTES", "-1", "MAX_RESPONSE_BYTES must be at least 0, got -1"),
        *[("DATA_PREFIXES", text, NO_PREFIX) for text in BAD_PREFIXES],
        *[
            (name, text, f"{name} {NO_FOLDER}")
            for name in ("BATCH_INPUT", "BATCH_OUTPUT")
            for text in BAD_PREFIXES[:-1]
        ],
        ("MAX_DATA_BYTES", "0", "MAX_DATA_BYTES must be at least 1, got 0"),
        ("API_KEYS", "my secret key", NO_DIGEST),
        ("API_KEYS", f"{DIGEST},{DIGEST[:-1]}", NO_DIGEST),
        ("API_KEYS", f"{DIGEST[:-1]}g", NO_DIGEST),
        *[("RESPONSE_CACHE_URL", url, NO_REDIS) for url in BAD_CACHES],
        ("RESPONSE_CACHE_TIMEOUT", "2ms", "RESPONSE_CACHE_TIMEOUT must be a number, got '2ms'"),
        ("RESPONSE_CACHE_SHARED", "all", "RESPONSE_CACHE_SHARED must be true or false, got 'all'"),
        ("INTRA_OP_THREADS", "-1", "INTRA_OP_THREADS must be at least 0, got -1"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got 'LOUD'"),
        ("LOG_LEVEL", "", "LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got ''"),
        ("EMF_DETAIL", "few", "EMF_DETAIL must be service, model or all, got 'few'"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT must be text or json, got 'xml'"),
        ("LOG_PAYLOADS", "-1", "LOG_PAYLOADS must be at least 0, got -1"),
        ("REQUEST_LOG_URL", "mysql://me:secret@db", "REQUEST_LOG_URL must begin with postgresql://"),
        ("REQUEST_LOG_RETENTION", "-1", "REQUEST_LOG_RETENTION must be at least 0, got -1"),
        ("TRACES", "otlp", "TRACES must be true or false, got 'otlp'"),
        ("PAGE", "maybe", "PAGE must be true or false, got 'maybe'"),
        ("PORT", "-1", "PORT must be at least 0, got -1"),
        ("PORT", "65536", "PORT must be at most 65535, got 65536"),
        ("PORT", "http", "PORT must be a whole number, got 'http'"),
        ("WORKERS", "0", "WORKERS must be at least 1, got 0"),
    ],
)
def test_bad_values(variable: str, text: str, message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_env({variable: text})
    assert str(caught.value) == message


def test_every_number_has_a_minimum_that_is_tested() -> None:
    """A number that may be anything is one that nobody thought about."""
    for item in fields(Settings):
        if type(item.default) in (int, float):
            with pytest.raises(InvalidSettings, match=f"^{item.name.upper()} must be at least"):
                Settings.from_env({item.name.upper(): str(item.metadata["minimum"] - 1)})


def test_the_digests_of_keys_are_not_shown() -> None:
    assert DIGEST not in repr(Settings(api_keys=(DIGEST,)))


@pytest.mark.parametrize("link", ["tcp://10.96.0.7:9090", "udp://10.96.0.7:53"])
def test_what_kubernetes_sets_for_a_service_is_no_setting(link: str) -> None:
    """A Service named "metrics" gives every pod METRICS_PORT."""
    assert Settings.from_env({"METRICS_PORT": link, "PORT": link, "WORKERS": "2"}) == Settings(workers=2)
    with pytest.raises(InvalidSettings, match="METRICS_PORT must be a whole number, got 'http://metrics'"):
        Settings.from_env({"METRICS_PORT": "http://metrics"})


def test_more_digits_than_python_converts() -> None:
    with pytest.raises(InvalidSettings, match="PORT must be a whole number"):
        Settings.from_env({"PORT": "9" * 5000})


def test_bad_values_in_code() -> None:
    with pytest.raises(InvalidSettings):
        Settings(workers=0)
    with pytest.raises(InvalidSettings):
        replace(Settings(), model_timeout=math.nan)
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def env_example() -> list[list[tuple[str, ...]]]:
    """The sections of .env.example: each is headed by comments alone, and has the lines of one name after another."""
    sections: list[list[tuple[str, ...]]] = []
    for block in (ROOT / ".env.example").read_text().removesuffix("\n").split("\n\n"):
        lines = tuple(block.split("\n"))
        if all(line.startswith("# ") for line in lines):
            sections.append([])
        else:
            sections[-1].append(lines)
    return sections


def test_env_example_lists_every_setting() -> None:
    """First come the settings, in their order: the help of each, and its default, commented out."""
    listed, *_ = env_example()
    assert all(item.default is not MISSING for item in fields(Settings))
    formatted: dict[type, Callable[[Any], str]] = {
        str: str,
        int: str,
        float: str,
        bool: lambda value: str(value).lower(),
        tuple: ",".join,
    }
    expected = [
        (f"# {item.metadata['help']}", f"#{item.name.upper()}={formatted[type(item.default)](item.default)}")
        for item in fields(Settings)
    ]
    assert listed == expected


def test_env_example_reads_back_as_the_defaults() -> None:
    settings, *_ = env_example()
    env = dict(line.removeprefix("#").split("=", 1) for _, line in settings)
    assert env.keys() == DEFAULTS.keys()
    assert Settings.from_env(env) == Settings()


def test_env_example_is_one_name_after_another() -> None:
    """A name of Compose or of the workflow is no setting's; a password has no value."""
    settings, *others = env_example()
    lines = [lines for section in others for lines in section]
    names = [line.partition("=")[0].removeprefix("#") for _, line in lines]
    assert len({*names, *DEFAULTS}) == len(names) + len(settings)
    assert all(explained.startswith("# ") and re.fullmatch("#?[A-Z0-9_]+=.*", line) for explained, line in lines)
    assert all(line.endswith("=") for _, line in lines if re.search("PASSWORD|SECRET|_KEY=", line))
