"""Runs of many files: what is planned, what is known of each job, and the report of all at the end."""

import json
from pathlib import Path
from typing import Any

import pytest
from inferry.errors import InvalidRequest, StoreError
from inferry.jobs.part_writer import Progress
from inferry.jobs.report import FAILED, FINISHED
from inferry.jobs.runs.merge import REASONS, UNKNOWN, UNREAD, Merged, merge
from inferry.jobs.runs.run import FILES, SLICES, Outcome, Plan, Run

PARTS = [{"start": [0, 0], "stop": 5}, {"start": [5, 99], "stop": None}]


def planned(folder: Path, parts: tuple[list[Any], ...] = ([], PARTS, [])) -> Run:
    """A run of the files 0.csv, 1.csv and so on, with these parts."""
    run = Run(f"{folder}/out/", "first-1")
    count = run.write(({"input": f"in/{number}.csv"}, f"out/{number}.csv", found) for number, found in enumerate(parts))
    assert count == run.plan() == Plan(len(parts), sum(map(len, parts)))
    return run


def lines(run: Run, kind: str) -> list[Any]:
    assert run.planned(kind) == f"{run.output}/.inferry/runs/{run.name}/{kind}.jsonl"
    return [json.loads(line) for line in Path(run.planned(kind)).read_bytes().splitlines()]


def test_a_plan(tmp_path: Path) -> None:
    run = planned(tmp_path)
    where = {"name": "first-1", "output": f"{tmp_path}/out"}
    assert lines(run, FILES) == [
        {"run": {**where, "file": n, "slice": None}, "job": {"input": f"in/{n}.csv"}, "results": f"out/{n}.csv"}
        for n in range(3)
    ]
    assert lines(run, SLICES) == [
        {"run": {**where, "file": 1, "slice": n}, "job": {"input": "in/1.csv", "part": part}}
        for n, part in enumerate(PARTS)
    ]
    assert [json.loads(line) for line in run.jobs(SLICES)] == lines(run, SLICES)
    assert Run(run.output, "another").plan() is None


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "ü", "a" * 81])
def test_the_name_of_a_run(name: str) -> None:
    with pytest.raises(InvalidRequest, match="the name of a run has 1 to 80 letters, digits, - and _"):
        Run("out", name)


@pytest.mark.parametrize(
    "outcome",
    [Outcome(7, None, FINISHED, 10, 2, 1.5), Outcome(123456, 0, FAILED), Outcome(0, 12, FINISHED, 0, 1, 0.25)],
)
def test_an_outcome_is_its_name(outcome: Outcome) -> None:
    assert Outcome.of(outcome.name) == outcome


LAST = Outcome(2, None, FINISHED, 4, 0, 0.5)
PROGRESS: dict[str, tuple[list[Outcome], Progress]] = {
    "nothing": ([], Progress()),
    "a file": ([Outcome(0, None, FINISHED, 3, 1, 0.5)], Progress(4, 1, 0.2)),
    "a slice": ([Outcome(1, 0, FINISHED, 4, 1, 0.5)], Progress(5, 1, 0.2)),
    "a file counts instead of its slices": (
        [Outcome(1, 0, FINISHED, 4, 1), Outcome(1, 1, FINISHED, 2, 0), Outcome(1, None, FINISHED, 6, 1)],
        Progress(7, 1, 0.6),
    ),
    "failed, and tried again": ([Outcome(0, None, FAILED), Outcome(0, None, FINISHED, 3, 1)], Progress(4, 1, 0.2)),
    "twice": ([LAST, LAST], Progress(4, 0, 0.2)),
}


@pytest.mark.parametrize("name", PROGRESS)
def test_progress(tmp_path: Path, name: str) -> None:
    outcomes, expected = PROGRESS[name]
    run = planned(tmp_path)
    for outcome in outcomes:
        run.record(outcome)
    assert run.progress() == expected


def test_progress_before_the_plan(tmp_path: Path) -> None:
    assert Run(f"{tmp_path}/out", "first").progress() == Progress()


def entry(number: int, rows: int, errors: int, seconds: float) -> dict[str, Any]:
    names = {"input": f"in/{number}.csv", "output": f"out/{number}.csv"}
    return {**names, "rows": rows, "errors": errors, "seconds": seconds}


def test_the_report_of_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Slices don't count: a file's own job puts them together. Nothing is said of a first failure."""
    run = planned(tmp_path, ([], PARTS, [], [], []))
    run.record(Outcome(1, 0, FINISHED, 4, 1, 9.0))
    run.record(Outcome(3, None, FAILED), "in/3.csv is empty")
    run.record(Outcome(0, None, FAILED), "the store was busy")
    run.record(Outcome(0, None, FINISHED, 3, 1, 0.5))
    run.record(Outcome(1, None, FINISHED, 9, 2, 1.25))
    run.record(Outcome(4, None, FAILED), "ä" * 2000)
    merged = merge(run)
    report = f"{tmp_path}/out/first-1.run.json"
    assert merged == Merged(report, files=5, failed=3, rows=12, errors=3, seconds=1.75)
    assert merged.said == f"3 of 5 files have no results; {report} says why"
    (line,) = [record for record in caplog.records if record.name == "inferry"]
    assert (line.levelname, line.message) == ("WARNING", f"run first-1 is over: {merged.said}")
    assert {name: vars(line)[name] for name in ("run", "files", "failed", "rows", "row_errors")} == {
        "run": "first-1",
        "files": 5,
        "failed": 3,
        "rows": 12,
        "row_errors": 3,
    }
    assert json.loads(Path(report).read_bytes()) == {
        "rows": 12,
        "errors": 3,
        "seconds": 1.75,
        "files": [entry(0, 3, 1, 0.5), entry(1, 9, 2, 1.25)],
        "failed": [
            {"input": "in/2.csv", "reason": UNKNOWN},
            {"input": "in/3.csv", "reason": "in/3.csv is empty"},
            {"input": "in/4.csv", "reason": "ä" * 1000},
        ],
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first-1.run.json"]
    assert merge(run) == merged
    assert run.progress() == Progress()


def test_no_report_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=f"there is no run first below {tmp_path}/out"):
        merge(Run(f"{tmp_path}/out/", "first"))


def test_many_reasons(tmp_path: Path) -> None:
    run = planned(tmp_path, ([],) * (REASONS + 1))
    for number in range(REASONS + 1):
        run.record(Outcome(number, None, FAILED), "no model")
    merge(run)
    report = json.loads(Path(run.report).read_bytes())
    assert [item["reason"] for item in report["failed"]] == ["no model"] * REASONS + [UNREAD]


def test_a_merge_that_is_ended_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is there before anything is removed; the next one removes the rest, and says the same."""
    run = planned(tmp_path)
    for number in range(3):
        run.record(Outcome(number, None, FINISHED, 1))
    delete, left = run._store.delete, [2]

    def some(paths: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("the time is over")
        delete(paths)

    monkeypatch.setattr(run._store, "delete", some)
    with pytest.raises(StoreError, match="the time is over"):
        merge(run)
    assert 0 < len(run.outcomes()) < 3
    monkeypatch.undo()
    assert merge(run) == Merged(f"{tmp_path}/out/first-1.run.json", files=3, failed=0, rows=3, errors=0, seconds=0.0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first-1.run.json"]


def test_a_merge_that_is_overtaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other has removed already is not missing in the report."""
    run, other = planned(tmp_path), planned(tmp_path)
    for number in range(3):
        run.record(Outcome(number, None, FINISHED, 1))
    of_files = run.of_files

    def late(count: int) -> Any:
        first = merge(other)
        assert (first.files, first.failed) == (3, 0)
        monkeypatch.setattr(run, "of_files", of_files)
        return of_files(count)

    monkeypatch.setattr(run, "of_files", late)
    assert merge(run) == Merged(run.report, files=3, failed=0, rows=3, errors=0, seconds=0.0)
    assert len(json.loads(Path(run.report).read_bytes())["files"]) == 3
