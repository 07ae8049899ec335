"""The image of the Lambda functions under AWS's runtime emulator, with the limits of a small function."""

from collections.abc import Iterator

import lambda_events as events
import pytest
from containers import Image, emulated, inspect, peak_megabytes, podman
from emulator import Emulator

NAME = "inferry-test-lambda"


@pytest.fixture(scope="module")
def function(built: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A container of the image with its own command."""
    with emulated(built["lambda"], NAME, tmp_path_factory.mktemp("container"), DEFAULT_MODEL="digits") as emulator:
        yield emulator


@pytest.mark.parametrize("name", events.HTTP)
def test_every_event_is_answered(function: Emulator, name: str) -> None:
    answer = function.invoke(events.load(name))
    assert answer["statusCode"] == 200
    assert b'"digits"' in events.body(answer)


def test_it_may_be_restored_from_a_snapshot(built: dict[str, Image]) -> None:
    assert inspect(built["lambda"])["Config"]["Labels"]["com.amazonaws.lambda.feature.snapstart"] == "Allow"


def test_its_times(function: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    function.invoke(events.load("http-api"))
    with capsys.disabled():
        print(f"\nimage lambda: init {function.init_ms:.0f} ms, {peak_megabytes(NAME):.0f} MB of memory at most")
    assert function.init_ms < 10_000
    assert podman("ps", "--quiet", "--filter", f"name={NAME}").strip()
