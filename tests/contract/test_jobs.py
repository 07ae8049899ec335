"""Batch jobs over every format: rows in, results out, bad rows beside them."""

import gzip
import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from inferry.batch.report import Report
from inferry.jobs import Job, run
from inferry.service import Service
from inferry.settings import Settings

MODELS = {
    "row.onnx": onnx_models.scaled(2, 3),
    "table.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n",))}),
    "words.onnx": onnx_models.identity("BYTES", ("n", 1)),
    "ragged.onnx": onnx_models.identity("INT64", ("n", "k")),
    "small.onnx": onnx_models.identity("INT8", ("n", 2)),
    "flags.onnx": onnx_models.identity("BOOL", ("n", 1)),
    "brain.onnx": onnx_models.identity("BF16", ("n", 2)),
    "half.onnx": onnx_models.identity("FP16", ("n", 2)),
    "image.onnx": onnx_models.identity("FP32", ("n", 1, 2, 2)),
    "alone.onnx": onnx_models.identity("FP32", (1, 2)),
    "fixed.onnx": onnx_models.identity("FP32", (4, 2)),
    "failing.onnx": onnx_models.failing(),
}
ROWS = 40


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = onnx_models.write(tmp_path_factory.mktemp("jobs"), MODELS)
    service = Service.from_settings(Settings(model_path=str(folder), intra_op_threads=1, model_cache_size=20))
    yield service
    service.close()


Predict = Callable[..., Report]


@pytest.fixture
def predict(service: Service, tmp_path: Path) -> Predict:
    """`predict("x.csv", content, model)` runs a job over a file of this content, with its results below out/."""

    def go(name: str, content: bytes, model: str, **options: Any) -> Report:
        (tmp_path / name).write_bytes(content)
        return run(Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/out/", model=model, **options), service)

    return go


def jsonl(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def parquet(**columns: Any) -> bytes:
    file = BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=7)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


def values(path: Path) -> Any:
    """The column or array `y` of results, whatever their format."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content, path = gzip.decompress(content), path.with_suffix("")
    if path.suffix == ".zst":
        content, path = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read(), path.with_suffix("")
    if path.suffix == ".csv":
        table = arrow_csv.read_csv(BytesIO(content))
        return np.stack([table[name].to_numpy() for name in ("y_0", "y_1", "y_2")], axis=1).tolist()
    if path.suffix in (".parquet", ".pq"):
        return pq.read_table(BytesIO(content))["y"].to_pylist()
    if path.suffix in (".npy", ".npz"):
        array = np.load(BytesIO(content))
        return (array if path.suffix == ".npy" else array["y"]).tolist()
    return [json.loads(line)["y"] for line in content.splitlines()]


X = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
LINES = jsonl(*({"features": row} for row in X.tolist()))
TABLE = b"p,q,r\n" + b"".join(b"%g,%g,%g\n" % tuple(row) for row in X.tolist())
INPUTS = {
    "x.jsonl": LINES,
    "x.ndjson": jsonl(*({"x": row} for row in X.tolist())),
    "x.jsonl.gz": gzip.compress(LINES[:100]) + gzip.compress(LINES[100:]),
    "x.jsonl.zst": zstd(LINES),
    "x.csv": TABLE,
    "x.csv.gz": gzip.compress(TABLE),
    "x.csv.zst": zstd(TABLE),
    "quoted.csv": b'\xef\xbb\xbf"p","q\n","r"\r\n' + TABLE[6:].replace(b"\n3,", b'\n"3",').replace(b"\n", b"\r\n"),
    "x.parquet": parquet(p=X[:, 0], q=X[:, 1].astype(np.int32), r=X[:, 2].astype(np.float64)),
    "lists.parquet": parquet(x=X.tolist()),
    "fixed.parquet": parquet(x=pa.FixedSizeListArray.from_arrays(X.reshape(-1), 3)),
    "nested.pq": parquet(anything=[[row[:1], row[1:2], row[2:]] for row in X.tolist()]),
    "x.npy": npy(X),
    "whole.npy": npy(X.astype(np.int64)),
    "fields.npy": npy(np.array([(row,) for row in X.tolist()], [("x", "f8", (3,))])),
    "x.npz": npz(x=X),
    "lone.npz": npz(anything=X.astype(np.float64)),
}


@pytest.mark.parametrize("name", INPUTS)
def test_formats(predict: Predict, tmp_path: Path, name: str) -> None:
    report = predict(name, INPUTS[name], "row")
    assert (report.state, report.rows, report.errors) == ("finished", ROWS, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([name, f"{name}.report.json"])
    if name != "x.ndjson":
        assert values(tmp_path / "out" / name) == (X * 2).tolist()


@pytest.mark.parametrize("to", ["jsonl", "csv", "parquet", "npy", "npz", "jsonl.gz", "jsonl.zst", "csv.gz", "csv.zst"])
def test_other_formats(predict: Predict, tmp_path: Path, to: str) -> None:
    report = predict("x.npz", INPUTS["x.npz"], "row", to=to)
    name = "x.npz" if to == "npz" else f"x.npz.{to}"
    assert report.output == f"{tmp_path}/out/{name}"
    assert values(tmp_path / "out" / name) == (X * 2).tolist()


def errors(path: Path) -> list[tuple[int, str | None, str]]:
    """Row, column and reason of each line."""
    return [(item["row"], item["column"], item["reason"]) for item in map(json.loads, path.read_bytes().splitlines())]


RANGE = "out of range for"
BAD_ROWS: dict[str, tuple[str, bytes, str, list[Any], list[tuple[int, str | None, str]]]] = {
    "broken JSON, a wrong type, a wrong shape, a missing input": (
        "x.jsonl",
        jsonl({"x": [1, 2, 3]}) + b'{"x": [1,\n' + jsonl({"x": ["a", 2, 3]}, {"x": [1]}, {"y": 1}, 7, {"x": [4, 5, 6]}),
        "row",
        [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]],
        [
            (2, None, "the request is not JSON"),
            (3, "x", "must hold numbers or null"),
            (4, "x", "must have the shape [3], got [1]"),
            (5, "x", "there is no value for input 'x'"),
            (6, None, "each line must be a JSON object, got the number 7"),
        ],
    ),
    "numbers out of range, nested and ragged": (
        "x.jsonl",
        jsonl({"x": [1, 2]}, {"x": [300, 1]}, {"x": [[3], [4]]}, {"x": [[5, 6], []]}, {"x": [1.5, 1]}),
        "small",
        [[1, 2], [3, 4]],
        [(2, "x", "300 is out of range"), (4, "x", "ragged"), (5, "x", "must hold integers")],
    ),
    "cells of CSV": (
        "x.csv",
        b'b,a\n1,1\n2,x\n3,\n,4\n5,5,5\n6\n7,7\n1.5,8\n9999999999999999999,9\n"10\n",10\n\xff,11\n12,1_2\n',
        "table",
        [1.0, None, 7.0, 10.0],
        [
            (2, "a", "'x' is found where FP32 is expected"),
            (4, "b", "the value is missing"),
            (5, None, "the line has 3 cells, the header 2"),
            (6, None, "the line has 1 cells, the header 2"),
            (8, "b", "'1.5' is found where INT64 is expected"),
            (9, "b", "9999999999999999999 is out of range"),
            (11, None, "not CSV in UTF-8"),
            (12, "a", "'1_2' is found"),
        ],
    ),
    "values of Parquet": (
        "x.parquet",
        parquet(a=[1.0, None, 3.0, 1e300], b=[1, 2, None, 4]),
        "table",
        [1.0, None],
        [(3, "b", "the value is missing"), (4, "a", f"{RANGE} FP32")],
    ),
    "lists of Parquet": (
        "x.parquet",
        parquet(x=[[1, 2], None, [3, None], [4, 5, 6], [700, 1], [], [7, 8]]),
        "small",
        [[1, 2], [7, 8]],
        [
            (2, "x", "the value is missing"),
            (3, "x", "the value is missing"),
            (4, "x", "3 values"),
            (5, "x", f"{RANGE} INT8"),
            (6, "x", "0 values"),
        ],
    ),
    "an array": (
        "x.npy",
        npy(np.array([[1, 2], [-129, 0], [3, 4]])),
        "small",
        [[1, 2], [3, 4]],
        [(2, "x", f"{RANGE} INT8")],
    ),
    "rows that fail in the model": (
        "x.jsonl",
        jsonl(*({"x": number} for number in range(20))),
        "failing",
        [],
        [(row, None, "model 'failing' failed") for row in range(1, 21)],
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows(predict: Predict, tmp_path: Path, case: str) -> None:
    name, content, model, expected, reasons = BAD_ROWS[case]
    report = predict(name, content, model, to="jsonl")
    out = tmp_path / "out"
    name = name if name.endswith("jsonl") else f"{name}.jsonl"
    found = [json.loads(line) for line in (out / name).read_bytes().splitlines()]
    assert [row.get("y", row.get("a_out")) for row in found] == expected
    said = errors(out / f"{name}.errors.jsonl")
    assert [(row, column) for row, column, _ in said] == [(row, column) for row, column, _ in reasons]
    for (_, _, reason), (_, _, part) in zip(said, reasons, strict=True):
        assert part in reason
    assert (report.rows, report.errors) == (len(expected), len(reasons))
