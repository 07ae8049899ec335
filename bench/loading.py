"""Loads of a model of 435 MB: what it costs that nobody can change what is served."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory

from .measure import ROOT, ChildFailed, ratio, run, say
from .table import Row

CHILD = (sys.executable, "-m", "bench.children.loading")
WAYS = {
    "in place": "where nobody writes, mapped",
    "copied": "from a folder, copied into the cache",
    "again": "from a folder, whose copy is in the cache",
    "in memory": "from a folder, as bytes (not what inferry does)",
    "whole": "from a folder, one file without external data",
}


@dataclass(frozen=True)
class Load:
    """Seconds of CPU of all processes together, seconds until the last was ready, their own bytes, and the cache's."""

    cpu: float
    wall: float
    private: float
    disk: float

    def text(self) -> str:
        """For the table."""
        memory, disk = f"{self.private / 1e6:.0f} MB private", f"{self.disk / 1e6:.0f} MB of disk"
        return f"{self.cpu:.2f} s CPU, {self.wall:.2f} s, {memory}, {disk}"


def loading(quick: bool) -> Iterator[Row]:
    """A row for each way with one process, and with four that start together."""
    with TemporaryDirectory() as temporary:
        folder, cache = Path(temporary, "models"), Path(temporary, "cache")
        say("loading: a model of 435 MB")
        run((*CHILD, "make", str(folder)), os.environ)
        for processes in (1, 4):
            say(f"loading: {processes} at a time, {len(WAYS)} ways")
            loads: dict[str, list[Load]] = {way: [] for way in WAYS}
            for _ in range(1 if quick else 5):
                for way, found in loads.items():
                    if way != "again":  # which finds what "copied" left
                        rmtree(cache, ignore_errors=True)
                    found.append(together(way, folder, cache, processes))
            seconds = {way: [load.cpu for load in found] for way, found in loads.items()}
            against = f"{median(seconds['in place']):.2f} s CPU in place"
            for way, found in loads.items():
                what = f"load of 435 MB, {processes} at a time, {WAYS[way]}"
                yield Row(what, middle(found).text(), against, ratio(seconds[way], seconds["in place"]))


def middle(loads: list[Load]) -> Load:
    """The medians."""
    cpu, wall, private, disk = (
        median(getattr(load, name) for load in loads) for name in ("cpu", "wall", "private", "disk")
    )
    return Load(cpu, wall, private, disk)


def together(way: str, folder: Path, cache: Path, processes: int) -> Load:
    """Loads in so many processes, which start at the same time and stay until all are ready."""
    command = (*CHILD, way, str(folder), str(cache))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(processes)]  # type: ignore[call-overload]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    spent = [json.loads(child.stdout.readline() or "null") for child in children]
    for child in children:
        errors = child.communicate()[1]
        if child.returncode:
            raise ChildFailed(f"{way}: {errors[-500:]}")
    disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.exists() else 0
    cpu, walls, private = ([load[name] for load in spent] for name in ("cpu", "wall", "private"))
    return Load(sum(cpu), max(walls), sum(private), disk)
