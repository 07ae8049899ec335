"""Record batches through `Predict`, as Spark and Ray call it: the results are those of `inferry batch`."""

import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.cli.main import main
from inferry.errors import InferryError, InvalidFile, InvalidRequest, NotSupported, TooManyErrors
from inferry.jobs.engines import Predict

EXAMPLES = str(Path(__file__).parents[2] / "models")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    files = {
        "row.onnx": onnx_models.scaled(2.0, 3),
        "matrix.onnx": onnx_models.identity("FP32", ("n", 2, "m")),
        "pair.onnx": onnx_models.echo({"a": ("INT64", ("n", 1)), "b": ("BYTES", ("n", 1))}),
        "named/1/model.onnx": onnx_models.scaled(2.0, 3),
        "named/config.json": b'{"columns": ["r", "s", "t"]}',
        "whole.onnx": onnx_models.identity("FP32", (2, 2)),
    }
    return str(onnx_models.write(tmp_path_factory.mktemp("models"), files))


NUMBERS = pa.table({"id": ["a", "b", "c", "d"], "x0": [1.0, 2, 3, 4], "x1": [0.5, 1, 2, 3], "x2": [7, 8, 9, 10]})
LISTS = pa.table({"id": [1, 2, 3], "x": pa.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], pa.list_(pa.float64()))})
PAIRS = pa.table({"a": [1, 2, None, 4], "b": ["one", None, "three", "vier"], "when": [10, 20, 30, 40]})
DIGITS = pa.table({"pixels": [np.full(64, value % 17, np.float64) for value in range(40)], "n": range(40)})
TEXTS = pa.table({"text": ["Shares fall after bank warns", "Storm brings heavy rain"] * 9, "day": range(18)})
OBJECTS = pa.table({"o": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], "k": ["p", "q"]})

CASES: dict[str, tuple[str, pa.Table, Mapping[str, Any]]] = {
    "columns": ("row", NUMBERS, {"keep": ("id",)}),
    "chosen": ("row", NUMBERS, {"columns": ("x2", "x0", "x1")}),
    "dropped": ("row", NUMBERS, {"drop": ("id",)}),
    "all": ("row", NUMBERS, {"keep": ("*", "id=key"), "columns": ("x0", "x1", "x2")}),
    "named": ("named", NUMBERS.rename_columns(["id", "t", "r", "s"]), {"keep": ("t", "id")}),
    "lists": ("row", LISTS, {"keep": ("id",)}),
    "ragged": ("matrix", pa.table({"x": [[[1.0], [2.0]], [[1.0, 2.0], [3.0, 4.0]], [[5.0], [6.0]]]}), {}),
    "missing": ("pair", PAIRS, {"keep": ("when",)}),
    "objects": ("pair", OBJECTS, {"keep": ("k",)}),
    "views": ("pair", PAIRS.set_column(1, "b", PAIRS["b"].cast(pa.string_view())), {"keep": ("b=text",)}),
    "digits": ("digits", DIGITS, {"keep": ("n",)}),
    "newsline": ("newsline", TEXTS, {"keep": ("*",), "drop": ("text",)}),
}


@pytest.mark.parametrize("size", [2, 1000])
@pytest.mark.parametrize(("model", "table", "options"), CASES.values(), ids=CASES)
def test_the_same_as_batch(
    model: str, table: pa.Table, options: Mapping[str, Any], size: int, models: str, tmp_path: Path
) -> None:
    """Columns, their order, every value and each reason."""
    where = EXAMPLES if model in ("digits", "newsline") else models
    pq.write_table(table, tmp_path / "in.parquet")
    flags = [flag for name, names in options.items() for flag in (f"--{name}", ",".join(names))]
    command = ["batch", f"{tmp_path}/in.parquet", f"{tmp_path}/out.parquet", "--model", model, "--models", where]
    assert main([*command, *flags]) == 0
    expected = pq.read_table(tmp_path / "out.parquet")
    errors = tmp_path / "out.parquet.errors.jsonl"
    reasons = (
        {item["row"]: item for item in map(json.loads, errors.read_bytes().splitlines())} if errors.exists() else {}
    )

    predict = Predict(where, model, error_column="error", **options)
    made = list(pickle.loads(pickle.dumps(predict)).batches(table.to_batches(size)))
    assert [batch.num_rows for batch in made] == [batch.num_rows for batch in table.to_batches(size)]
    together = pa.Table.from_batches(made)
    assert together.schema == predict.schema(table.schema)
    good = together.filter(pa.compute.is_null(together["error"])).drop_columns(["error"])
    assert good.to_pylist() == expected.to_pylist()
    assert good.column_names == expected.column_names
    assert {number: row["error"] for number, row in enumerate(together.to_pylist(), 1) if row["error"]} == {
        row: f"column '{item['column']}': {item['reason']}" for row, item in reasons.items()
    }
    assert bool(reasons) == (model == "pair" and table is not OBJECTS)


def test_rows_without_a_result_keep_their_place(models: str) -> None:
    found = Predict(models, "pair", keep=["when"], error_column="why")(PAIRS)
    assert found.to_pylist() == [
        {"when": 10, "a_out": 1, "b_out": "one", "why": None},
        {"when": 20, "a_out": None, "b_out": None, "why": "column 'b': the value is missing"},
        {"when": 30, "a_out": None, "b_out": None, "why": "column 'a': the value is missing"},
        {"when": 40, "a_out": 4, "b_out": "vier", "why": None},
    ]


def test_no_rows(models: str) -> None:
    """Spark gives empty partitions no batch, Ray tables without rows."""
    predict = Predict(models, "row", keep=("id",))
    assert list(predict.batches([])) == []
    empty = NUMBERS.slice(0, 0)
    assert predict(empty).schema == predict.schema(NUMBERS.schema) == predict(NUMBERS).schema
    assert len(predict(empty)) == 0
    none_good = Predict(models, "pair", error_column="error")(PAIRS.slice(1, 2))
    assert none_good.column("a_out").to_pylist() == [None, None]


Refusal = tuple[Mapping[str, Any], pa.Table, type[InferryError], str]
REFUSALS: dict[str, Refusal] = {
    "row": ({"model": "pair"}, PAIRS, TooManyErrors, "row 2 of a part of the table has no result: column 'b': the val"),
    "columns": ({"model": "pair"}, NUMBERS, InvalidFile, "the table has no column 'a' that model 'pair' takes"),
    "width": ({"model": "row", "keep": ("x0", "id")}, NUMBERS, InvalidFile, "the table has 2 columns for input 'x'"),
    "keep": ({"model": "row", "keep": ("id=y",)}, NUMBERS, InvalidRequest, "'y' to keep has the name of an output"),
    "absent": (
        {"model": "row", "keep": ("ID",)},
        NUMBERS,
        InvalidFile,
        "to keep or to drop; did you mean 'id'?",
    ),
    "several": ({"model": "pair", "columns": ("a",)}, PAIRS, InvalidRequest, "takes 2, each in a column of its name"),
    "error": ({"model": "pair", "error_column": "a_out"}, PAIRS, InvalidRequest, "which the results have already"),
    "whole": ({"model": "whole"}, LISTS, NotSupported, "model 'whole' takes no rows"),
    "text": (
        {"model": "row", "columns": ("id", "x0", "x1")},
        NUMBERS,
        InvalidFile,
        "'id' of the table holds text (string), but FP32",
    ),
}


@pytest.mark.parametrize(("options", "table", "error", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(
    options: Mapping[str, Any], table: pa.Table, error: type[InferryError], reason: str, models: str
) -> None:
    with pytest.raises(error) as raised:
        list(Predict(models, **options).batches(table.to_batches()))
    assert type(raised.value) is error
    assert reason in str(raised.value)


@pytest.mark.parametrize("given", [{"x": np.ones((2, 3))}, iter([])], ids=["dict", "iterator"])
def test_no_table(given: Any, models: str) -> None:
    """Ray's default, and Spark's call of the object itself."""
    with pytest.raises(
        InvalidRequest, match=r"expected a pyarrow\.Table, got .*batch_format='pyarrow'.* predict\.batches"
    ):
        Predict(models, "row")(given)


def test_rows_are_numbered_through_all_batches(models: str) -> None:
    batches = [*PAIRS.slice(0, 1).to_batches()] * 3 + PAIRS.slice(1, 1).to_batches()
    with pytest.raises(TooManyErrors, match="row 4 of a part"):
        list(Predict(models, "pair").batches(batches))


ONCE = """
import pickle, sys, time
from concurrent.futures import ThreadPoolExecutor
import onnxruntime as ort, pyarrow as pa
opened = []
real = ort.InferenceSession.__init__
def counting(self, *args, **kwargs):
    options = kwargs.get("sess_options") or args[1]
    opened.append(options.intra_op_num_threads)
    real(self, *args, **kwargs)
ort.InferenceSession.__init__ = counting
from inferry.jobs.engines import Predict
from inferry.service import Service
slow = Service.from_settings
Service.from_settings = lambda settings: time.sleep(0.2) or slow(settings)  # the other threads come meanwhile
table = pa.table({"x": [[1.0, 2.0, 3.0]]})
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda number: Predict(sys.argv[1], "row", keep=["x"] * (number % 2))(table), range(8)))
for _ in range(3):
    predict = pickle.loads(pickle.dumps(Predict(sys.argv[1], "row")))
    assert predict(table).column("y").to_pylist() == [[2.0, 4.0, 6.0]]
    list(predict.batches(table.to_batches()))
print(opened)
"""


def test_a_process_loads_the_model_once(models: str) -> None:
    """However often the engine hands it the function; its session has the threads of a task of the engine."""
    done = subprocess.run(
        [sys.executable, "-c", ONCE, models],
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "3", "ORT_DISABLE_TELEMETRY": "1", "PATH": ""},
    )
    assert done.stdout.split() == ["[3]"]
