"""`make azure-package`, on each Python: the zip, unpacked into an empty place, predicts where nothing else is."""

import json
import os
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from aws.runtime.install import PYTHONS, interpreter
from functionhosts import HERE, ROOT, RUNTIME
from servers import EXAMPLES, environment

# Flex Consumption's; an instance of 2 GB has one CPU.
START_SECONDS = 30.0
MEMORY_MB = 2048
CARD = json.loads((EXAMPLES / "digits" / "config.json").read_text())["example"]


@pytest.fixture(scope="module", params=PYTHONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def python(version: str) -> str:
    """Not of an environment: the app finds nothing there but the standard library."""
    found = interpreter(version)
    if found is None:
        pytest.skip(f"Python {version} is missing")
    return os.path.realpath(found)


@pytest.fixture(scope="module")
def zipped(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("package") / "app.zip"
    command = [python, str(ROOT / "deploy" / "azure" / "package.py"), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(done.stdout)
    assert " MB, unpacked " in done.stdout
    return target


@pytest.fixture(scope="module")
def app(zipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(folder)
    return folder


def test_what_is_at_the_top(app: Path) -> None:
    assert sorted(os.listdir(app)) == [
        ".python_packages", "__pycache__", "azure_app", "function_app.py", "host.json", "models", "requirements.txt",
        "shared",
    ]  # fmt: skip


def test_everything_is_compiled(app: Path, version: str) -> None:
    tag = f"cpython-{version.replace('.', '')}"
    missing = [
        str(path.relative_to(app))
        for path in app.rglob("*.py")
        if not (path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc").exists()
    ]
    assert missing == []


def test_it_starts_and_predicts_in_an_interpreter_that_has_nothing(app: Path, python: str, tmp_path: Path) -> None:
    body = json.dumps({"inputs": CARD["inputs"]})
    command = [python, "-I", "-S", str(HERE / "isolated.py"), str(app), str(RUNTIME), body]
    start = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, text=True)
    took = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["functions"], said["status"]) == (["api", "health", "probes"], "200")
    outputs = {output["name"]: output["data"] for output in said["answer"]["outputs"]}
    assert outputs.keys() >= CARD["expect"].keys()
    assert outputs["label"] == CARD["expect"]["label"]
    homes = (str(app), str(RUNTIME), str(HERE), said["library"])
    assert [file for file in said["files"] if not file.startswith(homes)] == []
    print(f"start to first prediction {took:.1f} s, {said['peak_mb']:.0f} MB")
    assert took < START_SECONDS
    assert said["peak_mb"] < MEMORY_MB
