"""A batch job over one file: tables.py MODELS SOURCE FOLDER [reading].

MODELS holds one model. Prints seconds from the imports on, and the megabytes that the process had at most; with
`reading` seconds of a second job, and those of pyarrow reading the file, a Parquet, in turns.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

STARTED = time.perf_counter()

# ruff: noqa: E402
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings

TURNS = 5


def peak() -> float:
    """Megabytes; getrusage would count those of the process that started this one."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def measure(models: str, source: str, folder: str, reading: bool) -> dict[str, list[float]]:
    """One sample, or those of the turns."""
    service = Service.from_settings(Settings(model_path=models))
    (name,) = service.repository.names()

    def job() -> None:
        rmtree(folder, ignore_errors=True)
        run(Job(input=source, output=f"{folder}/", model=name), service)

    job()
    found = {"seconds": [time.perf_counter() - STARTED]}
    found["peak"] = [peak()]
    if reading:
        found = against_reading(job, Path(source))
    service.close()
    return found


def against_reading(job: Callable[[], object], source: Path) -> dict[str, list[float]]:
    """Seconds of jobs, and of pyarrow."""
    import pyarrow.parquet as pq

    ways: dict[str, Callable[[], object]] = {"inferry": job, "pyarrow": lambda: pq.ParquetFile(source).read()}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, act in ways.items():
            start = time.perf_counter()
            act()
            found[way].append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:] == ["reading"])))
