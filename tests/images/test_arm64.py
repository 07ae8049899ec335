"""The packages for arm64, which the CDK deploys by default: there are all of them, and they predict.

No image is built for it here: its packages are pruned as the Dockerfile does it, and an emulated processor runs them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import onnx_models
import prepare_by_table
import prepared_models
import pytest
from containers import ROOT, run
from loopback import free_port

PYTHON_ROOT = ROOT / ".tools" / "images" / "arm64"
QEMU = "qemu-aarch64-static"
UV = str(Path(sys.executable).with_name("uv"))
# The C library of AWS's base images is that of Amazon Linux 2023.
PLATFORM = ("--python-platform", "aarch64-manylinux_2_34", "--only-binary", ":all:")
EXTRAS = {"lambda": ("--extra", "aws", "--extra", "batch"), "server": ("--extra", "server", "--extra", "grpc")}
# qemu shows the host's own to programs, and ONNX Runtime doesn't survive the sight of another processor.
CPUINFO = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""


def resolved(image: str, python: str) -> str:
    """The pins of the image's packages, of which each has a wheel."""
    constraints = ("--quiet", "--no-header", "--constraints", "constraints.txt")
    return run(
        UV, "pip", "compile", *constraints, *PLATFORM, *EXTRAS[image], "--python-version", python, "pyproject.toml"
    )


@pytest.mark.parametrize("image", EXTRAS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_package_has_a_wheel(image: str, python: str) -> None:
    assert "onnxruntime==" in resolved(image, python)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image of the functions has in /var/task."""
    folder = installed("lambda", tmp_path_factory)
    for name in ("functions", "models"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def installed(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the image's packages and inferry, pruned."""
    reason = missing()
    if reason:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"NOTHING IS TESTED ON ARM64: {reason}")
    (PYTHON_ROOT / "proc").mkdir(exist_ok=True)
    (PYTHON_ROOT / "proc/cpuinfo").write_text(CPUINFO)
    folder, pins = tmp_path_factory.mktemp("task"), tmp_path_factory.mktemp("pins") / "requirements.txt"
    pins.write_text(resolved(image, "3.13"))
    target = ("--quiet", "--target", str(folder))
    run(UV, "pip", "install", *target, *PLATFORM, "--python-version", "3.13", "--requirement", str(pins))
    run(UV, "pip", "install", *target, "--no-deps", ".")
    run(*emulation(folder), "images/prune.py", str(folder))
    return folder


def missing() -> str:
    """Why nothing can be tested; empty when it can."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} is missing: .ci/install installs it"
    return "" if PYTHON_ROOT.exists() else f"{PYTHON_ROOT} is missing: make test-images makes it, with mmdebstrap"


def emulation(folder: Path, models: Path | None = None, **env: str) -> tuple[str, ...]:
    """The command that is Python for arm64, with the packages in a folder."""
    environment = {
        "PYTHONPATH": str(folder),
        "MODEL_PATH": str(models or folder / "models"),
        "ORT_DISABLE_TELEMETRY": "1",
        # What was pruned too far fails.
        "LD_BIND_NOW": "1",
        **env,
    }
    given = [part for name, value in environment.items() for part in ("-E", f"{name}={value}")]
    python = str(PYTHON_ROOT / "usr/bin/python3.13")
    return (QEMU, "-cpu", "neoverse-n1", "-L", str(PYTHON_ROOT), *given, python)


def emulated(function: Path, *arguments: str) -> str:
    """What it prints."""
    return run(*emulation(function), *arguments)


def test_the_processor_is_the_other(function: Path) -> None:
    assert emulated(function, "-c", "import platform; print(platform.machine())") == "aarch64\n"


def test_every_model_predicts(function: Path) -> None:
    """With all modules that the image's build imports."""
    (step,) = re.findall(r"predict\.py ([^&]+)&&", (ROOT / "functions/Dockerfile").read_text())
    said = emulated(function, "images/predict.py", *step.replace("\\", "").split())
    assert said.splitlines() == [f"model {name} predicts" for name in sorted(models())]


def models() -> list[str]:
    return [path.name for path in (ROOT / "models").iterdir() if any(path.glob("*/model.onnx"))]


# Lambda's sandbox has no CPUs there, on arm64.
WITHOUT_CPUS = ("unshare", "--map-root-user", "--mount", "sh", "-c")
HIDING = 'mount -t tmpfs none /sys/devices/system/cpu && exec "$@"'


def said_without_cpus(function: Path, script: str, **env: str) -> str:
    """What a script writes to standard error where /sys lists no CPUs."""
    command = (*WITHOUT_CPUS, HIDING, "sh", *emulation(function, None, **env), "-c", script)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_machine_that_lists_no_cpus(function: Path) -> None:
    """ONNX Runtime alone writes of it, the function nothing but its own lines."""
    assert "Error in cpuinfo: failed to parse " in said_without_cpus(function, "import onnxruntime")
    script = "import functions.api as f; f.handler({'model_name': 'digits', 'ready': True}, type('Context', (), {"
    script += "'aws_request_id': 'r', 'get_remaining_time_in_millis': lambda _: 30_000})())"
    said = said_without_cpus(function, script, DEFAULT_MODEL="digits", LOG_FORMAT="json")
    lines = [json.loads(line)["message"].partition(" in ")[0] for line in said.splitlines()]
    assert lines == ["loaded model 'digits' version 2", "GET /v2/models/digits/ready 200"]


def test_jobs_of_every_format(function: Path) -> None:
    assert "csv, parquet, tsv, feather, orc, npy, npz" in emulated(function, "images/jobs.py")


def test_what_x86_prepared(function: Path, tmp_path: Path) -> None:
    """Portable forms have the bits here that the models themselves have here; a native one is left alone."""
    plain, prepared = tmp_path / "plain", tmp_path / "prepared"
    onnx_models.write(
        plain,
        {
            "conv/1/model.onnx": prepared_models.convolutions(),
            "product/1/model.onnx": prepared_models.products(),
            "qdq/1/model.onnx": prepared_models.quantised(),
        },
    )
    # What is kept goes by a table of costs: on a busy machine others might win.
    command = (sys.executable, prepare_by_table.__file__, str(plain), str(prepared))
    subprocess.run(command, env={**os.environ, "MODEL_CACHE_DIR": str(tmp_path / "cache")}, check=True)
    theirs, ours = (
        json.loads(emulated(function, prepared_models.__file__, "serve", str(folder))) for folder in (plain, prepared)
    )
    assert {name: form for name, (form, _, _) in ours.items()} == dict.fromkeys(theirs, "portable")
    assert ours["conv"][1] == ["its native form is for other kinds of CPU"]
    assert {name: outputs for name, (_, _, outputs) in ours.items()} == {
        name: outputs for name, (_, _, outputs) in theirs.items()
    }


def test_the_server_predicts_over_http(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = installed("server", tmp_path_factory)
    port = free_port()
    command = emulation(folder, ROOT / "images" / "models", HOST="127.0.0.1", PORT=str(port))
    server = subprocess.Popen([*command, "-m", "inferry", "serve"], cwd=ROOT)
    try:
        ready = [sys.executable, str(ROOT / "deploy" / "server" / "healthy.py")]
        deadline = time.monotonic() + 120
        while subprocess.run(ready, env={"PORT": str(port)}, capture_output=True).returncode:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2.5, -3]}]
        request = Request(f"http://127.0.0.1:{port}/v2/models/twice/infer", json.dumps({"inputs": inputs}).encode())
        with urlopen(request, timeout=60) as answer:
            assert json.load(answer)["outputs"][0]["data"] == [2.0, 5.0, -6.0]
    finally:
        server.kill()
        server.wait()
