"""Files of the same tables, whoever wrote them: each row is right, or refused with a reason that is listed."""

import json
import math
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_models
import pyarrow.parquet as pq
import pytest
from cases import CASES, Case
from formats import WRITERS, Writer
from inferry.cli.main import main
from refusals import GONE, LOST, REFUSED

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".tools" / "tables" / "bin" / "python"
ENDINGS = {"CSV": "csv", "JSONL": "jsonl", "Parquet": "parquet", "NPY": "npy"}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WRITER/CASE.FORMAT of them all."""
    folder = tmp_path_factory.mktemp("written")
    done = subprocess.run([PYTHON, HERE / "writers.py", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each case a model that gives its columns back, and one whose only input has all of them."""
    files = {}
    for case in CASES:
        columns = dict.fromkeys(case.columns, (case.datatype, ("n", 1)))
        files[f"{case.name}.onnx"] = onnx_models.echo(columns, {name: f"{name}_out" for name in case.columns})
        files[f"{case.name}.row.onnx"] = onnx_models.identity(case.datatype, ("n", len(case.columns)))
    return onnx_models.write(tmp_path_factory.mktemp("models"), files)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_batch(writer: Writer, case: Case, written: Path, models: Path, tmp_path: Path) -> None:
    """Every file of the case, for a model of an input for each column, and for one whose rows are all columns."""
    files = sorted((written / writer.name).glob(f"{case.name}.*"))
    if not files:
        assert writer.name == "numpy"
        pytest.skip("NumPy has no missing values but NaN")
    assert {path.suffix[1:] for path in files} == {ENDINGS[name] for name in writer.formats}
    wrong = {}
    for path in files:
        for shape in ("columns", "row"):
            if path.name.endswith((".array.npy", ".fortran.npy")) and shape == "columns" and len(case.columns) > 1:
                continue  # an array without names
            said = judged(path, writer.name, case, shape, models, tmp_path / path.name / shape)
            if said:
                wrong[f"{path.name} {shape}"] = said
    if wrong:
        pytest.fail("\n".join(f"{name}: {said}" for name, said in wrong.items()), pytrace=False)


def judged(path: Path, writer: str, case: Case, shape: str, models: Path, out: Path) -> str:
    """What is wrong with the results; a refusal is wrong unless it is listed."""
    rows, errors, reason = results(path, case.name if shape == "columns" else f"{case.name}.row", models, out)
    listed = refusal(writer, path.name, shape)
    if reason:
        return "" if listed and re.search(listed, reason) else f"refused: {reason}"
    columns = as_written(f"{writer}/{path.name}", case)
    expected = [
        wanted(case.datatype, dict(zip(columns, row, strict=True)), shape)
        for row in zip(*columns.values(), strict=True)
    ]
    if len(rows) + len(errors) != len(expected):
        return f"{len(rows)} rows and {len(errors)} errors of {len(expected)} rows"
    numbers = [number for number in range(len(expected)) if number + 1 not in errors]
    for number, row in zip(numbers, rows, strict=True):
        if expected[number] is None or not same(row, expected[number]):
            return f"row {number} is {row} instead of {expected[number]}"
    for number, why in errors.items():
        if expected[number - 1] is not None and not (listed and re.search(listed, why)):
            return f"row {number - 1} is refused: {why}"
    return ""


def refusal(writer: str, name: str, shape: str) -> str | None:
    found = [reason for pattern, reason in REFUSED.items() if re.fullmatch(pattern, f"{writer}/{name} {shape}")]
    return "|".join(found) or None


def results(path: Path, model: str, models: Path, out: Path) -> tuple[list[Any], dict[int, str], str]:
    """The rows of the results, the reasons of rows without one by number from 1, or why there are none."""
    main(["batch", str(path), f"{out}/", "--model", model, "--models", str(models), "--to", "parquet"])
    [report] = out.glob("*.report.json")
    said = json.loads(report.read_bytes())
    if said["state"] != "finished":
        return [], {}, said["reason"]
    errors = {item["row"]: item["reason"] for item in lines(out, ".errors.jsonl")}
    found = [
        path for path in out.iterdir() if path.is_file() and not path.name.endswith((".errors.jsonl", ".report.json"))
    ]
    return [row for path in found for row in pq.read_table(path).to_pylist()], errors, ""


def lines(folder: Path, ending: str) -> Iterator[Any]:
    for path in folder.glob(f"*{ending}"):
        yield from map(json.loads, path.read_bytes().splitlines())


def as_written(file: str, case: Case) -> dict[str, list[Any]]:
    """The columns of the case, less what the writer loses."""
    columns = case.columns
    if re.fullmatch(GONE, file):
        columns = {name: [value for value in column if value is not None] for name, column in columns.items()}
    for pattern, becomes in LOST.items():
        if re.fullmatch(pattern, file):
            columns = {name: [becomes(value) for value in column] for name, column in columns.items()}
    return columns


def wanted(datatype: str, values: Mapping[str, Any], shape: str) -> Mapping[str, Any] | None:
    """The row as results have it; None where a value is missing that the datatype has no word for."""
    if datatype != "FP64" and None in values.values():
        return None
    plain = {name: math.nan if value is None else value for name, value in values.items()}
    if shape == "columns":
        return {f"{name}_out": value for name, value in plain.items()}
    return {"y": next(iter(plain.values())) if len(plain) == 1 else list(plain.values())}


def same(row: Any, expected: Any) -> bool:
    """As they are written: NaN is NaN, -0.0 not 0.0, true no number."""
    return repr(row) == repr(expected)
