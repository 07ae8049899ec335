"""Everything that compose.yaml has, brought up once for all tests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import compose
import onnx_models
import pytest
from compose import COMPOSE, Platform
from containers import ROOT
from standins import (
    MLFLOW_IMAGE,
    PARTS,
    STANDINS,
    build_mlflow,
    build_server,
    build_standins,
    eventually,
    missing,
    podman,
)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    reason = missing(COMPOSE)
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(f"COMPOSE IS NOT TESTED: {reason}")
    build_server()
    build_mlflow()
    build_standins(*PARTS)
    with compose.started(tmp_path_factory.mktemp("compose")) as platform:
        yield platform


class Registered(NamedTuple):
    """A version of a model in MLflow's registry, and the id of the logged model that it is."""

    name: str
    version: str
    id: str

    @property
    def path(self) -> str:
        return f"/v2/models/{self.name}/infer"


def with_client(folder: Path, *arguments: str, direct: bool = False) -> Any:
    """What register.py prints: MLflow's own client, in a container beside its server; `direct`: beside the bucket, too.

    `folder` is /models there.
    """
    volumes = {folder: "/models", STANDINS / "client": "/client", ROOT / "tests" / "platform": "/tests"}
    given = [part for item in volumes.items() for part in ("--volume", f"{item[0]}:{item[1]}:ro")]
    env = {
        "PYTHONPATH": "/client",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "ORT_DISABLE_TELEMETRY": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        # Else it asks the bucket itself, at an address that only containers know, for minutes.
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_S3_ENDPOINT_URL": "http://bucket:8333",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": compose.PASSWORDS["BUCKET_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": compose.PASSWORDS["BUCKET_SECRET_KEY"],
    }
    given += [part for item in env.items() for part in ("--env", "=".join(item))]
    networks = ["front", "store"] if direct else ["front"]
    joined = [part for name in networks for part in ("--network", f"{compose.PROJECT}_{name}")]
    command = ("--entrypoint", "python3", MLFLOW_IMAGE, "/tests/register.py", *arguments)
    name = ("--name", f"{compose.PROJECT}_client", "--user", "0:0")
    return json.loads(podman("run", "--rm", *joined, *name, *given, *command).splitlines()[-1])


def register(folder: Path, name: str, model: bytes, location: str = "") -> Registered:
    """A new version of `name`, whose files are right in the bucket where `location` says so."""
    (folder / "model.onnx").write_bytes(model)
    place = [location] if location else []
    said = with_client(folder, "onnx", name, "/models/model.onnx", *place, direct=bool(location))
    assert said["source"] == f"models:/{said['id']}"
    return Registered(name, said["version"], said["id"])


@pytest.fixture(scope="session")
def twice(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """A model that doubles its input, out of MLflow's registry, and served."""
    registered = register(tmp_path_factory.mktemp("twice"), "twice", onnx_models.scaled())
    eventually(lambda: platform.ask(registered.path, inputs()).status == 200)
    return registered


@pytest.fixture(scope="session")
def kept(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a registered model that multiplies by four, and keeps its responses."""
    files = {"kept/1/model.onnx": onnx_models.scaled(4.0), "kept/config.json": b'{"response_cache": {"enable": true}}'}
    folder = onnx_models.write(tmp_path_factory.mktemp("kept"), files) / "kept"
    registry = f"mlflow+http://127.0.0.1:{platform.ports['MLFLOW_PORT']}"
    subprocess.run([sys.executable, "-m", "inferry", "push", str(folder), registry], check=True, timeout=60)
    path = "/v2/models/kept/infer"
    eventually(lambda: platform.ask(path, inputs()).status == 200)
    return path


def inputs(rows: int = 1) -> dict[str, object]:
    data = [float(number) for number in range(3 * rows)]
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": data}]}
