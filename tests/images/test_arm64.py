"""The function's packages for arm64, which the CDK deploys by default: there are all of them, and they predict.

No image is built for it here: its packages are pruned as the Dockerfile does it, and an emulated processor runs them.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import onnx_models
import prepared_models
import pytest
from containers import ROOT, run
from inferry.cli import main as cli

PYTHON_ROOT = ROOT / ".tools" / "images" / "arm64"
QEMU = "qemu-aarch64-static"
UV = str(Path(sys.executable).with_name("uv"))
# The C library of AWS's base images is that of Amazon Linux 2023.
PLATFORM = ("--python-platform", "aarch64-manylinux_2_34", "--only-binary", ":all:")
EXTRAS = ("--extra", "aws", "--extra", "batch")
# qemu shows the host's own to programs, and ONNX Runtime doesn't survive the sight of another processor.
CPUINFO = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""


def resolved(python: str) -> str:
    """The pins of the function's packages, of which each has a wheel."""
    constraints = ("--quiet", "--no-header", "--constraints", "constraints.txt")
    return run(UV, "pip", "compile", *constraints, *PLATFORM, *EXTRAS, "--python-version", python, "pyproject.toml")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_package_has_a_wheel(python: str) -> None:
    assert "onnxruntime==" in resolved(python)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image has in /var/task."""
    reason = missing()
    if reason:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"NOTHING IS TESTED ON ARM64: {reason}")
    (PYTHON_ROOT / "proc").mkdir(exist_ok=True)
    (PYTHON_ROOT / "proc/cpuinfo").write_text(CPUINFO)
    folder, pins = tmp_path_factory.mktemp("task"), tmp_path_factory.mktemp("pins") / "requirements.txt"
    pins.write_text(resolved("3.13"))
    target = ("--quiet", "--target", str(folder))
    run(UV, "pip", "install", *target, *PLATFORM, "--python-version", "3.13", "--requirement", str(pins))
    run(UV, "pip", "install", *target, "--no-deps", ".")
    emulated(folder, "images/prune.py", str(folder))
    for name in ("functions", "models"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def missing() -> str:
    """Why nothing can be tested; empty when it can."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} is missing: .ci/install installs it"
    return "" if PYTHON_ROOT.exists() else f"{PYTHON_ROOT} is missing: make test-images makes it, with mmdebstrap"


def emulated(function: Path, *arguments: str) -> str:
    """What Python for arm64 prints, with the packages in a folder."""
    environment = {
        "PYTHONPATH": str(function),
        "MODEL_PATH": str(function / "models"),
        "ORT_DISABLE_TELEMETRY": "1",
        # What was pruned too far fails.
        "LD_BIND_NOW": "1",
    }
    given = [part for name, value in environment.items() for part in ("-E", f"{name}={value}")]
    python = str(PYTHON_ROOT / "usr/bin/python3.13")
    return run(QEMU, "-cpu", "neoverse-n1", "-L", str(PYTHON_ROOT), *given, python, *arguments)


def test_the_processor_is_the_other(function: Path) -> None:
    assert emulated(function, "-c", "import platform; print(platform.machine())") == "aarch64\n"


def test_every_model_predicts(function: Path) -> None:
    """With all modules that the image's build imports."""
    (step,) = re.findall(r"predict\.py ([^&]+)&&", (ROOT / "functions/Dockerfile").read_text())
    said = emulated(function, "images/predict.py", *step.replace("\\", "").split())
    assert said.splitlines() == [f"model {name} predicts" for name in sorted(models())]


def models() -> list[str]:
    return [path.name for path in (ROOT / "models").iterdir() if any(path.glob("*/model.onnx"))]


def test_jobs_of_every_format(function: Path) -> None:
    assert "csv, parquet, npy" in emulated(function, "images/jobs.py")


def test_what_x86_prepared(function: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Portable forms have the bits here that the models themselves have here; a native one is left alone."""
    monkeypatch.setenv("MODEL_CACHE_DIR", str(tmp_path / "cache"))
    plain, prepared = tmp_path / "plain", tmp_path / "prepared"
    onnx_models.write(
        plain,
        {
            "conv/1/model.onnx": prepared_models.convolutions(),
            "product/1/model.onnx": prepared_models.products(),
            "qdq/1/model.onnx": prepared_models.quantised(),
        },
    )
    assert cli.main(["prepare", str(plain), str(prepared)]) == 0
    theirs, ours = (
        json.loads(emulated(function, prepared_models.__file__, "serve", str(folder))) for folder in (plain, prepared)
    )
    assert {name: form for name, (form, _, _) in ours.items()} == dict.fromkeys(theirs, "portable")
    assert ours["conv"][1] == ["its native form is for other kinds of CPU"]
    assert {name: outputs for name, (_, _, outputs) in ours.items()} == {
        name: outputs for name, (_, _, outputs) in theirs.items()
    }
