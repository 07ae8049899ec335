"""The CPUs that this process may use."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from inferry.settings import Settings


def cpus(root: Path = Path("/")) -> int:
    """How many there are, a quota of control groups rounded up: a thread more than that stalls.

    The smallest quota counts, of the process's own groups and of those around them (cgroups(7), v1 and v2). `root` is
    where `proc` and `sys` are.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([count, *map(math.ceil, _quotas(root))])


def session_threads(settings: Settings) -> int:
    """Threads for one session: as many as CPUs were paid for, shared between the workers."""
    return settings.intra_op_threads or max(1, cpus() // settings.workers)


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that each group around this process allows, where it has a limit."""
    for top, group, read in _groups(root):
        for folder in (group, *group.parents):
            if folder.is_relative_to(top) and (quota := read(folder)):
                yield quota


def _groups(root: Path) -> Iterator[tuple[Path, Path, Callable[[Path], float | None]]]:
    """The tops of the hierarchies that limit CPUs, the process's group below each, and what reads a group's quota.

    In a container a group's path may be the host's, and nothing is there; then the top is the container's own group.
    """
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup", "0::/").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield mounted, mounted / path.lstrip("/"), _v2
        elif "cpu" in controllers.split(","):
            # However the file orders them, this is a link to where they are mounted together.
            yield mounted / "cpu", mounted / "cpu" / path.lstrip("/"), _v1


def _v2(folder: Path) -> float | None:
    return _quota(*_read(folder / "cpu.max").split())


def _v1(folder: Path) -> float | None:
    return _quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _quota(*texts: str) -> float | None:
    try:
        quota, period = map(int, texts)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None  # v1 has -1 for none


def _read(path: Path, missing: str = "") -> str:
    try:
        return path.read_text()
    except OSError:
        return missing
