"""A job whose rows are so slow that an invocation is ended in the middle of a block: it gets done all the same."""

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path

import onnx_models
import pytest
from inferry.jobs.runner import Job
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.worker import Worker

ROWS, TRIES = 24, 5
# Of a row.
SECONDS = 0.15
# Of an invocation's time in rows: less than the first block of a job that nothing is known of, and what Lambda has left
# for an answer off it.
LENGTH, MARGIN = 12, 0.25


def work(pipe: Connection, models: str, source: str, target: str) -> None:
    """Does the attempts that it is told, each in so many seconds, until it is ended."""
    service = Service.from_settings(Settings(model_path=models, intra_op_threads=1))
    service.preload()
    worker = Worker(service)
    pipe.send("ready")
    while True:
        attempt, seconds = pipe.recv()
        report = worker.run(Job(input=source, output=target, model="slow"), time.monotonic() + seconds, attempt=attempt)
        pipe.send((report.finished, report.seconds))


class Environments:
    """Processes that are ended when an invocation takes too long, as Lambda ends them."""

    def __init__(self, models: Path, source: Path, target: Path) -> None:
        self._arguments = (str(models), str(source), str(target))
        self._spawn: SpawnContext = multiprocessing.get_context("spawn")
        self._running: tuple[multiprocessing.process.BaseProcess, Connection] | None = None

    def invoke(self, attempt: int, until: float, limit: float) -> tuple[bool, float] | None:
        """Whether the job is finished, and the seconds in it; None when the environment was ended."""
        _, pipe = self._running = self._running or self._started()
        pipe.send((attempt, until))
        if pipe.poll(limit):
            outcome: tuple[bool, float] = pipe.recv()
            return outcome
        self.end()
        return None

    def _started(self) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        ours, theirs = self._spawn.Pipe()
        process = self._spawn.Process(target=work, args=(theirs, *self._arguments), daemon=True)
        process.start()
        assert ours.recv() == "ready"
        return process, ours

    def end(self) -> None:
        if self._running is not None:
            process, pipe = self._running
            process.kill()
            process.join()
            pipe.close()
            self._running = None


@contextmanager
def environments(models: Path, folder: Path, turns: list[int]) -> Iterator[Environments]:
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps({"turns": count}) + "\n" for count in turns))
    found = Environments(models, source, folder / "out" / "rows.jsonl")
    try:
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), {"slow.onnx": onnx_models.slow(128)})


@pytest.fixture(scope="module")
def turns(models: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """With which a row takes about so long here."""
    count = 100
    while True:
        with environments(models, tmp_path_factory.mktemp("measured"), [count] * 2) as measured:
            outcome = measured.invoke(1, 600, 600)
        assert outcome is not None
        seconds = outcome[1] / 2
        if seconds > 0.02:
            return int(count * SECONDS / seconds) + 1
        count *= 10


FILES = {
    "slow from the first row on": lambda turns: [turns] * ROWS,
    "slow behind many quick ones": lambda turns: [1] * 3000 + [turns] * ROWS,
}


@pytest.mark.parametrize("name", FILES)
def test_a_block_that_outlasts_the_invocation(models: Path, tmp_path: Path, turns: int, name: str) -> None:
    """No message is received more often than its queue allows, and every row has its result once."""
    rows = FILES[name](turns)
    limit = SECONDS * LENGTH
    (tmp_path / "out").mkdir()
    ended, attempt = 0, 1
    with environments(models, tmp_path, rows) as lambdas:
        while (outcome := lambdas.invoke(attempt, limit * (1 - MARGIN), limit)) is None or not outcome[0]:
            # What is unfinished is sent again: a new message.
            ended, attempt = (ended + 1, attempt + 1) if outcome is None else (ended, 1)
            assert attempt <= TRIES, f"a dead letter after {ended} environments that were ended"
    results = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["y"] for line in results] == [1.0] * len(rows)
