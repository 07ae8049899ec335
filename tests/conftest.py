"""Every test starts with the same environment; FUZZ=long gives the property tests ten minutes instead of seconds."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

# What onnxruntime reads when it is first imported, by whatever test comes first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx_models
import pytest
from hypothesis import HealthCheck, settings
from inferry.observability.logs import LOGGERS
from inferry.runtime import onnx_file
from inferry.runtime.session import Session, SessionOptions
from inferry.settings import Settings
from registries import Registry, running

VARIABLES = {field.name.upper() for field in fields(Settings)}

settings.register_profile("short", max_examples=100, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "long", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("long" if os.environ.get("FUZZ") == "long" else "short")


@pytest.fixture(autouse=True)
def _clean_log() -> Iterator[None]:
    """The levels and handlers that a command sets are gone with its test."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(log.level, [*log.handlers], [*log.filters], log.propagate) for log in loggers]
    yield
    for log, (level, handlers, filters, propagate) in zip(loggers, before, strict=True):
        log.setLevel(level)
        log.handlers, log.filters, log.propagate = handlers, filters, propagate


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the shell that the tests were started from reaches a test."""
    for name in VARIABLES & os.environ.keys():
        monkeypatch.delenv(name)


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., str]:
    """`repository({"echo/1/model.onnx": onnx_models.identity(), ...})` is the path of a repository of these files."""

    def write(files: dict[str, bytes]) -> str:
        return str(onnx_models.write(tmp_path / "models", files))

    return write


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that answers as MLflow's, with nothing in it."""
    with running() as made:
        yield made


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., Session]:
    """`session(onnx_models.identity(), max_batch_size=8)` is that model, loaded as "m" on one thread."""

    def load(model: bytes, max_batch_size: int = 0) -> Session:
        path = tmp_path / "model.onnx"
        path.write_bytes(model)
        return Session(path, onnx_file.read(path), "m", SessionOptions(1, max_batch_size))

    return load
