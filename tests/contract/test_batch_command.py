"""`inferry batch` as a process: files and folders, what it prints, and going on after it was killed."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers import environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx_models.write(tmp_path / "models", {"row/1/model.onnx": onnx_models.scaled(2, 3), "other.onnx": b"broken"})
    for name, content in {
        "a.jsonl": b'{"x": [1, 2, 3], "id": 7}\n{"x": 1}\n',
        "deep/b.csv": b"p,q,r,id\n1,1,1,8\n2,2,2,9\n",
        "notes.txt": b"not a file of rows",
        ".hidden.csv": b"p,q,r\n",
        "c.csv": b"",
    }.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "inferry", "batch", *arguments]


def batch(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=60, env=environment({}), check=False
    )
    return done.returncode, done.stdout, done.stderr


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder(folder: Path) -> None:
    """What can be predicted is, what can't is said, and the status says that there was something."""
    status, output, said = batch(folder, "--model", "row", "in", "out", "--keep", "id", "--to", "jsonl", "--json")
    assert status == 1
    summary = json.loads(output)
    assert (summary["rows"], summary["errors"]) == (3, 1)
    assert [(f["input"], f["output"], f["rows"], f["errors"]) for f in summary["files"]] == [
        ("in/a.jsonl", "out/a.jsonl", 1, 1),
        ("in/deep/b.csv", "out/deep/b.csv.jsonl", 2, 0),
    ]
    assert summary["failed"] == [{"input": "in/c.csv", "reason": "in/c.csv is empty"}]
    assert [line.partition(", ")[0] for line in said.splitlines()] == [
        "in/a.jsonl: 1 row",
        "in/c.csv: failed: in/c.csv is empty",
        "in/deep/b.csv: 2 rows",
    ]
    assert (folder / "out/deep/b.csv.jsonl").read_text() == '{"id":8,"y":[2.0,2.0,2.0]}\n{"id":9,"y":[4.0,4.0,4.0]}\n'
    assert written(folder / "out") == [
        "a.jsonl",
        "a.jsonl.errors.jsonl",
        "a.jsonl.report.json",
        "c.csv.jsonl.report.json",
        "deep/b.csv.jsonl",
        "deep/b.csv.jsonl.report.json",
    ]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("results.csv", "results.csv"),
        ("new/results.parquet", "new/results.parquet"),
        ("results", "results"),
        ("out/", "out/b.csv"),
        ("in", "in/b.csv"),
    ],
)
def test_a_file(folder: Path, output: str, expected: str) -> None:
    """To a file of a name, in the format of its extension, or into a folder that ends with / or is there."""
    status, printed, said = batch(folder, "--model", "row/1", "in/deep/b.csv", output, "--keep", "id")
    assert (status, printed) == (0, "")
    assert said.startswith("in/deep/b.csv: 2 rows, 0 errors, ")
    assert (folder / f"{expected}.report.json").is_file()
    content = (folder / expected).read_bytes()
    if expected.endswith("parquet"):
        assert pq.read_table(folder / expected)["id"].to_pylist() == [8, 9]
    else:
        assert content == b'id,y_0,y_1,y_2\n"8",2,2,2\n"9",4,4,4\n'


def test_a_lone_model_needs_no_name(folder: Path) -> None:
    (folder / "models/other.onnx").unlink()
    status, _, said = batch(folder, "in/a.jsonl", "out/", "--max-errors", "60%")
    assert (status, said.partition(", 1 error")[0]) == (0, "in/a.jsonl: 1 row")
    status, _, said = batch(folder, "in/a.jsonl", "out/", "--max-errors", "0")
    reason = "1 of 2 rows have no result, more than --max-errors 0"
    assert (status, said) == (
        1,
        f"in/a.jsonl: failed: {reason}\n\n"
        "file        rows  results  errors  time  output\n"
        f"in/a.jsonl     -        -       -     -  failed: {reason}\n",
    )


def test_the_table_at_the_end(folder: Path) -> None:
    """Where the results are, where the errors, and why a file has neither; --json says so instead of it."""
    status, output, said = batch(folder, "--model", "row", "in", "out", "--keep", "id", "--to", "jsonl")
    assert (status, output) == (1, "")
    table = re.sub(r"\d+\.\d s", "0.0 s", said.partition("\n\n")[2])
    assert table == (
        "file           rows  results  errors   time  output\n"
        "in/c.csv          -        -       -      -  failed: in/c.csv is empty\n"
        "in/a.jsonl        2        1       1  0.0 s  out/a.jsonl\n"
        "in/deep/b.csv     2        2       0  0.0 s  out/deep/b.csv.jsonl\n"
        "3 files           4        3       1  0.0 s\n"
        "errors are in out/a.jsonl.errors.jsonl\n"
    )
    assert (folder / table.split()[-1]).is_file()
    assert "\n\n" not in batch(folder, "--model", "row", "in", "out", "--to", "jsonl", "--json")[2]


@pytest.mark.parametrize("value", ["-1", "two", "1.5", "101%", "nan"])
def test_max_errors_that_make_no_sense(folder: Path, value: str) -> None:
    status, _, said = batch(folder, "in/a.jsonl", "out/", f"--max-errors={value}")
    assert status == 2
    assert "--max-errors" in said


def test_it_goes_on_after_it_was_killed(folder: Path) -> None:
    """The second command makes no part that the first had made."""
    rows = 1_500_000
    values = np.arange(rows * 3, dtype=np.float32)
    lists = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * 3, values)
    pq.write_table(pa.table({"x": lists}), folder / "large.parquet", row_group_size=100_000)
    arguments = ("--model", "row", "large.parquet", "out/", "--to", "jsonl")
    with subprocess.Popen(command(*arguments), cwd=folder, env=environment({}), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob("out/.inferry/*/*.complete")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    # What it was writing at that moment is left for a day.
    for left in folder.glob("out/.inferry/writing-*"):
        left.unlink()
    assert not (folder / "out/large.parquet.jsonl").exists()
    [part, *_] = folder.glob("out/.inferry/*/*.data")
    content = part.read_bytes()
    # A part that is used again shows: each of its values is another one now.
    part.write_bytes(content.replace(b'"y"', b'"z"'))
    status, _, said = batch(folder, *arguments)
    assert status == 0, said
    lines = (folder / "out/large.parquet.jsonl").read_bytes().splitlines()
    assert len(lines) == rows
    assert sum(line.startswith(b'{"z"') for line in lines) == content.count(b"\n")
    assert [json.loads(line) for line in lines[-2:]] == [
        {"y": (values[-6:-3] * 2).tolist()},
        {"y": (values[-3:] * 2).tolist()},
    ]
    assert written(folder / "out") == ["large.parquet.jsonl", "large.parquet.jsonl.report.json"]


def test_nothing_of_clouds_is_imported_for_a_run_here(folder: Path) -> None:
    names = {"cloud", "jobs.runs.clouds", "jobs.runs.aws", "jobs.runs.azure", "jobs.runs.merge", "worker"}
    script = f"""
import sys
from inferry.cli.main import main
main(sys.argv[1:])
print(*{names!r}.intersection(name.removeprefix("inferry.") for name in sys.modules))
"""
    arguments = ["batch", "--model", "row", "in/a.jsonl", "out/"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment({}),
        check=True,
    )
    assert done.stdout == "\n"
    assert (folder / "out/a.jsonl").exists()
