"""Programs on a CPU that qemu emulates, with a /proc/cpuinfo of its own: qemu shows the host's."""

import json
import os
import platform
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import inferry
import prepared_models

QEMU = "qemu-x86_64-static"
SHARED = Path(inferry.__file__).parents[1]

# What Linux shows of them, as far as inferry looks.
FLAGS = {
    "Haswell-noTSX": "fpu sse sse2 ssse3 sse4_1 sse4_2 avx fma avx2 bmi1 bmi2",
    "Nehalem": "fpu sse sse2 ssse3 sse4_1 sse4_2",
    "max": "fpu sse sse2 ssse3 sse4_1 sse4_2 avx fma avx2 bmi1 bmi2",
}


class Cpu(NamedTuple):
    """A CPU of x86 by qemu's name; `own_flags` false leaves programs the host's /proc/cpuinfo."""

    name: str
    own_flags: bool = True

    def run(self, folder: Path, *arguments: str) -> str:
        """What helpers/prepared_models.py prints. `folder` is there for what is in the way."""
        path = os.pathsep.join([str(SHARED), *site.getsitepackages(), *sys.path])
        environment = {"PYTHONPATH": path, "ORT_DISABLE_TELEMETRY": "1", "HOME": str(folder)}
        root = folder / f"root-of-{self.name}"
        (root / "proc").mkdir(parents=True, exist_ok=True)
        if self.own_flags:
            text = f"processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: {FLAGS[self.name]}\n\n"
            (root / "proc/cpuinfo").write_text(text)
        command = [QEMU, "-cpu", self.name, *(["-L", str(root)] if self.own_flags else [])]
        program = [os.path.realpath(sys.executable), prepared_models.__file__, *arguments]
        done = subprocess.run([*command, *program], capture_output=True, text=True, env=environment, timeout=1200)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, folder: Path, repository: Path) -> Mapping[str, Any]:
        """What each model of a repository says there."""
        said: Mapping[str, Any] = json.loads(self.run(folder, "serve", str(repository)))
        return said


def missing() -> str:
    """Why nothing can be emulated; empty when it can."""
    if platform.machine() != "x86_64":
        return f"this Python is one for {platform.machine()}"
    return "" if shutil.which(QEMU) else f"{QEMU} is missing: .ci/install installs it"
