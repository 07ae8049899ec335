"""What the operating system knows of this process, under the names that prometheus_client has for it."""

import os
from pathlib import Path

from inferry.observability.catalogue import PROCESS
from inferry.observability.registry import Family

_PROC = Path("/proc/self")


def families() -> list[Family]:
    """In the catalogue's order; none where there is no /proc."""
    try:
        return [Family(metric, {(): value}) for metric, value in zip(PROCESS, _values(), strict=True)]
    except OSError:
        return []


def _values() -> tuple[float, ...]:
    import resource

    # proc(5): the fields behind the command's name, which may have any character.
    fields = (_PROC / "stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line[:5] == "btime")
    return (
        int(fields[20]),
        int(fields[21]) * resource.getpagesize(),
        booted + int(fields[19]) / ticks,
        (int(fields[11]) + int(fields[12])) / ticks,
        len(os.listdir(_PROC / "fd")),  # noqa: PTH208  a list of names is all that is wanted
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
