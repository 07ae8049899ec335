"""What planning and reporting a run hold of its files: nothing that grows as their number does."""

import tracemalloc
from pathlib import Path

import pytest
from inferry.jobs.report import FINISHED
from inferry.jobs.runner import Job
from inferry.jobs.runs.merge import merge
from inferry.jobs.runs.plan import plan
from inferry.jobs.runs.run import Outcome, Run
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage import bucket, spool

# Both more than a page of a listing.
FEW, MANY = 2_000, 12_000
# Bytes of each more: of planning none, of reporting its counts and the name of its outcome in a folder's listing.
PLANNED, REPORTED = 20, 400


def peak(count: int, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The bytes of Python's objects at most, of planning and of reporting a run over so many objects."""
    monkeypatch.setattr(spool, "MEMORY", 10_000)
    place = bucket.memory_bucket({f"in/{number:06}.jsonl": b"{}" for number in range(count)}, f"run-memory-{count}")
    # In memory a bucket of Python's would keep what is written there.
    run = Run(str(out), "first")
    service = Service.from_settings(Settings(model_path="memory://no-models"))
    tracemalloc.start()
    try:
        planned = plan(Job(input=f"{place.url}/in/", output=f"{out}/", model="m"), service, run)
        assert planned == (count, 0)
        planned_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        done = out / ".inferry/runs/first/outcomes"
        done.mkdir()
        for number in range(count):
            (done / Outcome(number, None, FINISHED, 1).name).touch()
        tracemalloc.start()
        merged = merge(run)
        assert (merged.files, merged.failed, merged.rows) == (count, 0, count)
        return planned_peak, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        service.close()


def test_memory_does_not_grow_with_the_files_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (peak(count, tmp_path / str(count), monkeypatch) for count in (FEW, MANY))
    more = [(most - least) / (MANY - FEW) for least, most in zip(few, many, strict=True)]
    print(f"bytes for each file more: {more}")
    assert more[0] < PLANNED
    assert more[1] < REPORTED
