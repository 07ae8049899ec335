"""Images of ours and stand-ins for those of others, run by podman where there is no systemd."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from containers import BASE, BASE_IMAGE, CERTIFICATES, IMAGES, ROOT, build, run

STANDINS = ROOT / ".tools" / "standins"
FILES = ROOT / "tests" / "platform" / "standins"
ROOT_IMAGE = "localhost/inferry-standins:latest"
MLFLOW_IMAGE = "localhost/inferry-mlflow:latest"
# Those whose images are not ours.
PARTS = (
    *("nginx", "bucket", "postgres", "redis", "prometheus", "grafana"),
    *("nginx-exporter", "postgres-exporter", "redis-exporter"),
)
ENVIRONMENT = {"CONTAINERS_CONF": str(FILES / "containers.conf"), "DISABLE_HC_SYSTEMD": "true"}
SECONDS = 120.0


def missing(*tools: Path) -> str:
    """Why no containers can be tested here, or that one of `tools` is not there; empty when they can."""
    programs = ("buildah", "podman", "runc", "catatonit", "curl", "iptables")
    absent = [program for program in programs if shutil.which(program) is None]
    absent += [name for name in ("netavark", "aardvark-dns") if not Path("/usr/lib/podman", name).exists()]
    if absent:
        return f"{', '.join(absent)} missing: .ci/install installs them"
    files = (*tools, BASE, STANDINS / "root.tar", STANDINS / "bucket" / "weed", STANDINS / "client")
    absent = [str(path.relative_to(ROOT)) for path in files if not path.exists()]
    return f"{', '.join(absent)} missing: make test-platform makes them, as root" if absent else ""


def build_server() -> None:
    podman("import", "--quiet", str(BASE), BASE_IMAGE)
    build(IMAGES["server"])


def build_mlflow() -> None:
    secret = ("--secret", f"id=ca,src={CERTIFICATES}") if CERTIFICATES else ()
    base = ("--build-arg", f"BASE_IMAGE={BASE_IMAGE}")
    _build("deploy/compose/mlflow/Dockerfile", MLFLOW_IMAGE, *secret, *base, "deploy/compose/mlflow")


def build_standins(*parts: str) -> None:
    podman("import", "--quiet", str(STANDINS / "root.tar"), ROOT_IMAGE)
    root = ("--build-arg", f"ROOT={ROOT_IMAGE}", "--build-context", f"weed={STANDINS / 'bucket'}")
    for part in parts:
        _build(str(FILES / "Dockerfile"), standin(part), *root, "--target", part, str(FILES))


def _build(dockerfile: str, tag: str, *arguments: str) -> None:
    command = ("buildah", "bud", "--isolation", "chroot", "--layers", "--timestamp", "0")
    run(*command, "--file", dockerfile, "--tag", tag, *arguments)


def standin(part: str) -> str:
    """The image's name."""
    return f"localhost/inferry-standin-{part}:latest"


def podman(*arguments: str) -> str:
    """What podman prints; AssertionError with everything it said when it fails."""
    done = subprocess.run(
        ["podman", *arguments], env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


def eventually(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What the condition returns once that is true; whoever does not answer is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
            last: object = "it was not true"
        except (OSError, AssertionError) as exc:
            last = exc
        assert time.monotonic() < deadline, last
        time.sleep(0.2)
