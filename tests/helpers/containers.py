"""Building and running the images without a daemon: buildah on a stand-in base, podman with a function's limits."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator import EMULATOR, Emulator, free_ports, wait

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / ".tools" / "images" / "base.tar"
BASE_IMAGE = "localhost/inferry-base:latest"
PROGRAMS = ("buildah", "podman", "runc")
# Of proxies that sign with a certificate of their own; the build's pip gets it as a secret.
CERTIFICATES = os.environ.get("PIP_CERT", "")
LIMITS = (
    *("--network", "host", "--read-only", "--tmpfs", "/tmp", "--memory", "1024m", "--cpus", "1"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    # Some hosts refuse the limits that podman asks for by itself.
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
)
# What Lambda sets.
FUNCTION = {
    "AWS_LAMBDA_FUNCTION_NAME": "inferry",
    "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
}


@dataclass(frozen=True)
class Image:
    """An image of the project; `megabytes`: what it may have on top of its base; `own`: what the others have not."""

    name: str
    dockerfile: str
    megabytes: int
    own: frozenset[str]

    @property
    def tag(self) -> str:
        return f"localhost/inferry-{self.name}:latest"


IMAGES = {
    image.name: image
    for image in (
        Image("lambda", "functions/Dockerfile", 192, frozenset({"functions", "awslambdaric"})),
        Image("azure", "azure_app/Dockerfile", 200, frozenset({"azure_app", "azure"})),
        Image("server", "deploy/server/Dockerfile", 165, frozenset({"PIL", "redis", "uvicorn", "uvloop"})),
    )
}
# Those with models in them.
FUNCTIONS = ("lambda", "azure")


def missing() -> str:
    """Why no image can be built here; empty when they can."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} missing: .ci/install installs them"
    if not BASE.exists():
        return f"{BASE} is missing: make test-images makes it, as root and with mmdebstrap"
    return ""


def run(*command: str) -> str:
    """What the command prints; AssertionError with everything it said when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def podman(*arguments: str) -> str:
    return run(*_podman(), *arguments)


def build(image: Image, *options: str) -> str:
    """The image's id."""
    secret = ("--secret", f"id=ca,src={CERTIFICATES}") if CERTIFICATES else ()
    command = ("buildah", "bud", "--isolation", "chroot", "--layers", "--timestamp", "0", *secret, *options)
    run(*command, "--build-arg", f"BASE_IMAGE={BASE_IMAGE}", "--file", image.dockerfile, "--tag", image.tag, ".")
    found: str = inspect(image)["Id"]
    return found


def inspect(image: Image) -> Any:
    return json.loads(podman("image", "inspect", image.tag))[0]


def megabytes(image: Image) -> float:
    """Of the image, without those of its base."""
    base = json.loads(podman("image", "inspect", BASE_IMAGE))[0]["Size"]
    return float(inspect(image)["Size"] - base) / 1e6


def inside(image: Image, *command: str) -> str:
    """What a command in the image prints, under the limits."""
    entrypoint, *arguments = command
    return podman("run", "--rm", *LIMITS, "--entrypoint", entrypoint, image.tag, *arguments)


@contextmanager
def started(name: str, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`podman run --name NAME ARGUMENTS` under the limits, its output in `log`; killed and removed afterwards."""
    with log.open("wb") as output:
        command = (*_podman(), "run", "--rm", "--name", name, *LIMITS, *arguments)
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            subprocess.run([*_podman(), "rm", "--force", "--time", "0", name], capture_output=True)
            process.wait(30)


@contextmanager
def emulated(image: Image, name: str, folder: Path, *command: str, **env: str) -> Iterator[Emulator]:
    """A container of the Lambda image under the emulator, with its own command or another; its log in `folder`."""
    config = inspect(image)["Config"]
    port, runtime = free_ports()
    given = [argument for item in {**FUNCTION, **env}.items() for argument in ("--env", "=".join(item))]
    arguments = (*given, "--volume", f"{EMULATOR}:/emulator:ro", "--entrypoint", "/emulator", image.tag)
    addresses = (f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{runtime}")
    options = ("--log-level", "info", "--runtime-interface-emulator-address", *addresses)
    own = (*config["Entrypoint"], *(command or config["Cmd"]))
    with started(name, *arguments, *options, *own, log=folder / "stderr") as process:
        emulator = Emulator(port, folder, process)
        wait(emulator)
        yield emulator


def peak_megabytes(name: str) -> float:
    """The most memory that a running container has used, by whichever version of cgroups is there."""
    group = json.loads(podman("inspect", name))[0]["State"]["CgroupPath"]
    files = (f"/sys/fs/cgroup{group}/memory.peak", f"/sys/fs/cgroup/memory{group}/memory.max_usage_in_bytes")
    return int(next(Path(file) for file in files if Path(file).exists()).read_text()) / 1e6


def _podman() -> tuple[str, ...]:
    runc = shutil.which("runc") or "runc"
    return ("podman", "--runtime", runc, "--events-backend", "file", "--cgroup-manager", "cgroupfs")
