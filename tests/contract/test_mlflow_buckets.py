"""Versions of MLflow's registry whose files are in S3, Azure or Google Cloud: read and pushed past its server."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx_models
import pytest
from inferry.cli.main import main
from inferry.errors import StoreError
from inferry.repository.repository import open_repository
from inferry.storage.files import open_files
from registries import Registry, Version, mlmodel


def mlflows(url: str) -> str:
    """The URL as MLflow has it."""
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    return f"wasbs://{bucket}@inferry.blob.core.windows.net/{path}" if scheme == "az" else url


@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_files_right_in_a_bucket(
    registry: Registry, new_bucket: Callable[[str], str], tmp_path: Path, scheme: str
) -> None:
    place = f"{new_bucket(scheme)}/1/models/m-1/artifacts"
    onnx, data = onnx_models.external(2.0, "a1b2.data")
    for name, content in {"model.onnx": onnx, "a1b2.data": data, "MLmodel": mlmodel()}.items():
        open_files(place).create(name, content)
    registry.models = {"scale": {"1": Version({}, uri=mlflows(place))}}
    repository = open_repository(registry.url, cache=tmp_path / "cache")
    assert repository.problems == []
    repository.get("scale")
    assert repository.entry("scale", "1").names == ("model.onnx", "a1b2.data")
    assert not any("artifacts" in asked for asked in registry.asked)


@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_files_that_were_written_over_are_looked_at_again(
    registry: Registry, new_bucket: Callable[[str], str], tmp_path: Path, scheme: str
) -> None:
    """What is served is what is there now, and not a part of each."""
    place = f"{new_bucket(scheme)}/1"
    for name, content in {"model.onnx": onnx_models.scaled(2.0), "MLmodel": mlmodel()}.items():
        open_files(place).create(name, content)
    registry.models = {"scale": {"1": Version({}, uri=mlflows(place))}}
    repository = open_repository(registry.url, cache=tmp_path / "cache")
    open_files(place).delete(["model.onnx"])
    open_files(place).create("model.onnx", onnx_models.scaled(3.0) + b"\x32\x00")
    with pytest.raises(StoreError, match=r"was replaced since it was listed"):
        repository._store.fetch(repository.entry("scale", "1").files, None)
    assert repository.get("scale").digest == hashlib.sha256(onnx_models.scaled(3.0) + b"\x32\x00").hexdigest()


@pytest.mark.parametrize("scheme", ["s3", "az"])
def test_a_push_right_into_a_bucket(
    registry: Registry, new_bucket: Callable[[str], str], tmp_path: Path, scheme: str
) -> None:
    place = f"{new_bucket(scheme)}/1/models/m-1/artifacts"
    registry.place = mlflows(place)
    (tmp_path / "scale.onnx").write_bytes(onnx_models.scaled())
    assert main(["push", str(tmp_path / "scale.onnx"), registry.url]) == 0
    assert open_files(place).read("model.onnx") == onnx_models.scaled()
    assert open_repository(registry.url, cache=tmp_path / "cache").get("scale").version == "1"
