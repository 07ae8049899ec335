"""Programs that others wrote: whether they are there, and what they say."""

import shutil
import subprocess
from typing import NamedTuple

SECONDS = 60


class Said(NamedTuple):
    """`status` is None where there is no such program; `output` what it printed, `error` its last line on stderr."""

    status: int | None
    output: str
    error: str


def ask(*command: str) -> Said:
    """Runs a program, which may take a minute."""
    program = shutil.which(command[0])
    if not program:
        return Said(None, "", "")
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Said(1, "", f"no answer in {SECONDS} seconds")
    lines = done.stderr.strip().splitlines()
    return Said(done.returncode, done.stdout.strip(), lines[-1] if lines else "")
