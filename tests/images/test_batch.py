"""The Lambda image's other handler under AWS's runtime emulator: files in a bucket of moto on loopback."""

from collections.abc import Iterator

import lambda_files as files
import pytest
from containers import Image, emulated
from emulator import Emulator


@pytest.fixture(scope="module")
def bucket() -> Iterator[files.Bucket]:
    with files.bucket() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def function(
    built: dict[str, Image], bucket: files.Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emulator]:
    command, folder = "functions.batch.handler", tmp_path_factory.mktemp("container")
    with emulated(built["lambda"], "inferry-test-batch", folder, command, **bucket.environment) as emulator:
        yield emulator


@pytest.mark.parametrize("name", files.FILES)
def test_every_event_of_files_is_done(function: Emulator, bucket: files.Bucket, name: str) -> None:
    files.check_event(function, bucket, name)


def test_a_job_over_parquet(function: Emulator, bucket: files.Bucket) -> None:
    files.check_parquet(function, bucket)
