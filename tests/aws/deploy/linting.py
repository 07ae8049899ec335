"""cfn-lint over templates."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# The CDK's own noise: it repeats dependencies that a reference implies.
IGNORED = "W3005"


def lint(templates: Iterable[Path]) -> str:
    """What it finds; nothing is the empty text."""
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--ignore-checks", IGNORED, "--", *map(str, templates)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert bool(done.returncode) == bool(done.stdout), done.stderr
    return done.stdout + done.stderr
