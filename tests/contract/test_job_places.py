"""Every file of a run has its own place, and every column its own name: what would take another's is refused."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from arrayfiles import npz
from inferry.cli.main import main
from inferry.errors import InferryError, InvalidRequest, JobFailed, NotSupported
from inferry.jobs import runner
from inferry.jobs.formats.csv_reader import CsvRows
from inferry.jobs.runner import Job
from inferry.jobs.runs import plan, run
from inferry.service import Service
from inferry.settings import Settings

MODELS = {
    "row.onnx": onnx_models.scaled(2, 3),
    "label.onnx": onnx_models.identity("FP32", ("n", 1), output="label"),
    "fixed.onnx": onnx_models.identity("FP32", (4, 2)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), MODELS)


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[Service]:
    service = Service.from_settings(Settings(model_path=str(models), intra_op_threads=1))
    yield service
    service.close()


Run = Callable[..., Any]


@pytest.fixture
def batch(models: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`batch(IN, OUT, ...)` runs the command over the model `row`: its status and what --json prints."""

    def go(source: Path, target: Path, *options: str) -> tuple[int, Any]:
        arguments = ["batch", str(source), str(target), "--models", str(models), "--model", "row", "--json", *options]
        status = main(arguments)
        printed = capsys.readouterr()
        return status, json.loads(printed.out) if printed.out else printed.err

    return go


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def reasons(summary: Any) -> dict[str, str]:
    return {Path(item["input"]).name: item["reason"] for item in summary["failed"]}


ROW, TWO, BAD = b'{"x": [1, 2, 3]}\n', b'{"x": [2, 4, 6]}\n', b'{"x": "?"}\n'

# Columns

SOURCES = {
    "a.jsonl": b'{"x": 1, "label": "yes"}\n{"x": 2, "label": "no"}\n',
    "a.csv": b"x,label\n1,yes\n2,no\n",
    "a.parquet": b"",
    "a.npz": npz(x=np.array([1, 2], np.float32), label=np.array(["yes", "no"])),
}


@pytest.fixture(params=SOURCES)
def labelled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two rows of which each has the column `label`."""
    path = tmp_path / request.param
    path.write_bytes(SOURCES[request.param])
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"x": pa.array([1, 2], pa.float32()), "label": ["yes", "no"]}), path)
    return path


TARGETS = ["jsonl", "csv", "csv.gz", "parquet"]


@pytest.mark.parametrize("to", TARGETS)
def test_a_kept_column_with_the_name_of_an_output_is_refused(
    service: Service, labelled: Path, tmp_path: Path, to: str
) -> None:
    job = Job(input=str(labelled), output=f"{tmp_path}/out/", model="label", keep=("label",), to=to)
    with pytest.raises(InvalidRequest) as refused:
        runner.run(job, service)
    assert str(refused.value) == (
        "the column 'label' to keep has the name of an output of model 'label': write it under another one, as "
        "--keep label=truth does"
    )
    [report] = written(tmp_path / "out")
    assert json.loads((tmp_path / "out" / report).read_bytes())["reason"] == str(refused.value)


def table(path: Path) -> dict[str, list[Any]]:
    if path.suffix == ".parquet":
        return dict(pq.read_table(path).to_pydict())
    if path.name.endswith((".csv", ".csv.gz")):
        return dict(arrow_csv.read_csv(path).to_pydict())
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("to", TARGETS)
def test_it_is_written_under_another_name(service: Service, labelled: Path, tmp_path: Path, to: str) -> None:
    job = Job(input=str(labelled), output=f"{tmp_path}/out/", model="label", keep=("label=truth",), to=to)
    report = runner.run(job, service)
    assert (report.rows, report.errors) == (2, 0)
    assert table(Path(report.output)) == {"truth": ["yes", "no"], "label": [1.0, 2.0]}


def test_a_column_may_be_kept_twice_and_names_be_exchanged(service: Service, labelled: Path, tmp_path: Path) -> None:
    job = Job(input=str(labelled), output=f"{tmp_path}/out.jsonl", model="label", keep=("label=x", "x=id", "label=t"))
    runner.run(job, service)
    found = table(tmp_path / "out.jsonl")
    assert [*found] == ["x", "id", "t", "label"]
    assert (found["x"], [float(value) for value in found["id"]]) == (["yes", "no"], [1.0, 2.0])
    assert (found["t"], found["label"]) == (["yes", "no"], [1.0, 2.0])


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (("a=b=",), {"a=b": [7], "y": [[2.0, 4.0, 6.0]]}),
        (("a=b=c",), {"c": [7], "y": [[2.0, 4.0, 6.0]]}),
        (("=index",), {"index": [8], "y": [[2.0, 4.0, 6.0]]}),
    ],
)
def test_columns_whose_own_names_are_odd(
    service: Service, tmp_path: Path, keep: tuple[str, ...], expected: dict[str, Any]
) -> None:
    """One with a = in it, and one without a name, as pandas writes its index."""
    (tmp_path / "x.jsonl").write_bytes(b'{"x": [1, 2, 3], "a=b": 7, "": 8}\n')
    runner.run(Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row", keep=keep), service)
    assert table(tmp_path / "out/x.jsonl") == expected


@pytest.mark.parametrize(
    ("keep", "to", "said"),
    [
        (("id", "id"), "jsonl", "the column 'id' to keep has the name of another column that is kept"),
        (("id", "t=id"), "jsonl", "the column 'id' to keep has the name of another column that is kept"),
        (("id=y",), "parquet", "the column 'y' to keep has the name of an output of model 'row'"),
        (("y_1",), "csv", "the column 'y_1' to keep has the name of a column of an output"),
        (("id=y_2",), "csv.gz", "the column 'y_2' to keep has the name of a column of an output"),
    ],
)
def test_names_that_meet(service: Service, tmp_path: Path, keep: tuple[str, ...], to: str, said: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"x": [1, 2, 3], "id": 7, "t": 8, "y_1": 9}\n')
    job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row", keep=keep, to=to)
    with pytest.raises(InvalidRequest) as refused:
        runner.run(job, service)
    assert str(refused.value).startswith(f"{said}: write it under another one, as --keep ")
    assert not (tmp_path / "out" / f"x.jsonl.{to}").exists()


def test_a_part_s_name_is_free_where_outputs_are_not_cut_into_columns(service: Service, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"x": [1, 2, 3], "y_1": 9}\n')
    runner.run(Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row", keep=("y_1",)), service)
    assert (tmp_path / "out/x.jsonl").read_bytes() == b'{"y_1":9,"y":[2.0,4.0,6.0]}\n'


def test_a_folder_is_refused_once(batch: Run, tmp_path: Path) -> None:
    write(tmp_path / "in", {"a.jsonl": ROW, "b.jsonl": ROW})
    assert batch(tmp_path / "in", tmp_path / "out", "--keep", "y") == (
        1,
        "inferry: the column 'y' to keep has the name of an output of model 'row': write it under another one, as "
        "--keep y=truth does\n",
    )
    assert not (tmp_path / "out").exists()


def test_requests_have_no_columns_to_keep(service: Service, tmp_path: Path) -> None:
    request = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}], "id": "7"}
    (tmp_path / "x.jsonl").write_text(json.dumps(request) + "\n")
    job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row", keep=("id",))
    with pytest.raises(NotSupported, match="requests of the protocol have no columns that --keep could carry over"):
        runner.run(job, service)


# Files


def test_the_output_of_one_run_is_the_input_of_the_next(batch: Run, tmp_path: Path) -> None:
    """Errors and reports of the first are skipped, with --format too; errors of the second have their own place."""
    write(tmp_path / "in", {"a.jsonl": ROW + BAD, "b.jsonl": ROW})
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 0
    (tmp_path / "out/monday.run.json").write_bytes(b'{"rows":2,"errors":0,"seconds":0.1,"files":[],"failed":[]}\n')
    for line in (tmp_path / "out").glob("*.jsonl"):
        line.write_bytes(line.read_bytes().replace(b'"y"', b'"x"'))
    for number, options in enumerate([(), ("--format", "jsonl")]):
        status, summary = batch(tmp_path / "out", tmp_path / f"again{number}", *options)
        assert (status, summary["failed"]) == (0, [])
        assert written(tmp_path / f"again{number}") == [
            "a.jsonl",
            "a.jsonl.report.json",
            "b.jsonl",
            "b.jsonl.report.json",
        ]
        assert (tmp_path / f"again{number}/a.jsonl").read_bytes() == b'{"y":[4.0,8.0,12.0]}\n'


@pytest.mark.parametrize("name", ["a.jsonl.errors.jsonl", "a.jsonl.report.json", "a.run.json"])
def test_a_users_file_of_a_kept_name_is_refused(batch: Run, tmp_path: Path, name: str) -> None:
    write(tmp_path / "in", {"a.jsonl": ROW + BAD, name: TWO})
    status, summary = batch(tmp_path / "in", tmp_path / "out", "--format", "jsonl")
    ending = name.removeprefix("a").removeprefix(".jsonl")
    assert (status, reasons(summary)) == (
        1,
        {
            name: f"{tmp_path}/in/{name} can't be predicted or hold results: names that end in {ending} are those of "
            "files that inferry writes beside results; rename it"
        },
    )
    assert written(tmp_path / "out") == ["a.jsonl", "a.jsonl.errors.jsonl", "a.jsonl.report.json"]
    assert b'"row":2' in (tmp_path / "out/a.jsonl.errors.jsonl").read_bytes()


def test_results_of_a_kept_name_are_refused(service: Service, tmp_path: Path) -> None:
    """One that is named, and one that the extension of --to makes."""
    write(tmp_path, {"a.jsonl": ROW, "a.errors": b"p,q,r\n1,2,3\n"})
    for job in (
        Job(input=f"{tmp_path}/a.jsonl", output=f"{tmp_path}/out/b.errors.jsonl", model="row"),
        Job(input=f"{tmp_path}/a.errors", output=f"{tmp_path}/out/", model="row", format="csv", to="jsonl"),
    ):
        with pytest.raises(InvalidRequest, match=r"names that end in \.errors\.jsonl are those of files"):
            runner.run(job, service)
    assert not (tmp_path / "out").exists()


def test_a_neighbour_of_the_same_results_is_refused(batch: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"a.jsonl": ROW, "a.jsonl.csv": b"p,q,r\n2,4,6\n", "b.csv": b"p,q,r\n1,1,1\n"})
    status, summary = batch(source, tmp_path / "out", "--to", "csv")
    assert (status, reasons(summary)) == (
        1,
        {
            "a.jsonl.csv": f"the results of {source}/a.jsonl.csv and those of {source}/a.jsonl would both be "
            f"{tmp_path}/out/a.jsonl.csv: rename one of them, or name another output"
        },
    )
    assert table(tmp_path / "out/a.jsonl.csv") == {"y_0": [2.0], "y_1": [4.0], "y_2": [6.0]}
    assert batch(source, tmp_path / "out", "--to", "csv")[1]["failed"] == summary["failed"]
    assert batch(source, tmp_path / "apart")[0] == 0
    assert len(written(tmp_path / "apart")) == 6


def test_a_neighbour_that_has_no_results_yet(service: Service, tmp_path: Path) -> None:
    """Names decide, not who comes first."""
    write(tmp_path / "in", {"a.jsonl": ROW, "a.jsonl.csv": b"p,q,r\n2,4,6\n"})
    job = Job(input=f"{tmp_path}/in/a.jsonl.csv", output=f"{tmp_path}/out/", model="row", to="csv")
    with pytest.raises(InvalidRequest, match="would both be"):
        runner.run(job, service)
    assert not (tmp_path / "out").exists()
    assert runner.run(replace(job, format="csv"), service).rows == 1


@pytest.mark.parametrize("first", ["a.jsonl", "a.jsonl.csv"])
def test_neighbours_in_jobs_of_their_own(service: Service, tmp_path: Path, first: str) -> None:
    """As messages have them, each with its own options: the first that comes keeps its results."""
    write(tmp_path / "in", {"a.jsonl": ROW, "a.jsonl.csv": b"p,q,r\n2,4,6\n"})
    made = {
        name: Job(input=f"{tmp_path}/in/{name}", output=f"{tmp_path}/out/", model="row", to=to)
        for name, to in (("a.jsonl", "csv"), ("a.jsonl.csv", ""))
    }
    runner.run(made.pop(first), service)
    results = (tmp_path / "out/a.jsonl.csv").read_bytes()
    [(_, other)] = made.items()
    with pytest.raises(InvalidRequest, match="would both be"):
        runner.run(other, service)
    assert (tmp_path / "out/a.jsonl.csv").read_bytes() == results
    (tmp_path / "in" / first).unlink()
    assert runner.run(other, service).rows == 1


def test_an_output_around_the_input(batch: Run, tmp_path: Path) -> None:
    """Results of in/in/a.jsonl would be in/a.jsonl, which is an input."""
    source = write(tmp_path / "in", {"a.jsonl": ROW, "in/a.jsonl": TWO})
    status, said = batch(source, tmp_path)
    assert status == 1
    assert f"the output {tmp_path}/in/ is inside of the input {source}" in said
    assert written(tmp_path) == ["in/a.jsonl", "in/in/a.jsonl"]
    (source / "in/a.jsonl").rename(source / "b.jsonl")
    assert batch(source, tmp_path)[0] == 0
    assert (tmp_path / "b.jsonl").read_bytes() == b'{"y":[4.0,8.0,12.0]}\n'


MARKS = ["_SUCCESS", "_committed_12", "_started_12", "b.jsonl.crc", "year=1_$folder$", "_temporary/0/b.jsonl"]


def test_marks_of_other_tools_are_no_input(batch: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"a.jsonl": ROW, **dict.fromkeys(MARKS, ROW)})
    status, summary = batch(source, tmp_path / "out", "--format", "jsonl")
    assert (status, summary["failed"]) == (0, [])
    assert written(tmp_path / "out") == ["a.jsonl", "a.jsonl.report.json"]


# Tables


def parquet(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": [[1.0, 2.0, 3.0]]}), path)


TABLES = {
    "Delta": ("_delta_log/00000000000000000000.json", "day=1/a.parquet", "delta_scan"),
    "Iceberg": ("metadata/v1.metadata.json", "data/day=1/a.parquet", "iceberg_scan"),
}


@pytest.fixture(params=TABLES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, str]:
    """A folder with a table and a file beside it: the folder, the table's file, and what it is refused with."""
    log, data, scan = TABLES[request.param]
    write(tmp_path / "in", {f"t/{log}": b"{}", "b.jsonl": ROW})
    parquet(tmp_path / "in/t" / data)
    article = "an" if request.param == "Iceberg" else "a"
    said = (
        f"{tmp_path}/in/t/ is {article} {request.param} table: there are files of rows in it that were removed or "
        "replaced, and only the table's log says which ones count. Export what it holds and predict that, for example "
        f"with DuckDB: COPY (FROM {scan}('{tmp_path}/in/t/')) TO 'rows.parquet'"
    )
    return tmp_path / "in", tmp_path / "in/t" / data, said


def test_a_table_is_refused(batch: Run, lake: tuple[Path, Path, str], tmp_path: Path) -> None:
    """A folder of its own, one of its files; its own folder, whose log says nothing."""
    source, file, said = lake
    assert batch(file.parent, tmp_path / "out") == (1, f"inferry: {said}\n")
    status, reason = batch(source / "t", tmp_path / "out")
    assert status == 1
    assert reason.startswith(f"inferry: {source}/t/ can't be read as a table of ")
    assert batch(file, tmp_path / "out/")[1]["failed"] == [{"input": str(file), "reason": said}]
    assert written(tmp_path / "out") == []


def test_a_table_among_files(batch: Run, lake: tuple[Path, Path, str], tmp_path: Path) -> None:
    source, _, said = lake
    status, summary = batch(source, tmp_path / "out")
    assert (status, summary["failed"]) == (1, [{"input": f"{source}/t/", "reason": said}])
    assert written(tmp_path / "out") == ["b.jsonl", "b.jsonl.report.json"]


def test_files_of_hudi(batch: Run, tmp_path: Path) -> None:
    name = "3f2504e0-4f89-41d3-9a0c-0305e82c3301-0_0-27-25_20260102030405678.parquet"
    parquet(tmp_path / "in/2026" / name)
    parquet(tmp_path / "in/2026/a.parquet")
    status, summary = batch(tmp_path / "in", tmp_path / "out")
    assert (status, [*reasons(summary)], summary["rows"]) == (1, [name], 1)
    assert "in/2026/ is a Hudi table" in reasons(summary)[name]


def test_a_job_of_a_folder(service: Service, tmp_path: Path) -> None:
    write(tmp_path / "in", {"a.jsonl": ROW})
    with pytest.raises(InferryError, match="in/ is a folder: a job has one file"):
        runner.run(Job(input=f"{tmp_path}/in/", output=f"{tmp_path}/out/", model="row"), service)


# Ends


def test_a_file_of_errors_alone_is_a_failed_one(batch: Run, tmp_path: Path) -> None:
    """Its report says what became of its rows; a file without rows is no failure."""
    source = write(tmp_path / "in", {"a.jsonl": BAD + BAD, "b.jsonl": ROW + BAD, "c.csv": b"p,q,r\n"})
    status, summary = batch(source, tmp_path / "out")
    assert (status, summary["rows"], summary["errors"]) == (1, 1, 3)
    assert summary["failed"] == [
        {
            "input": f"{source}/a.jsonl",
            "reason": f"no row has a result; {tmp_path}/out/a.jsonl.errors.jsonl says why",
        }
    ]
    assert [Path(report["input"]).name for report in summary["files"]] == ["b.jsonl", "c.csv"]
    report = json.loads((tmp_path / "out/a.jsonl.report.json").read_bytes())
    assert (report["state"], report["rows"], report["errors"]) == ("finished", 0, 2)
    assert batch(source, tmp_path / "out") == (1, summary)


def test_an_error_that_nobody_expected_fails_its_file_alone(
    batch: Run, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Iterator[Any]:
        raise IndexError("list index out of range")

    source = write(tmp_path / "in", {"a.csv": b"p,q,r\n1,2,3\n", "b.jsonl": ROW})
    monkeypatch.setattr(CsvRows, "chunks", broken)
    status, summary = batch(source, tmp_path / "out")
    assert (status, summary["rows"], [*reasons(summary)]) == (1, 1, ["a.csv"])
    said = reasons(summary)["a.csv"]
    assert said.startswith("unexpected IndexError (test_job_places.py, line ")
    assert said.endswith("): list index out of range; this is a bug: please report it, with the file if you can")
    report = json.loads((tmp_path / "out/a.csv.report.json").read_bytes())
    assert (report["state"], report["reason"]) == ("failed", said)
    logging.getLogger("inferry").setLevel(logging.INFO)
    with pytest.raises(JobFailed) as failed:
        runner.run(Job(input=f"{source}/a.csv", output=f"{tmp_path}/out/", model="row"), service)
    assert str(failed.value) == said
    [traced] = [record for record in caplog.records if record.exc_info]
    assert (traced.levelname, traced.getMessage()) == ("ERROR", f"job {source}/a.csv: unexpected error")
    monkeypatch.undo()
    assert batch(source, tmp_path / "out")[0] == 0


def test_cutting_fails_its_file_alone(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan goes on: the file's own job says what is wrong with it."""

    def broken(*_: Any) -> Iterator[Any]:
        raise IndexError

    write(tmp_path / "in", {"a.csv": b"p,q,r\n1,2,3\n", "b.jsonl": ROW * 100})
    monkeypatch.setattr(CsvRows, "borders", broken)
    job = Job(input=f"{tmp_path}/in/", output=f"{tmp_path}/out/", model="row")
    assert plan.plan(job, service, run.Run(f"{tmp_path}/out", "r"), slice_bytes=1000) == (2, 2)


def test_a_model_that_takes_no_rows_has_its_report(service: Service, tmp_path: Path) -> None:
    write(tmp_path, {"a.jsonl": ROW})
    with pytest.raises(NotSupported, match="takes no rows") as refused:
        runner.run(Job(input=f"{tmp_path}/a.jsonl", output=f"{tmp_path}/out/", model="fixed"), service)
    report = json.loads((tmp_path / "out/a.jsonl.report.json").read_bytes())
    assert (report["state"], report["reason"]) == ("failed", str(refused.value))


def test_parts_that_can_not_be_removed_are_no_failure(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"a.jsonl": ROW})
    stuck = tmp_path / "out/.inferry/parts-a.jsonl/stuck"
    stuck.mkdir(parents=True)
    job = Job(input=f"{tmp_path}/a.jsonl", output=f"{tmp_path}/out/", model="row")
    report = runner.run(job, service)
    assert (report.state, runner.run(job, service)) == ("finished", report)
    assert stuck.exists()
    [said] = [record.getMessage() for record in caplog.records if "left behind" in record.getMessage()]
    assert said.startswith(f"job {tmp_path}/a.jsonl: parts of its results are left behind: can't delete in ")


MANY = ROW * 2000


def begun(job: Job, service: Service, folder: Path) -> list[str]:
    """The parts of the job's results after a run that had no time to finish."""
    before = written(folder) if folder.exists() else []
    assert runner.run(job, service, until=0.0).state == "unfinished"
    return [path for path in written(folder) if path not in before]


def test_parts_of_a_replaced_input_are_removed(service: Service, tmp_path: Path) -> None:
    """When the results of what it is now are there; those of other files stay."""
    write(tmp_path, {"a.jsonl": MANY, "b.jsonl": MANY})
    job, other = (Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/out/", model="row") for name in SAME)
    assert len(begun(job, service, tmp_path / "out")) == 2
    others = begun(other, service, tmp_path / "out")
    (tmp_path / "a.jsonl").write_bytes(ROW + MANY)
    assert len(begun(job, service, tmp_path / "out")) == 2
    assert runner.run(job, service).rows == 2001
    assert written(tmp_path / "out") == sorted([*others, "a.jsonl", "a.jsonl.report.json"])


SAME = ("a.jsonl", "b.jsonl")


def test_a_job_that_is_done_leaves_parts_of_others_alone(service: Service, tmp_path: Path) -> None:
    """Its event may come again while the same file is predicted anew, by other options here."""
    write(tmp_path, {"a.jsonl": MANY})
    job = Job(input=f"{tmp_path}/a.jsonl", output=f"{tmp_path}/out/", model="row")
    done = runner.run(job, service)
    parts = begun(replace(job, batch_size=7), service, tmp_path / "out")
    assert runner.run(job, service) == done
    assert [path for path in parts if (tmp_path / "out" / path).exists()] == parts
