"""Files larger than memory may be: `inferry batch` over 2 GB stays below 600 MB resident.

BATCH_MEGABYTES=N has files of another size.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

MEGABYTES = int(os.environ.get("BATCH_MEGABYTES", "2000"))
LIMIT = 600 << 20
WIDTH, ROWS = 50, 20_000


def write_csv(path: Path) -> int:
    """Blocks of the same rows again and again, which is faster to make and as hard to read."""
    block = pa.table({f"c{i}": np.random.default_rng(i).normal(size=ROWS) for i in range(WIDTH)})
    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(block, sink, arrow_csv.WriteOptions(include_header=False))
    text, rows = sink.getvalue().to_pybytes(), 0
    with path.open("wb") as file:
        file.write(",".join(block.column_names).encode() + b"\n")
        while file.tell() < MEGABYTES * 1_000_000:
            file.write(text)
            rows += ROWS
    return rows


def write_parquet(path: Path) -> int:
    """One row group, which no reader may hold as a whole."""
    rng, rows = np.random.default_rng(0), MEGABYTES * 1_000_000 // (WIDTH * 8)
    columns = {f"c{i}": rng.normal(size=rows) if i < 4 else None for i in range(WIDTH)}
    columns = {name: columns[f"c{i % 4}"] for i, name in enumerate(columns)}
    with pq.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in columns]), use_dictionary=False) as writer:
        writer.write_table(pa.table(columns), row_group_size=rows)
    return rows


def write_npy(path: Path) -> int:
    """In Fortran order, as `frame.to_numpy()` is: a row is spread over the whole file."""
    column = np.random.default_rng(0).normal(size=MEGABYTES * 1_000_000 // (WIDTH * 8) + 1)
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": True, "shape": (len(column), WIDTH)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(WIDTH):
            column.tofile(file)
    return len(column)


MAKE: dict[str, Callable[[Path], int]] = {"csv": write_csv, "parquet": write_parquet, "npy": write_npy}


@pytest.mark.parametrize("extension", MAKE)
def test_large_files(tmp_path: Path, extension: str) -> None:
    onnx_models.write(tmp_path / "models", {"wide.onnx": onnx_models.scaled(2, WIDTH)})
    path = tmp_path / f"large.{extension}"
    rows = MAKE[extension](path)
    assert path.stat().st_size >= MEGABYTES * 1_000_000
    command = [sys.executable, "-m", "inferry", "batch", "--model", "wide", "--json", str(path), f"{tmp_path}/out/"]
    env = {"PATH": os.environ["PATH"], "ORT_DISABLE_TELEMETRY": "1", "MODEL_PATH": f"{tmp_path}/models"}
    try:
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            summary = json.loads(process.stdout.read())
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss * 1024
        seconds = summary["seconds"]
        print(f"{extension}: {path.stat().st_size:,} bytes, {rows:,} rows in {seconds:.0f} s, {peak >> 20} MB at most")
        assert (process.returncode, summary["rows"], summary["errors"]) == (0, rows, 0)
        assert peak < LIMIT
    finally:
        for left in (path, *(tmp_path / "out").glob("large*")):
            left.unlink()  # pytest keeps the folders of three runs
