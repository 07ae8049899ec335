"""`inferry prepare` as a test wants it: everything is real but what a load, a run and the memory of a form cost.

A measurement on a busy machine can come out either way, so what is kept depends on none here:
`python prepare_by_table.py MODELS OUT [OPTION ...]`.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferry.cli import main as cli
from inferry.prepare import trials
from inferry.prepare.trials import Cost

# Seconds, seconds, bytes: of forms that are worth keeping, of one model that gains nothing, whatever its form.
GAINING = {
    "original": Cost(0.020, 0.005, 20e6),
    "portable": Cost(0.012, 0.005, 18e6),
    "native": Cost(0.003, 0.005, 4e6),
}
EQUAL = Cost(0.001, 0.0001, 1e6)
LARGE = 1_000_000


def measured(name: str, onnx: Path, said: Mapping[str, Any]) -> Cost:
    """In place of trials.measured."""
    size = sum(path.stat().st_size for path in onnx.parent.iterdir() if path.is_file())
    return GAINING.get(name, EQUAL) if size > LARGE else EQUAL


if __name__ == "__main__":
    trials.measured = measured
    sys.exit(cli.main(["prepare", *sys.argv[1:]]))
