"""Runs on Azure from the side of who watches: what is given out, when, and when there is no more to wait for."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from inferry.errors import InferryError, InvalidSettings
from inferry.jobs.runs import azure
from inferry.jobs.runs.azure import Queue
from inferry.jobs.runs.merge import UNKNOWN
from inferry.jobs.runs.run import Run
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.steps import RunSteps
from inferry.worker.worker import Worker

URL = "https://account.queue.core.windows.net/inferry-jobs"
NAME = "r-1"
ROW = b'{"x": [1, 2, 3]}\n'
SLICE = 2000


class Stored:
    """Queues by their URL, as StorageQueue opens them; messages stay until `work` takes them."""

    queues: dict[str, list[bytes]]

    def __init__(self, url: str, _: Mapping[str, str]) -> None:
        self.url = url
        self.messages = self.queues.setdefault(url, [])

    def put(self, bodies: Iterable[bytes]) -> None:
        self.messages.extend(bodies)

    def count(self) -> int:
        return len(self.messages)

    def peek(self) -> list[bytes]:
        return self.messages[:32]


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bytes]]:
    monkeypatch.setattr(azure, "StorageQueue", Stored)
    monkeypatch.setattr(Stored, "queues", {}, raising=False)
    return Stored.queues


@pytest.fixture
def fanout(tmp_path: Path, repository: Callable[..., str]) -> Iterator[RunSteps]:
    models = repository({"m.onnx": onnx_models.scaled(2, 3), "broken.onnx": b"broken"})
    service = Service.from_settings(Settings(model_path=models, data_prefixes=(str(tmp_path),), intra_op_threads=1))
    yield RunSteps(service, Worker(service))
    service.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Over a file of three slices and a small one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/large.jsonl").write_bytes(ROW * 300)
    (tmp_path / "in/small.jsonl").write_bytes(ROW)
    return Run(f"{tmp_path}/out", NAME)


def started(run: Run) -> Queue:
    cloud = Queue(URL, {})
    folder = run.output.removesuffix("out")
    cloud.start(NAME, {"input": f"{folder}in/", "output": f"{folder}out/", "model": "m", "slice_bytes": SLICE})
    return cloud


def kinds(bodies: Iterable[bytes]) -> list[str]:
    """What messages are about: the step, for jobs FILE or FILE.SLICE."""
    found = []
    for document in map(json.loads, bodies):
        told = document.get("run")
        part = told["slice"] if isinstance(told, dict) else None
        step = next(step for step in ("plan", "job", "merge") if step in document)
        found.append(step if step != "job" else f"{told['file']}" + (f".{part}" if part is not None else ""))
    return found


def work(fanout: RunSteps, queue: list[bytes], *lost: str) -> list[str]:
    """Does what is in the queue, but for the lost: their worker is killed each time, and the host gives them up."""
    done = []
    while queue:
        body = queue[0]
        [kind] = kinds([body])
        if kind not in lost:
            fanout.do(json.loads(body), math.inf)
        done.append(kind)
        queue.pop(0)
    return done


def test_slices_then_files_then_the_merge(queues: dict[str, list[bytes]], fanout: RunSteps, run: Run) -> None:
    cloud = started(run)
    given = []
    while (failure := cloud.ended(run)) is None:
        waiting = kinds(queues[URL])
        # Nothing is given out twice while it waits.
        assert cloud.ended(run) is None
        assert kinds(queues[URL]) == waiting
        given.append(work(fanout, queues[URL]))
    assert failure == ""
    assert given == [["plan"], ["0.0", "0.1", "0.2"], ["0", "1"], ["merge"]]
    report = json.loads(run.read_report() or b"")
    assert (report["rows"], report["errors"], len(report["files"])) == (301, 0, 2)


def test_what_was_settled_needs_no_empty_queue(queues: dict[str, list[bytes]], fanout: RunSteps, run: Run) -> None:
    """Others put messages into the queue all the time."""
    cloud = started(run)
    given = []
    while (failure := cloud.ended(run)) is None:
        given.append(work(fanout, [body for body in queues[URL] if body != b"{}"]))
        queues[URL][:] = [b"{}"]
    assert failure == ""
    assert [jobs for jobs in given if jobs] == [["plan"], ["0.0", "0.1", "0.2"], ["0", "1"], ["merge"]]


LOST: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "a slice": (["0.1"], "", {"rows": 301, "failed": []}),
    "a file": (
        ["1"],
        "1 of 2 files have no results, more than 5%",
        {"rows": 300, "failed": [{"input": "IN/small.jsonl", "reason": UNKNOWN}]},
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_jobs_whose_workers_were_killed(
    queues: dict[str, list[bytes]], fanout: RunSteps, run: Run, tmp_path: Path, name: str
) -> None:
    """An empty queue tells that they won't come any more."""
    lost, said, expected = LOST[name]
    cloud = started(run)
    while (failure := cloud.ended(run)) is None:
        work(fanout, queues[URL], *lost)
    assert failure == said
    report = json.loads((run.read_report() or b"").replace(f"{tmp_path}/in".encode(), b"IN"))
    assert {key: report[key] for key in expected} == expected


SLICES, FILES = ["0.0", "0.1", "0.2"], ["0", "1"]
# How often the first one looked behind work, what of the last messages is still done, what is done for the second.
LEFT: dict[str, tuple[int, int, list[str]]] = {
    "planning": (0, 0, ["plan", *SLICES, *FILES, "merge"]),
    "slices that wait": (1, 0, [*SLICES, *SLICES, *FILES, "merge"]),
    "slices of which one is done": (1, 1, [*SLICES[1:], *FILES, "merge"]),
    "files that wait": (2, 0, [*FILES, *FILES, "merge"]),
    "files of which one is done": (2, 1, ["1", "merge"]),
    "merging": (3, 0, ["merge", "merge"]),
    "the end": (3, 1, []),
}


@pytest.mark.parametrize("name", LEFT)
def test_another_one_goes_on(queues: dict[str, list[bytes]], fanout: RunSteps, run: Run, name: str) -> None:
    """Whoever watched first went away, or has given out only some: the rest of these is given out again."""
    looks, done, expected = LEFT[name]
    first = started(run)
    for _ in range(looks):
        work(fanout, queues[URL])
        assert first.ended(run) is None
    work(fanout, queues[URL][:done])
    if done:
        queues[URL].clear()
    second = Queue(URL, {})
    given = []
    while (failure := second.ended(run)) is None:
        given += work(fanout, queues[URL])
    assert failure == ""
    assert json.loads(run.read_report() or b"")["rows"] == 301
    assert given == expected


def test_another_one_waits_for_what_was_given_out(queues: dict[str, list[bytes]], fanout: RunSteps, run: Run) -> None:
    first = started(run)
    for _ in range(2):
        work(fanout, queues[URL])
        assert first.ended(run) is None
    work(fanout, [queues[URL].pop(0)])
    second = Queue(URL, {})
    assert second.ended(run) is None
    assert kinds(queues[URL]) == ["1"]


NOTE = {"error": "DataRefused", "reason": "not there", "message": "id"}
MERGE = {"merge": {"name": NAME, "output": "out"}}
POISON: dict[str, tuple[list[Any], str]] = {
    "its own": ([{"body": "?"}, NOTE | {"body": json.dumps({"plan": {}, "run": NAME})}], ": not there"),
    "others": (
        [NOTE | {"body": json.dumps({"plan": {}, "run": "r-2"})}, 7, NOTE | {"body": json.dumps({"merge": 7})}],
        f"; the reason is in {URL}-poison and in the app's log",
    ),
    "nothing": ([], f"; the reason is in {URL}-poison and in the app's log"),
}


@pytest.mark.parametrize("name", POISON)
def test_a_run_that_was_not_planned(queues: dict[str, list[bytes]], run: Run, name: str) -> None:
    notes, said = POISON[name]
    cloud = started(run)
    assert cloud.ended(run) is None
    queues[URL].clear()
    queues[f"{URL}-poison"] += [*(json.dumps(note).encode() for note in notes), b"\xff"]
    assert cloud.ended(run) == f"it couldn't be planned{said}"


def test_a_run_that_was_not_merged(queues: dict[str, list[bytes]], fanout: RunSteps, run: Run) -> None:
    cloud = started(run)
    while cloud.ended(run) is None and kinds(queues[URL]) != ["merge"]:
        work(fanout, queues[URL])
    note = NOTE | {"body": queues[URL].pop().decode()}
    queues[f"{URL}-poison"].append(json.dumps(note).encode())
    assert cloud.ended(run) == "its jobs are done and couldn't be merged: not there"


def test_a_job_that_will_be_tried_again_is_waited_for(
    queues: dict[str, list[bytes]], fanout: RunSteps, run: Run
) -> None:
    cloud = Queue(URL, {})
    folder = run.output.removesuffix("out")
    cloud.start(NAME, {"input": f"{folder}in/small.jsonl", "output": f"{folder}out/", "model": "broken"})
    assert cloud.ended(run) is None
    work(fanout, queues[URL])
    assert cloud.ended(run) is None
    [body] = queues[URL]
    with pytest.raises(InferryError, match="broken"):
        fanout.do(json.loads(body), math.inf)
    assert cloud.ended(run) is None
    assert queues[URL] == [body]
    assert fanout.do(json.loads(body), math.inf, last=True)["state"] == "failed"
    assert cloud.ended(run) is None
    assert kinds(queues[URL]) == ["0", "merge"]


def test_without_a_queue() -> None:
    with pytest.raises(InvalidSettings, match="must be the URL of the queue"):
        Queue("", {})
