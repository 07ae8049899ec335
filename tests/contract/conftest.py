"""Servers that the contract tests share: starting one takes longer than most tests."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import databases
import googlestorage
import onnx_models
import pytest
import services
from inferry.app import create_app
from inferry.http.asgi import ASGIApp
from inferry.service import Service
from inferry.settings import Settings
from loopback import free_port
from servers import EXAMPLES, Server, serving
from tiny import MAX_REQUEST_BYTES, TINY

# A URL's scheme, and the fixture of the service behind it.
BUCKETS = {"s3": "s3", "az": "azurite", "gs": "google"}


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over the example models, with places for requests that are answered later."""
    folder = tmp_path_factory.mktemp("examples")
    env = {"BATCH_INPUT": f"{folder}/in", "BATCH_OUTPUT": f"{folder}/out", "GRPC_PORT": str(free_port())}
    with serving(EXAMPLES, **env) as server:
        yield server


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over TINY that keeps every model loaded and takes bodies of up to MAX_REQUEST_BYTES."""
    folder = onnx_models.write(tmp_path_factory.mktemp("tiny"), TINY)
    env = {"MODEL_CACHE_SIZE": "64", "MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES), "GRPC_PORT": str(free_port())}
    with serving(folder, **env) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[services.S3]:
    with services.moto() as running:
        yield running


@pytest.fixture(scope="session")
def azurite() -> Iterator[services.Azurite]:
    if not services.AZURITE.exists():
        pytest.skip(services.AZURITE_MISSING)
    with services.azurite() as running:
        yield running


@pytest.fixture(scope="session")
def google() -> Iterator[googlestorage.GoogleStorage]:
    with googlestorage.running() as running:
        yield running


@pytest.fixture(scope="session")
def cluster() -> Iterator[databases.Cluster]:
    """A PostgreSQL."""
    if not databases.BINARIES.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(databases.MISSING)
        pytest.skip(databases.MISSING)
    with databases.running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def service_of(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """`service_of("gs")` is the running service behind such URLs."""
    return lambda scheme: request.getfixturevalue(BUCKETS[scheme])


@pytest.fixture
def new_bucket(service_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """`new_bucket("gs")` is the URL of an empty bucket, and the environment has what opens it."""

    def create(scheme: str) -> str:
        service = service_of(scheme)
        for variable, value in {"NO_PROXY": services.HOST, **service.environment}.items():
            monkeypatch.setenv(variable, value)
        name = f"bucket-{secrets.token_hex(4)}"
        service.create(name)
        return f"{scheme}://{name}"

    return create


@pytest.fixture
def app(repository: Callable[..., str]) -> Iterator[Callable[..., ASGIApp]]:
    """`app({"m.onnx": onnx_models.identity()}, default_model="m")` is the application over them, in this process."""
    with ExitStack() as stack:

        def make(files: dict[str, bytes], **settings: Any) -> ASGIApp:
            service = Service.from_settings(Settings(model_path=repository(files), **settings))
            stack.callback(service.close)
            return create_app(service)

        yield make
