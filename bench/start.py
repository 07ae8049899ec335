"""Time and memory from a process's start to its first prediction, against NumPy and ONNX Runtime alone."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from .measure import MODELS, ROOT, ChildFailed, milliseconds, ratio, repository, run, say
from .peers.example import example, infer_body
from .table import MEGABYTES, Row, Target

CHILDREN = ROOT / "bench/children"
TRIES = 5
CPU, WALL, MEMORY = Target(1.30), Target(1.45), Target(25)


@dataclass(frozen=True)
class Start:
    """Seconds of a process that predicted once."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Starts:
    """The processes to compare."""

    alone: tuple[str, ...]
    hand: tuple[str, ...]
    loop: tuple[str, ...]
    environment: dict[str, str]


def cold(quick: bool) -> Iterator[Row]:
    """Rows of CPU and wall time; the targets are judged on the request driven by hand."""
    pairs = 5 if quick else 25
    with prepared() as starts:
        say(f"cold: {pairs} times three starts")
        for command in (starts.alone, starts.hand, starts.loop):
            spend(command, starts.environment)  # compiles what it imports
        runs = [
            tuple(spend(command, starts.environment) for command in (starts.alone, starts.hand, starts.loop))
            for _ in range(pairs)
        ]
    alone, hand, loop = zip(*runs, strict=True)
    for starts_of, name, targets in (
        (hand, "cold start", (CPU, WALL)),
        (loop, "cold start in asyncio.run", (None, None)),
    ):
        for kind, target in zip(("cpu", "wall"), targets, strict=True):
            ours, theirs = ([getattr(start, kind) for start in starts] for starts in (starts_of, alone))
            against = f"{milliseconds(theirs)} numpy + onnxruntime alone"
            yield Row(f"{name}, {kind}", milliseconds(ours), against, ratio(ours, theirs), target)


def memory(quick: bool) -> Iterator[Row]:
    """The row of resident memory."""
    with prepared() as starts:
        say("memory: some starts")
        for command in (starts.alone, starts.loop):
            spend(command, starts.environment)
        runs = [
            [int(run((*command, "rss"), starts.environment)) / 1024 for command in (starts.alone, starts.loop)]
            for _ in range(3 if quick else 9)
        ]
    alone, ours = (median(values) for values in zip(*runs, strict=True))
    against = f"{alone:.1f} MB numpy + onnxruntime alone"
    yield Row("resident memory, digits", f"{ours:.1f} MB", against, ours - alone, MEMORY, MEGABYTES)


@contextmanager
def prepared() -> Iterator[Starts]:
    """The commands, in an environment that keeps the bytecode of everything they import in a folder of its own."""
    values = ",".join(map(str, example()["inputs"][0]["data"]))
    python = (sys.executable,)
    with repository("digits") as folder, TemporaryDirectory() as bytecode:
        ours = (*python, str(CHILDREN / "ours.py"), str(folder), infer_body().decode())
        # OpenBLAS's idle threads would spin for some 50 ms of CPU in all of them, which makes any ratio look better.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "OPENBLAS_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield Starts(
            (*python, str(CHILDREN / "alone.py"), str(MODELS / "digits/2/model.onnx"), values),
            (*ours, "hand"),
            (*ours, "loop"),
            environment,
        )


def spend(command: tuple[str, ...], environment: dict[str, str]) -> Start:
    """Run the command to its end, again when it asks for it. ChildFailed unless it exits with 0."""
    for _ in range(TRIES):
        start = time.perf_counter()
        pid = os.posix_spawn(command[0], command, environment)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - start
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return Start(usage.ru_utime + usage.ru_stime, wall)
        if code != os.EX_TEMPFAIL:
            break
        say(f"cold: {Path(command[1]).name} was interrupted, once more")
    raise ChildFailed(f"{Path(command[1]).name} exited with {code}")
