"""`--set`: inputs with one value for all rows, in files of every format, in messages, in engines."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.cli.main import main
from inferry.jobs.engines import Predict
from onnx import TensorProto, helper

NODE = helper.make_node


def scaled() -> bytes:
    """`y` is the row `x` times the scalar `rate`, plus what each row has in `shift`: speech models take a rate so."""
    return onnx_models.model(
        [
            NODE("Cast", ["rate"], ["r"], to=TensorProto.FLOAT),
            NODE("Mul", ["x", "r"], ["m"]),
            NODE("Add", ["m", "shift"], ["y"]),
        ],
        [
            onnx_models.tensor("x", "FP32", ("n", 2)),
            onnx_models.tensor("rate", "INT64", ()),
            onnx_models.tensor("shift", "FP32", ("n", 1)),
        ],
        [onnx_models.tensor("y", "FP32", ("n", 2))],
    )


def spoken() -> bytes:
    """Each row's text behind a language, which is a single text for the run."""
    return onnx_models.model(
        [
            NODE("Shape", ["text"], ["s"]),
            NODE("Expand", ["language", "s"], ["l"]),
            NODE("Concat", ["l", "text"], ["y"], axis=1),
        ],
        [onnx_models.tensor("text", "BYTES", ("n", 1)), onnx_models.tensor("language", "BYTES", (1,))],
        [onnx_models.tensor("y", "BYTES", ("n", 2))],
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    files = {"m.onnx": scaled(), "text.onnx": spoken()}
    return str(onnx_models.write(tmp_path_factory.mktemp("models"), files))


ROWS = [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}, {"x": [-1.0, 0.5]}]
EXPECTED = [{"y": [6.5, 11.5]}, {"y": [16.5, 21.5]}, {"y": [-3.5, 4.0]}]
SET = ("--set", "rate=5", "--set", "shift=1.5")


@pytest.fixture
def batch(models: str, tmp_path: Path) -> Callable[..., int]:
    def go(name: str, *flags: str, model: str = "m") -> int:
        command = ["batch", f"{tmp_path}/{name}", f"{tmp_path}/out.jsonl", "--model", model, "--models", models]
        return main([*command, *flags])

    return go


def written(folder: Path, name: str) -> None:
    rows = pa.table({"x": [row["x"] for row in ROWS]})
    if name == "wide.csv":
        lines = [",".join(map(str, row["x"])) for row in ROWS]
        (folder / name).write_text("\n".join(["a,b", *lines]) + "\n")
    elif name == "in.jsonl":
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    elif name == "in.npy":
        import numpy as np

        np.save(folder / name, np.array([row["x"] for row in ROWS], np.float32))
    else:
        pq.write_table(rows, folder / name)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl", "wide.csv", "in.npy"])
def test_formats(name: str, batch: Callable[..., int], tmp_path: Path) -> None:
    """What is left is one input, which a file may have in columns of its own."""
    written(tmp_path, name)
    assert batch(name, *SET) == 0
    assert lines(tmp_path / "out.jsonl") == EXPECTED


def test_rows_run_together(batch: Callable[..., int], models: str, tmp_path: Path) -> None:
    """A scalar beside them doesn't make the rows of a model run one at a time."""
    from inferry.jobs.constants import bind
    from inferry.service import Service
    from inferry.settings import Settings

    service = Service.from_settings(Settings(model_path=models))
    model = service.repository.get("m")
    bound = bind(model, ["rate=5", "shift=1.5"])
    assert bound.prove_rows().rows == "proven"
    assert bind(model, []) is model
    assert model.signature.required == {"x", "rate", "shift"}
    service.close()


def test_texts(batch: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": " there"}\n{"text": "!"}\n')
    assert batch("in.jsonl", "--set", "language=hi", model="text") == 0
    assert lines(tmp_path / "out.jsonl") == [{"y": ["hi", " there"]}, {"y": ["hi", "!"]}]


def test_another_value_is_another_job(batch: Callable[..., int], tmp_path: Path) -> None:
    written(tmp_path, "in.parquet")
    assert batch("in.parquet", *SET) == 0
    assert batch("in.parquet", "--set", "rate=1", "--set", "shift=0") == 0
    assert lines(tmp_path / "out.jsonl") == ROWS_AS_Y


ROWS_AS_Y = [{"y": row["x"]} for row in ROWS]


def test_infer(models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "in.parquet")
    assert main(["infer", "m", "--input", f"{tmp_path}/in.parquet", "--models", models, *SET]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == EXPECTED
    (tmp_path / "in.json").write_text("[[1, 2]]")
    assert main(["infer", "m", "--input", f"{tmp_path}/in.json", "--models", models, *SET]) == 1
    assert "--set is for files of rows" in capsys.readouterr().err


def test_engines(models: str) -> None:
    table = pa.table({"x": [row["x"] for row in ROWS]})
    assert Predict(models, "m", constants=["rate=5", "shift=1.5"])(table).to_pylist() == EXPECTED


REFUSALS: dict[str, tuple[Sequence[str], str]] = {
    "no pair": (["rate"], "--set takes NAME=VALUE, got 'rate'"),
    "twice": (["rate=1", "rate=2"], "--set gives input 'rate' twice"),
    "unknown": (["Rate=1"], "unexpected inference input 'Rate' for model 'm', whose inputs are 'x', 'rate', 'shift'"),
    "all": (["rate=1", "shift=1", "x=[1,2]"], "--set leaves no input of model 'm' that rows could give"),
    "text": (["rate=fast"], "--set rate of model 'm' is 'fast', but INT64 in JSON is expected"),
    "half": (["rate=1.5"], "--set rate of model 'm': 1.5 is out of range for INT64"),
    "large": (["shift=1e39"], "--set shift of model 'm': 1e39 is out of range for FP32"),
    "null": (
        ["rate=null"],
        "--set rate of model 'm' holds nothing, or values of several kinds (object), but INT64 is expected",
    ),
    "list": (["rate=[1,2]"], "--set rate of model 'm' has the shape [2], but the input has the shape []"),
    "ragged": (["shift=[[1],[2,3]]"], "--set shift of model 'm': the lists in it have different lengths"),
    "row": (["shift=[1,2]"], "--set shift of model 'm' has the shape [2], but rows have the shape [1]"),
    "missing": (["rate=1"], "has no column 'shift' that model 'm' takes"),
}


@pytest.mark.parametrize(("given", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(
    given: Sequence[str],
    reason: str,
    batch: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(tmp_path, "in.parquet")
    assert batch("in.parquet", *[flag for item in given for flag in ("--set", item)]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_a_column_of_the_same_name(
    batch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two is meant, nobody can tell."""
    pq.write_table(pa.table({"x": [row["x"] for row in ROWS], "rate": [7, 7, 7]}), tmp_path / "in.parquet")
    assert batch("in.parquet", *SET) == 1
    assert "has a column 'rate', but --set gives that input: leave out --set, or --drop rate" in capsys.readouterr().err
    assert batch("in.parquet", *SET, "--drop", "rate") == 0
    assert lines(tmp_path / "out.jsonl") == EXPECTED
