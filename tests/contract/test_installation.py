"""The wheel of this clone, in environments with nothing else: what an extra is for works with it, and only then."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path
from typing import TypeAlias

import onnx_models
import pytest
from inferry.errors import extra

ROOT = Path(__file__).parents[2]
SECONDS = 300
ROWS = "a,b\n1,2\n3,4\n"

# With the packages of which extras, and what is missing without it.
Environment: TypeAlias = Callable[[str], Path]

# What only an extra brings: statements of Python, or the arguments of inferry's command.
NEEDED: dict[str, str | list[str]] = {
    "aws": "import awslambdaric, httptools, mangum, inferry.observability.sinks.emf",
    "azure": "import azure.functions",
    "batch": ["batch", "rows.csv", "out.parquet", "--models", "model.onnx", "--columns", "a,b"],
    "clouds": "import inferry.jobs.runs.aws, inferry.jobs.runs.azure",
    "completion": ["completion", "bash"],
    "grpc": "import inferry.grpc.server",
    "images": "import inferry.runtime.images as images; images.check_installed()",
    "mlflow": "from inferry.repository.mlflow import mlmodel; mlmodel.parse(b'flavors: {sklearn: {}}')",
    "otel": "import inferry.observability.traces, inferry.observability.sinks.otlp",
    "postgres": "import inferry.observability.request_log.postgres",
    "quantize": "import inferry.runtime.eight_bits",
    "redis": "import inferry.response_cache.redis_store",
    "server": "import inferry.server.uvicorn_server, inferry.server.connection, PIL, uvloop",
    "size": "import inferry.sizing.pictures, matplotlib.figure",
    "tables": "import inferry.jobs.formats.snapshots, deltalake, pyiceberg.table",
}
# It only raises the floor of what the functions have anyway.
FLOORS = {"bench"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of what is in this folder."""
    folder = tmp_path_factory.mktemp("wheel")
    done([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`environment("[batch]")` is the folder of the programs of an environment with the wheel and this extra."""
    made: dict[str, Path] = {}

    def make(extras: str) -> Path:
        if extras not in made:
            folder = tmp_path_factory.mktemp("environment") / "venv"
            uv("venv", "--quiet", "--python", sys.executable, str(folder))
            python = folder / "bin/python"
            constraints = ("--constraint", str(ROOT / "constraints.txt"))
            uv("pip", "install", "--quiet", "--python", str(python), *constraints, f"{wheel}{extras}")
            made[extras] = python.parent
        return made[extras]

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with a model and rows for it."""
    (tmp_path / "model.onnx").write_bytes(onnx_models.identity("FP32", ["n", 2]))
    (tmp_path / "rows.csv").write_text(ROWS)
    return tmp_path


def uv(*arguments: str) -> None:
    done([sys.executable, "-m", "uv", *arguments], ROOT)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)


def done(command: list[str], folder: Path) -> str:
    ended = run(command, folder)
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def command(programs: Path, needed: str | list[str]) -> list[str]:
    if isinstance(needed, str):
        return [str(programs / "python"), "-c", needed]
    return [str(programs / "inferry"), *needed]


def test_the_wheel_holds_the_package_and_no_model(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(next(n for n in names if n.endswith("METADATA"))).decode())
    assert {name.split("/")[0] for name in names} == {"inferry", f"inferry-{metadata['Version']}.dist-info"}
    assert not [name for name in names if name.endswith((".onnx", ".data"))]
    assert {*metadata.get_all("Provides-Extra", [])} == NEEDED.keys() | FLOORS


def test_without_an_extra_models_are_inspected_and_asked(environment: Environment, folder: Path) -> None:
    inferry = str(environment("") / "inferry")
    assert re.fullmatch(r"inferry [\d.]+\n", done([inferry, "--version"], folder))
    assert "FP32" in done([inferry, "inspect", "model.onnx"], folder)
    (folder / "request.json").write_text(
        json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [3, 4]}]})
    )
    response = json.loads(done([inferry, "infer", "model.onnx", "--input", "request.json"], folder))
    assert response["y"] == [3, 4]


@pytest.mark.parametrize("name", NEEDED)
def test_what_needs_an_extra_works_with_it_alone(name: str, environment: Environment, folder: Path) -> None:
    assert run(command(environment(""), NEEDED[name]), folder).returncode == 1
    done(command(environment(f"[{name}]"), NEEDED[name]), folder)


def test_what_the_message_says_to_install_is_there(wheel: Path, environment: Environment, folder: Path) -> None:
    without = run([str(environment("") / "inferry"), "serve", "model.onnx"], folder)
    assert without.returncode == 1
    assert extra("server") in without.stderr
    assert f"'{wheel.name}[server]'" in without.stderr


def test_uvx_runs_the_command_from_a_wheel(wheel: Path, folder: Path) -> None:
    run_once = [sys.executable, "-m", "uv", "tool", "run", "--python", sys.executable, "--from", f"{wheel}[batch]"]
    done([*run_once, "inferry", *NEEDED["batch"]], folder)
    assert (folder / "out.parquet").stat().st_size > 0


def test_the_page_is_in_it_and_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {entry.filename: entry.compress_size for entry in archive.infolist()}
    files = [str(path.relative_to(ROOT / "shared")) for path in (ROOT / "shared/inferry/http/page").iterdir()]
    assert len(files) > 10
    assert sum(packed[file] for file in files) <= 60_000
    assert "inferry/http/docs.js" in packed
