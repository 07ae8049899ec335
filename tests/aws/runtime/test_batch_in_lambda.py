"""The function behind queues and buckets under Lambda's runtime: every event of files, over a bucket on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lambda_files as files
import pytest
from emulator import Emulator, emulated


@pytest.fixture(scope="module")
def bucket() -> Iterator[files.Bucket]:
    with files.bucket() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def function(python: Path, bucket: files.Bucket) -> Iterator[Emulator]:
    env: dict[str, Any] = {"MODEL_PATH": "models", **bucket.environment}
    with emulated("functions.batch.handler", python, **env) as emulator:
        yield emulator


@pytest.mark.parametrize("name", files.FILES)
def test_every_event_of_files_is_done(function: Emulator, bucket: files.Bucket, name: str) -> None:
    files.check_event(function, bucket, name)


def test_a_job_over_parquet(function: Emulator, bucket: files.Bucket) -> None:
    files.check_parquet(function, bucket)


def test_an_event_of_an_unknown_shape(function: Emulator) -> None:
    failure = function.invoke({"a": 1})
    assert (failure["errorType"], "got an object with 'a'" in failure["errorMessage"]) == ("InvalidRequest", True)
