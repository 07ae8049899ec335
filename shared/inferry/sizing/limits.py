"""Processes with the CPUs and the memory of a size: by control groups, or else by affinity and by stopping them."""

import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple, Protocol

# Of a quota: functions are stopped in steps of it as well.
PERIOD = 0.02
# Seconds between two looks at the CPU time of a process.
SHORTEST = 0.0005
# Starts a command in a group, whose folder comes first.
_INTO_GROUP = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class Ended(NamedTuple):
    """A process that ended: what it printed, its status, and whether it was ended for want of memory."""

    output: str
    error: str
    status: int
    out_of_memory: bool = False


class Limits(Protocol):
    """What limits a process; `how` says it for people."""

    how: str

    def run(self, command: Sequence[str], environment: Mapping[str, str], cpus: float, memory: int) -> Ended:
        """A command with so many CPUs and MB of memory, until it ends."""


def open_limits(root: Path = Path("/")) -> Limits:
    """Control groups of version 2 where this process may make one, else what needs no right."""
    group = _own_group(root)
    if group is not None:
        return GroupLimits(group)
    return StoppedLimits()


def _own_group(root: Path) -> Path | None:
    """The group below which others may be made that limit CPUs and memory."""
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::")), None)
        if path is None:
            return None
        group = root / "sys/fs/cgroup" / path.lstrip("/")
        controllers = (group / "cgroup.subtree_control").read_text().split()
        if {"cpu", "memory"} <= {*controllers} and os.access(group, os.W_OK):
            return group
    return None


class GroupLimits:
    """A control group for each process."""

    how = "control groups: a quota of CPU time and a limit of memory"

    def __init__(self, parent: Path) -> None:
        self._group = parent / f"inferry-size-{os.getpid()}"

    def run(self, command: Sequence[str], environment: Mapping[str, str], cpus: float, memory: int) -> Ended:
        """A command with so many CPUs and MB of memory, until it ends."""
        group = self._group
        group.mkdir()
        try:
            period = int(PERIOD * 1e6)
            (group / "cpu.max").write_text(f"{int(cpus * period)} {period}")
            (group / "memory.max").write_text(str(memory << 20))
            with suppress(OSError):  # a kernel without swap has none
                (group / "memory.swap.max").write_text("0")
            inside = ("sh", "-c", _INTO_GROUP, str(group), *command)
            done = subprocess.run(inside, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
            events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
            return Ended(done.stdout, done.stderr, done.returncode, int(events.get("oom_kill", 0)) > 0)
        finally:
            with suppress(OSError):
                group.rmdir()


class StoppedLimits:
    """So many whole CPUs, and a process that is stopped once it used up its CPU time of a period.

    Memory is measured, not limited.
    """

    how = "CPU affinity, and stops for parts of a CPU; memory is measured and not limited, for want of control groups"

    def run(self, command: Sequence[str], environment: Mapping[str, str], cpus: float, memory: int) -> Ended:
        """A command with so many CPUs, until it ends."""
        with subprocess.Popen(  # noqa: S603
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            # Before it has any thread but its first.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[: math.ceil(cpus)])
            ended = Event()
            if cpus < math.ceil(cpus):
                Thread(target=_throttle, args=(process, cpus, ended), daemon=True).start()
            output, error = process.communicate()
            ended.set()
            return Ended(output, error, process.returncode)


def _throttle(process: "subprocess.Popen[str]", cpus: float, ended: Event) -> None:
    """Stops a process for the rest of each period in which it has used up its CPU time, as a quota does."""
    clock = (~process.pid << 3) | 2  # that of a process's CPU time, as clock_getcpuclockid(3) makes it
    debt = 0.0
    with suppress(OSError):  # it has ended
        while not ended.is_set():
            end = time.monotonic() + PERIOD
            allowed = time.clock_gettime(clock) + cpus * PERIOD - debt
            # At the soonest it has used that up when all of its CPUs were busy.
            while (left := allowed - time.clock_gettime(clock)) > 0 and time.monotonic() < end:
                time.sleep(min(max(left / math.ceil(cpus), SHORTEST), max(end - time.monotonic(), 0.0)))
            if left <= 0:
                process.send_signal(signal.SIGSTOP)
                time.sleep(max(end - time.monotonic(), 0.0))
                process.send_signal(signal.SIGCONT)
            debt = max(time.clock_gettime(clock) - allowed, 0.0)
