"""What the rows share: child processes and their samples, medians, copies of the example models."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"

Samples: TypeAlias = dict[str, list[float]]


class ChildFailed(Exception):
    """A process that was to be measured failed; the text is the end of what it wrote."""


def say(text: str) -> None:
    """Progress, for who waits."""
    print(text, file=sys.stderr, flush=True)


def sample(child: str, *arguments: object) -> Samples:
    """What `bench/children/CHILD.py` prints."""
    command = (sys.executable, "-m", f"bench.children.{child}", *map(str, arguments))
    samples: Samples = json.loads(run(command, os.environ))
    return samples


def run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What the command prints. ChildFailed when it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ChildFailed(f"{' '.join(command[1:4])} exited with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the quotients of neighbours: what slows the machine for a while slows both."""
    return median(value / other for value, other in zip(values, others, strict=True))


def milliseconds(seconds: Sequence[float]) -> str:
    """The median."""
    return f"{median(seconds) * 1e3:.1f} ms"


def microseconds(seconds: Sequence[float]) -> str:
    """The median."""
    return f"{median(seconds) * 1e6:.1f} us"


@contextmanager
def repository(model: str, without: str = "") -> Iterator[Path]:
    """A repository that holds one of the example models only, its config.json `without` a key; gone afterwards."""
    with TemporaryDirectory() as folder:
        copy = shutil.copytree(MODELS / model, Path(folder, model))
        config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
        config.pop(without, None)
        (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
        yield Path(folder)
