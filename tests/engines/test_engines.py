"""The same rows through Spark, Ray and `inferry batch`: the same results, whoever starts the processes."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.cli.main import main

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "models"
PYTHON = HERE.parents[1] / ".tools" / "engines" / "bin" / "python"
ENGINES = {"spark": "on_spark.py", "ray": "on_ray.py"}
ROWS = 50


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"pair.onnx": onnx_models.echo({"a": ("INT64", ("n", 1)), "b": ("BYTES", ("n", 1))})}
    return onnx_models.write(tmp_path_factory.mktemp("models"), files)


def run(engine: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(PYTHON), str(HERE / ENGINES[engine]), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


def predicted(engine: str, table: pa.Table, model: str, models: Path, folder: Path, **options: Any) -> list[Any]:
    """The results of the engine, in the order of `n`."""
    pq.write_table(table, folder / "in.parquet")
    done = run(engine, folder / "in.parquet", folder / "out", models, model, json.dumps(options))
    assert done.returncode == 0, done.stderr[-3000:]
    files = sorted((folder / "out").glob("*.parquet"))
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    return sorted(rows, key=lambda row: row["n"])


def batch(folder: Path, model: str, models: Path, *flags: str) -> list[Any]:
    command = ["batch", f"{folder}/in.parquet", f"{folder}/batch.parquet", "--model", model, "--models", str(models)]
    assert main([*command, *flags]) == 0
    return pq.read_table(folder / "batch.parquet").to_pylist()


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers(engine: str, tmp_path: Path) -> None:
    """Lists of 64 pixels, which become a label and ten probabilities."""
    pixels = np.random.default_rng(1).integers(0, 17, (ROWS, 64)).astype(np.float64)
    table = pa.table({"n": range(ROWS), "pixels": list(pixels)})
    found = predicted(engine, table, "digits", EXAMPLES, tmp_path, keep=["n"])
    assert found == batch(tmp_path, "digits", EXAMPLES, "--keep", "n")
    assert len(found) == ROWS


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_without_a_result(engine: str, models: Path, tmp_path: Path) -> None:
    """They have nulls and the reason, in a column of strings; `inferry batch` has the others."""
    bad = {3, 20, 21, 49}
    table = pa.table({"n": range(ROWS), "a": range(ROWS), "b": [None if n in bad else f"é{n}" for n in range(ROWS)]})
    found = predicted(engine, table, "pair", models, tmp_path, keep=["n"], error_column="error")
    good = [{"n": n, "a_out": n, "b_out": f"é{n}", "error": None} for n in range(ROWS) if n not in bad]
    reason = "column 'b': the value is missing"
    assert [row for row in found if row["error"] is None] == good
    assert [row for row in found if row["error"]] == [
        {"n": n, "a_out": None, "b_out": None, "error": reason} for n in sorted(bad)
    ]
    expected = [{name: row[name] for name in ("n", "a_out", "b_out")} for row in good]
    assert batch(tmp_path, "pair", models, "--keep", "n") == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_row_fails_the_task(engine: str, models: Path, tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2], "a": [1, 2], "b": ["x", None]})
    pq.write_table(table, tmp_path / "in.parquet")
    done = run(engine, tmp_path / "in.parquet", tmp_path / "out", models, "pair", "{}")
    assert done.returncode != 0
    assert "of a part of the table has no result: column 'b': the value is missing" in done.stdout + done.stderr
