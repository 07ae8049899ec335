"""Runs of many files as hosts hear of them: planned, done job by job in any order, and merged."""

import json
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from inferry.errors import DataRefused, InferryError, InvalidRequest, JobFailed, StoreError
from inferry.jobs import runner
from inferry.jobs.formats.json_lines_reader import JsonLines
from inferry.jobs.runner import Job
from inferry.jobs.runs import plan
from inferry.jobs.runs.merge import UNKNOWN
from inferry.jobs.runs.run import Plan, Run
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage.files import open_files
from inferry.worker.steps import RunSteps
from inferry.worker.worker import Worker

SLICE = 2_000
ROWS = 1_000
BAD = 7


@pytest.fixture
def service(tmp_path: Path, repository: Callable[..., str]) -> Iterator[Service]:
    """Over the folders in/ and out/ of the test."""
    models = repository({"m.onnx": onnx_models.scaled(2, 3), "broken.onnx": b"broken"})
    settings = Settings(
        model_path=models, batch_input=f"{tmp_path}/in", batch_output=f"{tmp_path}/out", intra_op_threads=1
    )
    service = Service.from_settings(settings)
    yield service
    service.close()


@pytest.fixture
def fanout(service: Service) -> RunSteps:
    return RunSteps(service, Worker(service))


def rows(count: int) -> bytes:
    """Lines of which one has no result."""
    return b"".join(b'{"x": [%d, 1, %s]}\n' % (row, b'"?"' if row == BAD else b"2") for row in range(count))


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(content)


def begin(fanout: RunSteps, folder: Path, **job: Any) -> dict[str, Any]:
    document = {"input": f"{folder}/in/", "output": f"{folder}/out/", "slice_bytes": SLICE, **job}
    return fanout.do({"plan": document, "run": "r-1"}, math.inf)


def listed(plan: dict[str, Any], kind: str) -> list[Any]:
    found = [json.loads(line) for line in Path(plan[kind]["url"]).read_bytes().splitlines()]
    assert len(found) == plan[kind]["count"]
    return found


def work(fanout: RunSteps, documents: list[Any]) -> list[str]:
    """Each job as often as it wants to be done."""
    states = []
    for document in documents:
        assert fanout.knows(document)
        while (done := fanout.do(document, time.monotonic() + 60))["state"] == "unfinished":
            pass
        states.append(done["state"])
    return states


def test_a_run(fanout: RunSteps, tmp_path: Path) -> None:
    """Small files, two that are cut, one that can't be, and poison: the results are those of a straight run."""
    csv = b"p,q,r\n" + b"".join(b"%d,1,2\n" % row for row in range(ROWS))
    write(
        tmp_path,
        {"m/a.jsonl": rows(10), "m/large.jsonl": rows(ROWS), "m/ü/b.csv": csv, "m/empty.csv": b"", "x.txt": b""},
    )
    plan = begin(fanout, tmp_path)
    assert plan["run"] == {"name": "r-1", "output": f"{tmp_path}/out"}
    assert plan["files"]["count"] == 4
    slices = listed(plan, "slices")
    assert len(slices) > 10
    assert work(fanout, slices[::-1]) == ["finished"] * len(slices)
    files = listed(plan, "files")
    assert work(fanout, files) == ["finished", "failed", "finished", "finished"]
    merged = fanout.do({"merge": plan["run"]}, math.inf)
    report = json.loads((tmp_path / "out/r-1.run.json").read_bytes())
    assert merged == {
        "report": f"{tmp_path}/out/r-1.run.json",
        "files": 4,
        "failed": 1,
        "rows": 9 + ROWS - 1 + ROWS,
        "errors": 2,
        "seconds": report["seconds"],
        "said": f"1 of 4 files have no results; {tmp_path}/out/r-1.run.json says why",
    }
    assert report["failed"] == [
        {"input": f"{tmp_path}/in/m/empty.csv", "reason": f"{tmp_path}/in/m/empty.csv is empty"}
    ]
    assert [Path(item["output"]).name for item in report["files"]] == ["a.jsonl", "large.jsonl", "b.csv"]
    straight(fanout, tmp_path)


def straight(fanout: RunSteps, folder: Path) -> None:
    for name in ("a.jsonl", "large.jsonl", "ü/b.csv"):
        source, output = f"{folder}/in/m/{name}", f"{folder}/straight/{name}"
        wanted = runner.run(Job(input=source, output=output, model="m"), fanout._service)
        found = json.loads((folder / f"out/m/{name}.report.json").read_bytes())
        assert (found["rows"], found["errors"]) == (wanted.rows, wanted.errors)
        assert (folder / f"out/m/{name}").read_bytes() == Path(output).read_bytes()
        errors = [Path(f"{place}.errors.jsonl") for place in (output, f"{folder}/out/m/{name}")]
        assert len({path.exists() and path.read_bytes() for path in errors}) == 1
    assert not (folder / "out/.inferry").exists()


def test_a_file_that_is_done_is_not_cut(fanout: RunSteps, tmp_path: Path) -> None:
    write(tmp_path, {"m/large.jsonl": rows(ROWS)})
    first = begin(fanout, tmp_path)
    assert work(fanout, listed(first, "files")) == ["finished"]
    assert begin(fanout, tmp_path)["slices"]["count"] == 0


def test_slices_are_only_for_speed(fanout: RunSteps, tmp_path: Path) -> None:
    """The job of the file does what they didn't."""
    write(tmp_path, {"m/large.jsonl": rows(ROWS)})
    plan = begin(fanout, tmp_path)
    assert work(fanout, listed(plan, "slices")[2:5]) == ["finished"] * 3
    assert work(fanout, listed(plan, "files")) == ["finished"]
    merged = fanout.do({"merge": plan["run"]}, math.inf)
    assert (merged["rows"], merged["errors"], merged["failed"]) == (ROWS - 1, 1, 0)


def test_one_file(fanout: RunSteps, tmp_path: Path) -> None:
    write(tmp_path, {"large.csv": b"p,q,r\n" + b"1,1,2\n" * ROWS})
    plan = begin(fanout, tmp_path, input=f"{tmp_path}/in/large.csv", model="m", to="jsonl")
    [file] = listed(plan, "files")
    assert file["results"] == f"{tmp_path}/out/large.csv.jsonl"
    assert work(fanout, [*listed(plan, "slices"), file])[-1] == "finished"
    assert len((tmp_path / "out/large.csv.jsonl").read_bytes().splitlines()) == ROWS


def test_cutting_ends_when_time_is_over(fanout: RunSteps, tmp_path: Path) -> None:
    """What is left is the last slice, and nothing is missing."""
    write(tmp_path, {"m/large.jsonl": rows(ROWS)})
    document = {"input": f"{tmp_path}/in/", "output": f"{tmp_path}/out/", "slice_bytes": SLICE}
    plan = fanout.do({"plan": document, "run": "r-1"}, 0.0)
    [whole] = listed(plan, "slices")
    assert whole["job"]["part"] == {"start": [0, 0], "stop": None}
    assert work(fanout, [whole, *listed(plan, "files")]) == ["finished", "finished"]


def test_a_job_without_time(fanout: RunSteps, tmp_path: Path) -> None:
    write(tmp_path, {"m/a.jsonl": rows(10)})
    [file] = listed(begin(fanout, tmp_path), "files")
    assert fanout.do(file, time.monotonic()) == {"state": "unfinished"}
    assert Run(f"{tmp_path}/out", "r-1").outcomes() == {}


def test_a_job_that_comes_again_when_the_run_is_over(fanout: RunSteps, tmp_path: Path) -> None:
    """It finds its results, and leaves nothing behind."""
    write(tmp_path, {"m/a.jsonl": rows(10)})
    plan = begin(fanout, tmp_path)
    runner = listed(plan, "files")
    assert work(fanout, runner) == ["finished"]
    fanout.do({"merge": plan["run"]}, math.inf)
    assert work(fanout, runner) == ["finished"]
    assert [path for path in (tmp_path / "out/.inferry").rglob("*") if path.is_file()] == []


def test_what_may_go_well_another_time_is_raised(fanout: RunSteps, tmp_path: Path) -> None:
    """And what the last attempt said is in the report, if no other was better."""
    write(tmp_path, {"m/a.jsonl": rows(10), "broken/a.jsonl": rows(10)})
    plan = begin(fanout, tmp_path)
    broken, good = listed(plan, "files")
    with pytest.raises(InferryError, match="broken"):
        fanout.do(broken, math.inf)
    Path(good["job"]["input"]).unlink()
    assert fanout.do(good, math.inf)["state"] == "failed"
    write(tmp_path, {"m/a.jsonl": rows(10)})
    assert fanout.do(good, math.inf)["state"] == "finished"
    fanout.do({"merge": plan["run"]}, math.inf)
    report = json.loads((tmp_path / "out/r-1.run.json").read_bytes())
    assert [item["input"] for item in report["files"]] == [good["job"]["input"]]
    [failed] = report["failed"]
    assert (failed["input"], "broken" in failed["reason"]) == (broken["job"]["input"], True)


def test_a_file_of_errors_alone_has_no_results(fanout: RunSteps, tmp_path: Path) -> None:
    write(tmp_path, {"m/a.jsonl": rows(10), "m/bad.jsonl": b'{"x": 1}\n{"x": 2}\n'})
    plan = begin(fanout, tmp_path)
    assert work(fanout, listed(plan, "files")) == ["finished", "finished"]
    merged = fanout.do({"merge": plan["run"]}, math.inf)
    assert (merged["files"], merged["failed"], merged["rows"], merged["errors"]) == (2, 1, 9, 3)
    report = json.loads((tmp_path / "out/r-1.run.json").read_bytes())
    assert [Path(item["input"]).name for item in report["files"]] == ["a.jsonl"]
    reason = f"no row has a result; {tmp_path}/out/m/bad.jsonl.errors.jsonl says why"
    assert report["failed"] == [{"input": f"{tmp_path}/in/m/bad.jsonl", "reason": reason}]


def test_a_table_among_files(fanout: RunSteps, tmp_path: Path) -> None:
    """It is one job, which says why it can't be predicted; marks and another run's errors are none."""
    log, others = "m/t/_delta_log/00000000000000000000.json", ("m/_SUCCESS", "m/a.jsonl.errors.jsonl")
    write(tmp_path, {log: b"{}", "m/t/a.parquet": b"", "m/a.jsonl": rows(10)})
    write(tmp_path, dict.fromkeys(others, b'{"row":2,"column":null,"reason":"no","data":"?"}\n'))
    plan = begin(fanout, tmp_path, format="jsonl")
    assert work(fanout, listed(plan, "files")) == ["failed", "finished"]
    fanout.do({"merge": plan["run"]}, math.inf)
    report = json.loads((tmp_path / "out/r-1.run.json").read_bytes())
    assert [Path(item["input"]).name for item in report["files"]] == ["a.jsonl"]
    [failed] = report["failed"]
    assert failed["input"] == f"{tmp_path}/in/m/t/"
    assert failed["reason"].startswith(f"{tmp_path}/in/m/t/ is a Delta table: ")


def test_an_error_that_nobody_expected_may_be_none_another_time(
    fanout: RunSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised as long as there is another time, and the last one's reason is the file's."""

    def broken(*_: Any) -> Any:
        raise IndexError("list index out of range")

    write(tmp_path, {"m/a.jsonl": rows(10)})
    plan = begin(fanout, tmp_path)
    [file] = listed(plan, "files")
    monkeypatch.setattr(JsonLines, "chunks", broken)
    with pytest.raises(JobFailed, match="unexpected IndexError"):
        fanout.do(file, math.inf)
    failed = fanout.do(file, math.inf, last=True)
    assert (failed["state"], failed["error"]) == ("failed", "JobFailed")
    fanout.do({"merge": plan["run"]}, math.inf)
    report = json.loads((tmp_path / "out/r-1.run.json").read_bytes())
    assert report["failed"] == [{"input": f"{tmp_path}/in/m/a.jsonl", "reason": failed["reason"]}]


def test_a_job_that_nobody_did(fanout: RunSteps, tmp_path: Path) -> None:
    write(tmp_path, {"m/a.jsonl": rows(10)})
    plan = begin(fanout, tmp_path)
    assert fanout.do({"merge": plan["run"]}, math.inf)["failed"] == 1
    report = json.loads((tmp_path / "out/r-1.run.json").read_bytes())
    assert report["failed"] == [{"input": f"{tmp_path}/in/m/a.jsonl", "reason": UNKNOWN}]


OUT, IN = "TMP/out/", "TMP/in/"
BAD_DOCUMENTS: dict[str, tuple[dict[str, Any], type[InferryError], str]] = {
    "input elsewhere": ({"plan": {"input": "/etc/", "output": OUT}, "run": "r"}, DataRefused, "the input '/etc/'"),
    "output elsewhere": ({"plan": {"input": IN, "output": "/etc/"}, "run": "r"}, DataRefused, "the output '/etc/'"),
    "no files": ({"plan": {"input": IN, "output": OUT}, "run": "r"}, InvalidRequest, "no files to predict in"),
    "no name": ({"plan": {"input": IN, "output": OUT}}, InvalidRequest, "must have 'run', a str; got None"),
    "a bad name": ({"plan": {"input": IN, "output": OUT}, "run": "../r"}, InvalidRequest, "the name of a run"),
    "a column of an output's name": (
        {"plan": {"input": IN, "output": OUT, "model": "m", "keep": ["y"]}, "run": "r"},
        InvalidRequest,
        "the column 'y' to keep has the name of an output of model 'm'",
    ),
    "a bad size": (
        {"plan": {"input": IN, "output": OUT, "slice_bytes": "1"}, "run": "r"},
        InvalidRequest,
        "'slice_bytes' is the size of slices in bytes, 1 or more; got '1'",
    ),
    "merged elsewhere": ({"merge": {"output": "/etc", "name": "r"}}, DataRefused, "the output '/etc/'"),
    "no such run": ({"merge": {"output": OUT, "name": "r"}}, InvalidRequest, "there is no run r below"),
    "recorded elsewhere": (
        {"job": {"input": IN}, "run": {"output": "/etc", "name": "r", "file": 0, "slice": None}},
        DataRefused,
        "the output '/etc/'",
    ),
    "a job of no run": ({"job": {"input": IN}}, InvalidRequest, "must have 'run', a dict; got None"),
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_what_is_wrong_is_said(fanout: RunSteps, tmp_path: Path, name: str) -> None:
    document, error, said = BAD_DOCUMENTS[name]
    (tmp_path / "in").mkdir()
    document = json.loads(json.dumps(document).replace("TMP", str(tmp_path)))
    assert fanout.knows(document)
    with pytest.raises(InferryError) as caught:
        fanout.do(document, math.inf)
    assert (type(caught.value), said in str(caught.value)) == (error, True), str(caught.value)


@pytest.mark.parametrize("document", [None, [], {}, {"input": "a"}, {"model_name": "m", "inputs": []}, {"plan": 1}])
def test_other_documents(fanout: RunSteps, document: Any) -> None:
    assert not fanout.knows(document)


def test_the_store_fails(fanout: RunSteps, tmp_path: Path) -> None:
    """It is no error of the run's: whoever asked may ask again."""
    write(tmp_path, {"m/a.jsonl": rows(10)})
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StoreError):
        begin(fanout, tmp_path)


def test_many_files(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned by a listing: the store isn't asked for each, and what is kept in memory of each is little."""
    count = 5_000
    store = open_files("memory://many/in")
    for number in range(count):
        assert store.create(f"{number % 10}/part-{number:05}.jsonl", b"{}")
    monkeypatch.setattr(runner, "cut", lambda *args: pytest.fail("a small file needs no look"))
    run = Run("memory://many/out", "r")
    tracemalloc.start()
    try:
        job = Job(input="memory://many/in/", output="memory://many/out/", model="m")
        assert plan.plan(job, service, run) == Plan(count, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000 * count
    names = [json.loads(line)["results"] for line in run.jobs("files")]
    assert (len(names), names[0], names[-1]) == (
        count,
        "memory://many/out/0/part-00000.jsonl",
        "memory://many/out/9/part-04999.jsonl",
    )
