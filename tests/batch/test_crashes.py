"""Workers that are killed, events that come twice and in any order, a store that fails: every row exactly once.

CRASH_SEED=N tries another seed; the one of a run that failed reproduces its files, events, faults and kills. What it
can't fix is the kernel's scheduling: which worker takes which event, how its requests are ordered when two threads send
them, and what a worker without a store has done by the time that it is killed.
"""

import gzip
import json
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import onnx_models
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage.files import Files, open_files

sys.path.append(str(Path(__file__).parents[1] / "contract"))
import services
from flaky import Faults, flaky, kill
from worker import work

SEED = int(os.environ.get("CRASH_SEED", "1"))
FILES, ROWS, WORKERS = 200, 10_000, 3
ENDINGS = ("jsonl", "csv", "parquet", "jsonl.gz")
SECONDS = 300


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), {"row.onnx": onnx_models.scaled(2, 3)})


def inputs(random: Random) -> dict[str, bytes]:
    """The files by name: rows of three values and an id, one of 40 without a usable value."""
    borders = sorted(random.sample(range(1, ROWS), FILES - 1))
    found = {}
    for number, (start, end) in enumerate(zip([0, *borders], [*borders, ROWS], strict=True)):
        rows = [(row, [row, 1, None if random.random() < 1 / 40 else 2]) for row in range(start, end)]
        ending = ENDINGS[number % len(ENDINGS)]
        found[f"{number % 7}/ü {number}.{ending}"] = content(ending, rows)
    return found


def content(ending: str, rows: list[tuple[int, list[Any]]]) -> bytes:
    if ending == "parquet":
        file = BytesIO()
        values = [None if row[1][2] is None else row[1] for row in rows]
        pq.write_table(pa.table({"id": [row[0] for row in rows], "x": pa.array(values, pa.list_(pa.int64()))}), file)
        return file.getvalue()
    if ending == "csv":
        return b"id,p,q,r\n" + b"".join(b"%d,%d,%d,%b\n" % (i, *x[:2], b"?" if x[2] is None else b"2") for i, x in rows)
    text = b"".join(json.dumps({"id": i, "x": x if x[2] else "?"}).encode() + b"\n" for i, x in rows)
    return gzip.compress(text, mtime=0) if ending.endswith("gz") else text


def deliveries(random: Random, files: Mapping[str, bytes]) -> list[str]:
    """An event for each file and a second one for some, in any order."""
    events = [*files, *random.sample(sorted(files), FILES // 3)]
    random.shuffle(events)
    return events


def life(seed: int, worker: int, number: int) -> tuple[Faults, float]:
    """What happens to a worker's requests, one of which kills it; and the seconds after which it is killed without."""
    random = Random(f"{seed} {worker} {number}")
    faults = Faults(random.randrange(1 << 30), kill_at=random.randrange(20, 400))
    return faults, random.uniform(0.01, 0.1)


@dataclass
class Queue:
    """As a cloud's: what was not confirmed is delivered again; at the end, nothing is left."""

    events: deque[str]
    open: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> str | None:
        with self.lock:
            if not self.events:
                return None
            self.open += 1
            return self.events.popleft()

    def done(self, event: str, failure: str) -> None:
        with self.lock:
            self.open -= 1
            if failure:
                self.failures[failure.partition(":")[0]] += 1
                self.events.append(event)

    def is_empty(self) -> bool:
        with self.lock:
            return not self.events and not self.open


@dataclass
class Place:
    """Where the workers read and write; `endpoint` is that of a store which `flaky` can stand before."""

    url: str
    environment: Mapping[str, str]
    endpoint: str = ""


class Worker:
    """One after the other: each is killed at some request, or after some time where there are none."""

    def __init__(self, number: int, place: Place, models: Path, queue: Queue) -> None:
        self._number, self._place, self._models, self._queue = number, place, models, queue
        self.lives = self.faults = 0

    def go(self) -> int:
        """Works until the queue is empty; how many lives that took."""
        deadline = time.monotonic() + SECONDS
        while not self._queue.is_empty():
            assert time.monotonic() < deadline, f"seed {SEED}: not done after {SECONDS} s: {self._queue.failures}"
            self._live()
            self.lives += 1
        return self.lives

    def _live(self) -> None:
        faults, seconds = life(SEED, self._number, self.lives)
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe()
        with ExitStack() as stack:
            process: Any = None
            through: Any = nullcontext("")
            if self._place.endpoint:
                through = flaky(self._place.endpoint, faults, lambda: kill(process.pid))
            endpoint = stack.enter_context(through)
            environment = dict(self._place.environment) | ({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})
            process = context.Process(target=work, args=(theirs, str(self._models), environment), daemon=True)
            process.start()
            theirs.close()
            # Where no request can be counted the time since the first job is.
            timer = threading.Timer(seconds, lambda: kill(process.pid))
            self._feed(ours, None if endpoint else timer)
            timer.cancel()
            process.kill()
            process.join()
            ours.close()
        self.faults += faults.struck

    def _feed(self, pipe: Any, timer: threading.Timer | None) -> None:
        while True:
            event = self._queue.take()
            if event is None:
                if self._queue.is_empty():
                    return
                time.sleep(0.02)
                continue
            try:
                pipe.send((f"{self._place.url}/in/{event}", f"{self._place.url}/out/{event}"))
                failure = pipe.recv()
            except (EOFError, OSError):
                self._queue.done(event, "killed")
                return
            self._queue.done(event, failure)
            if timer and not timer.ident:
                timer.start()


@pytest.fixture(scope="module")
def s3() -> Iterator[services.S3]:
    with services.moto() as running:
        yield running


@pytest.fixture(params=["s3", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "local":
        return Place(f"{tmp_path}/store", {})
    s3: services.S3 = request.getfixturevalue("s3")
    for variable, value in {**s3.environment, "NO_PROXY": services.HOST}.items():
        monkeypatch.setenv(variable, value)
    s3.create("crash")
    return Place("s3://crash", {**s3.environment, "NO_PROXY": services.HOST}, s3.endpoint)


def plan(seed: int) -> tuple[Any, ...]:
    """All that a seed decides: files, events, and of each worker's first lives the end and every request's fate."""
    random = Random(seed)
    files = inputs(random)
    lives = [life(seed, worker, number) for worker in range(WORKERS) for number in range(20)]
    fates = [[faults.next("GET") for _ in range(faults.kill_at or 0)] for faults, _ in lives]
    return files, deliveries(random, files), [seconds for _, seconds in lives], fates


def test_a_seed_decides_all_that_happens() -> None:
    """Not the kernel's scheduling, of which the module's docstring tells."""
    first, again, other = plan(SEED), plan(SEED), plan(SEED + 1)
    assert first == again
    assert [one != another for one, another in zip(first, other, strict=True)] == [True] * 4
    assert all(fates[-1][0] == "kill" for fates in first[3])


def test_every_row_exactly_once(place: Place, models: Path, tmp_path: Path) -> None:
    random = Random(SEED)
    files = inputs(random)
    events = deliveries(random, files)
    store = open_files(place.url)
    for name, data in files.items():
        with store.write(f"in/{name}") as file:
            file.write(data)
    queue = Queue(deque(events))
    multiprocessing.get_context("forkserver").set_forkserver_preload(["worker"])
    workers = [Worker(number, place, models, queue) for number in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        lives = sum(pool.map(Worker.go, workers))
    assert lives > WORKERS + 5, "hardly a worker was killed"
    # What a client tries again is no failure of a job.
    assert set(queue.failures) <= {"killed", "StoreError"}
    if place.endpoint:
        assert sum(worker.faults for worker in workers) > 100
    compare(store, straight(files, models, tmp_path), files)


def straight(files: Mapping[str, bytes], models: Path, tmp_path: Path) -> Files:
    """The results of a run in which nothing happens."""
    service = Service.from_settings(Settings(model_path=str(models), intra_op_threads=1))
    for name, data in files.items():
        path = tmp_path / "straight/in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        run(Job(input=str(path), output=f"{tmp_path}/straight/out/{name}", model="row", keep=("id",)), service)
    service.close()
    return open_files(f"{tmp_path}/straight")


def compare(store: Files, expected: Files, files: Mapping[str, bytes]) -> None:
    assert [file.path for file in store.list()] == [file.path for file in expected.list()]
    ids: Counter[int] = Counter()
    for name in files:
        results = rows(name, store.read(f"out/{name}"))
        assert results == rows(name, expected.read(f"out/{name}")), f"seed {SEED}: {name}"
        errors = store.read(f"out/{name}.errors.jsonl")
        assert errors == expected.read(f"out/{name}.errors.jsonl"), f"seed {SEED}: {name}"
        report, wanted = (json.loads(place.read(f"out/{name}.report.json") or b"") for place in (store, expected))
        counts = [(found["state"], found["rows"], found["errors"]) for found in (report, wanted)]
        assert counts[0] == counts[1]
        ids.update(int(row["id"]) for row in results)
        ids.update(int(json.loads(line)["data"]["id"]) for line in (errors or b"").splitlines())
    assert ids == Counter(range(ROWS))
    assert left(store) == [], f"seed {SEED}: parts are left"


def left(store: Files) -> list[str]:
    """Parts that nobody needs. Half-written files of a folder are swept when they are a day old."""
    if "://" in store.url:
        return [path for folder in range(7) for path in open_files(f"{store.url}/out/{folder}").below(".inferry")]
    return [path.name for path in Path(store.url).glob("out/*/.inferry/*/*")]


def rows(name: str, data: bytes | None) -> list[dict[str, Any]]:
    assert data is not None, f"seed {SEED}: {name} has no results"
    if name.endswith("parquet"):
        return pq.read_table(BytesIO(data)).to_pylist()
    if name.endswith("csv"):
        return pa.csv.read_csv(BytesIO(data)).to_pylist()
    return [json.loads(line) for line in (gzip.decompress(data) if name.endswith("gz") else data).splitlines()]
