"""A model in one size after another: what fits, how long a start and an answer take, and what is cheapest."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from inferry.errors import InvalidRequest
from inferry.sizing.limits import Limits

# "1 vCPU per 1,769 MB", says Lambda's documentation.
MB_PER_CPU = 1769
SIZES = (128, 256, 512, 1024, 1769, 3008, 3538, 5307, 7076, 10240)
# What is measured has to leave so much of a size free: other requests need more.
FREE = 0.1
BATCHES = (1, 2, 4, 8, 16, 32)
# A smaller batch that takes so much longer a row will do.
WORTH = 0.05


class Size(NamedTuple):
    """`memory` in MB with its `cpus`: the threads that are quickest, seconds from a process's start to its first
    answer (`cold`) and of a later one (`warm`), and bytes of memory at the most. `measured`: here, not extrapolated."""

    memory: int
    cpus: float
    threads: int
    cold: float
    warm: float
    peak: int
    measured: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return self._asdict()


class Found(NamedTuple):
    """The sizes that suffice, MB of memory that the model `needs`, and seconds of a row by rows of a request."""

    sizes: Sequence[Size]
    needs: int
    rows: Mapping[int, float]

    @property
    def batch_size(self) -> int:
        """The fewest rows of a request with which a row is about as quick as it gets; 1 where rows don't join."""
        if not self.rows:
            return 1
        least = min(self.rows.values())
        return min(count for count, seconds in self.rows.items() if seconds <= least * (1 + WORTH))


class Measurer:
    """Starts servers of one model with the limits of sizes. InvalidRequest when the model does not answer."""

    def __init__(self, limits: Limits, task: Mapping[str, Any], starts: int, say: Callable[[str], None]) -> None:
        self._limits = limits
        self._task = task
        self._starts = starts
        self._say = say

    def start(self, memory: int, threads: int, batches: Sequence[int] = ()) -> dict[str, Any] | None:
        """One start: what the process says, and `cold`. None when the memory does not suffice."""
        task = json.dumps({**self._task, "threads": threads, "batches": list(batches)})
        command = (sys.executable, "-m", "inferry.sizing.child", task)
        began = time.time()
        environment = dict(os.environ)  # noqa: TID251 - handed on, not read
        ended = self._limits.run(command, environment, memory / MB_PER_CPU, memory)
        if ended.out_of_memory:
            return None
        if ended.status:
            lines = ended.error.strip().splitlines() or [f"it ended with status {ended.status}"]
            raise InvalidRequest(f"the model can't be measured: {lines[-1][:500]}")
        said: dict[str, Any] = json.loads(ended.output)
        return {**said, "cold": said["answered"] - began}

    def size(self, memory: int) -> Size | None:
        """Medians of some starts, with as many threads as are quickest. None when the memory does not suffice."""
        cpus = memory / MB_PER_CPU
        found = []
        for threads in range(1, math.ceil(cpus) + 1):
            said = [self.start(memory, threads) for _ in range(self._starts)]
            whole = [each for each in said if each is not None]
            if len(whole) < len(said):
                return None
            cold, warm, peak = (median(each[what] for each in whole) for what in ("cold", "warm", "peak"))
            found.append(Size(memory, cpus, threads, cold, warm, int(peak)))
        best = min(found, key=lambda size: size.warm)
        self._say(f"{memory} MB: {best.warm * 1e3:.2f} ms, {best.cold:.2f} s from its start, {best.peak >> 20} MB")
        return best


def find(measurer: Measurer, here: int, sizes: Iterable[int]) -> Found:
    """All sizes in which the model fits: those with up to `here` CPUs are measured, the others extrapolated."""
    measurable = [memory for memory in sizes if memory <= here * MB_PER_CPU]
    said = measurer.start(measurable[-1], 1, BATCHES)
    if said is None:
        raise InvalidRequest(f"the model does not fit into {measurable[-1]} MB, the largest size that this machine has")
    needs = math.ceil(said["peak"] / (1 - FREE) / (1 << 20))
    found = [size for memory in measurable if memory >= needs and (size := measurer.size(memory))]
    if not found:
        raise InvalidRequest(f"the model needs {needs} MB, and this machine can imitate {measurable[-1]} MB at most")
    found += [extrapolated(found, memory) for memory in sizes if memory not in measurable]
    rows = {int(count): seconds for count, seconds in said["rows"].items()}
    return Found(found, needs, rows)


def extrapolated(measured: Sequence[Size], memory: int) -> Size:
    """A size with more CPUs than were measured with: by the share of the time that two CPUs halve."""
    one, most = measured[0], measured[-1]
    whole = next((size for size in measured if size.cpus >= 1), most)
    cpus = memory / MB_PER_CPU
    shares = {}
    for what in ("cold", "warm"):
        before, after = (getattr(size, what) for size in (whole, most))
        gained = (1 - after / before) / (1 - whole.cpus / most.cpus) if most.cpus > whole.cpus else 0.0
        shares[what] = min(max(gained, 0.0), 1.0)
    times = {
        what: getattr(most, what)
        * (1 - share + share * whole.cpus / cpus)
        / (1 - share + share * whole.cpus / most.cpus)
        for what, share in shares.items()
    }
    return Size(memory, cpus, math.ceil(cpus), times["cold"], times["warm"], max(one.peak, most.peak), measured=False)


def at(sizes: Sequence[Size], cpus: float) -> Size:
    """The size whose CPUs come nearest to so many."""
    return min(sizes, key=lambda size: abs(size.cpus - cpus))


def cheapest(sizes: Sequence[Size]) -> Size:
    """Whose answers take the fewest GB-seconds of whole milliseconds; of equal ones the quickest.

    Extrapolated sizes are none to choose.
    """
    return min((size for size in sizes if size.measured), key=lambda size: (size.memory * billed(size.warm), size.warm))


def billed(seconds: float) -> float:
    """What Lambda bills: whole milliseconds, begun ones counted."""
    return math.ceil(round(seconds * 1000, 6)) / 1000


def quickest(sizes: Sequence[Size]) -> Size:
    """Whose answers come first; a smaller one that takes hardly longer will do."""
    measured = [size for size in sizes if size.measured]
    least = min(size.warm for size in measured)
    return next(size for size in measured if size.warm <= least * (1 + WORTH))
