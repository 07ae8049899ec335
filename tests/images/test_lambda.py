"""The image of the Lambda functions under AWS's runtime emulator, with the limits of a small function."""

from collections.abc import Iterator

import lambda_events as events
import pytest
from containers import Image, inside, inspect, peak_megabytes, podman, started
from emulator import EMULATOR, Emulator, free_ports, wait

NAME = "inferry-test-lambda"
ENVIRONMENT = {
    "AWS_LAMBDA_FUNCTION_NAME": "inferry",
    "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
    "DEFAULT_MODEL": "digits",
}


@pytest.fixture(scope="module")
def function(built: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A container of the image, its own command under the emulator."""
    image = built["lambda"]
    config = inspect(image)["Config"]
    port, runtime = free_ports()
    folder = tmp_path_factory.mktemp("container")
    given = [argument for name, value in ENVIRONMENT.items() for argument in ("--env", f"{name}={value}")]
    arguments = (*given, "--volume", f"{EMULATOR}:/emulator:ro", "--entrypoint", "/emulator", image.tag)
    addresses = (f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{runtime}")
    command = ("--log-level", "info", "--runtime-interface-emulator-address", *addresses)
    own = (*config["Entrypoint"], *config["Cmd"])
    with started(NAME, *arguments, *command, *own, log=folder / "stderr") as process:
        emulator = Emulator(port, folder, process)
        wait(emulator)
        yield emulator


@pytest.mark.parametrize("name", events.HTTP)
def test_every_event_is_answered(function: Emulator, name: str) -> None:
    answer = function.invoke(events.load(name))
    assert answer["statusCode"] == 200
    assert b'"digits"' in events.body(answer)


def test_it_may_be_restored_from_a_snapshot(built: dict[str, Image]) -> None:
    assert inspect(built["lambda"])["Config"]["Labels"]["com.amazonaws.lambda.feature.snapstart"] == "Allow"


BATCH = """
import os, subprocess, sys
from pyarrow import csv, parquet, table
kind = sys.argv[1]
read, write = {"csv": (csv.read_csv, csv.write_csv), "parquet": (parquet.read_table, parquet.write_table)}[kind]
write(table({"text": ["Storm brings heavy rain"]}), f"/tmp/lines.{kind}")
command = [sys.executable, "-m", "inferry", "batch", "--model", "newsline", f"/tmp/lines.{kind}", "/tmp/out/"]
subprocess.run(command, check=True, stdout=sys.stderr)
print(read(f"/tmp/out/lines.{kind}")["label"].to_pylist())
"""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_are_predicted(built: dict[str, Image], kind: str) -> None:
    assert inside(built["lambda"], "python3", "-c", BATCH, kind) == "['weather']\n"


def test_its_times(function: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    function.invoke(events.load("http-api"))
    with capsys.disabled():
        print(f"\nimage lambda: init {function.init_ms:.0f} ms, {peak_megabytes(NAME):.0f} MB of memory at most")
    assert function.init_ms < 10_000
    assert podman("ps", "--quiet", "--filter", f"name={NAME}").strip()
