"""Batch jobs over every format: rows in, results out, bad rows beside them."""

import base64
import csv
import gzip
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from arrayfiles import npy, npz
from inferry.errors import InvalidFile, InvalidRequest, NotSupported, StoreError, TooManyErrors
from inferry.jobs import part_writer
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Cursor, Pace
from inferry.jobs.formats.parquet_reader import ParquetRows
from inferry.jobs.report import Report
from inferry.jobs.runner import Job, borders, cut, run
from inferry.service import Service
from inferry.settings import Settings
from onnx import ModelProto

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
    "pixels.onnx": onnx_models.identity("FP32", ("n", 4, 5, 3)),
    "any.onnx": onnx_models.unranked(onnx_models.identity("FP32", ("n",))),
    "anytext.onnx": onnx_models.unranked(onnx_models.identity("BYTES", ("n",))),
    "state.onnx": onnx_models.echo({"x": ("FP32", ("n", 2)), "state": ("FP32", (2, "n", 1)), "rate": ("INT64", ())}),
    "double.onnx": onnx_models.identity("FP64", ("n", 2)),
    "listed/1/model.onnx": onnx_models.scaled(2, 3),
    "listed/config.json": b'{"columns": ["c", "a", "b"]}',
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
    table = pa.table(columns)
    pq.write_table(table, file, row_group_size=max(len(table) // 20, 7))
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
    "CSV over the range": (
        "x.csv",
        b"p,q,r\n1,2,3\n4,1e300,6\n",
        "row",
        [[2, 4, 6]],
        [(2, "q", "1e+300 is out of range for FP32")],
    ),
    "broken JSON, a wrong type, a wrong shape, a missing input": (
        "x.jsonl",
        jsonl({"x": [1, 2, 3]}) + b'{"x": [1,\n' + jsonl({"x": ["a", 2, 3]}, {"x": [1]}, {"y": 1}, 7, {"x": [4, 5, 6]}),
        "row",
        [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]],
        [
            (2, None, "the line is not JSON"),
            (3, "x", "must hold numbers or null"),
            (4, "x", "must have the shape [3], got [1]"),
            (5, "x", "the row has none of the names that model 'row' takes, x, factor; its own are y"),
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
            (6, None, "the line has 1 cell, the header 2"),
            (8, "b", "1.5 is no whole number, as INT64 is"),
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
    "numbers beyond all in CSV": (
        "x.csv",
        b"a,b\n1,inf\n1e400,2\n-1e400,3\n1" + b"0" * 400 + b",4\n1e0400,5\n-Infinity,6\n1e308,7\n",
        "double",
        [[1.0, None], [None, 6.0], [1e308, 7.0]],
        [(row, "a", f"{RANGE} FP64") for row in range(2, 6)],
    ),
    "numbers beyond all in many lines of CSV": (
        "x.csv",
        b"a,b\n" + b"1,2\ninf,3\n" * 500 + b"-1e999,4\n",
        "half",
        [[1.0, 2.0], [None, 3.0]] * 500,
        [(1001, "a", f"{RANGE} FP16")],
    ),
    "numbers beyond all in cells of CSV": (
        "x.csv",
        b'x\n"[1,2]"\n"[1e400,2]"\n"[NaN,-1e400]"\n"[Infinity,NaN]"\n',
        "double",
        [[1.0, 2.0], [None, None]],
        [(2, "x", "is not a JSON array"), (3, "x", "is not a JSON array")],
    ),
    "numbers beyond all in JSON lines": (
        "x.jsonl",
        b'{"x":[1,Infinity]}\n{"x":[1e400,2]}\n{"x":[-1e400,NaN]}\n{"x":[1,1' + b"0" * 400 + b']}\n{"x":[null,2]}\n',
        "double",
        [[1.0, None], [None, 2.0]],
        [(row, None, "the line is not JSON") for row in (2, 3, 4)],
    ),
    "numbers alone that are beyond all": (
        "x.jsonl",
        jsonl(*({"x": [row, 2]} for row in range(100))) + b'{"x":[1e400,2]}\n',
        "double",
        [[float(row), 2.0] for row in range(100)],
        [(101, None, "the line is not JSON")],
    ),
    "numbers beyond half floats": (
        "x.parquet",
        parquet(a=[1.0, 1e39, float("inf"), -7e4], b=[1, 2, 3, 4]),
        "half",
        [[1.0, 1.0], [None, 3.0]],
        [(2, "a", f"{RANGE} FP16"), (4, "a", f"{RANGE} FP16")],
    ),
    "nothing but missing integers in CSV": (
        "x.csv",
        b"b,a\n" + b",1\n" * 70,
        "table",
        [],
        [(row, "b", "the value is missing") for row in range(1, 71)],
    ),
    "nothing but missing texts": (
        "x.parquet",
        parquet(x=pa.array([None] * 70, pa.string())),
        "words",
        [],
        [(row, "x", "the value is missing") for row in range(1, 71)],
    ),
    "a column of no type": ("x.parquet", parquet(x=pa.nulls(1)), "words", [], [(1, "x", "the value is missing")]),
    "nothing but missing lists": (
        "x.parquet",
        parquet(x=pa.array([None] * 3, pa.list_(pa.float64()))),
        "row",
        [],
        [(row, "x", "the value is missing") for row in range(1, 4)],
    ),
    "nothing but numbers out of range": (
        "x.npy",
        npy(np.full((3, 2), 1000)),
        "small",
        [],
        [(row, "x", f"{RANGE} INT8") for row in range(1, 4)],
    ),
    "integers of several types": (
        "x.parquet",
        parquet(p=pa.array([1, 2], pa.uint64()), q=pa.array([-1, 300], pa.int64())),
        "small",
        [[1, -1]],
        [(2, "q", f"300 is {RANGE} INT8")],
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


IMAGE = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


def forms(image: Any) -> dict[str, bytes]:
    """A file of each format with a row of this array, nested as it is."""
    lists, nested = image.tolist(), pa.float32()
    for length in reversed(image.shape):
        nested = pa.list_(nested, length)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(image.reshape(-1)), image.size)
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), image.shape), flat)
    return {
        "x.jsonl": jsonl({"x": lists}),
        "x.csv": b'x\n"%b"\n' % json.dumps(lists).encode(),
        "x.parquet": parquet(x=[lists]),
        "fixed.parquet": parquet(x=pa.array([lists], nested)),
        "tensors.parquet": parquet(x=tensors),
        "x.npy": npy(image[np.newaxis]),
        "x.npz": npz(x=image[np.newaxis]),
    }


@pytest.mark.parametrize("name", forms(IMAGE))
def test_rows_of_the_same_rank_are_not_reshaped(predict: Predict, tmp_path: Path, name: str) -> None:
    content = forms(IMAGE)[name]
    if name in ("x.npy", "x.npz"):
        with pytest.raises(InvalidFile, match=r"have the shape \[3, 4, 5\], .* have the shape \[4, 5, 3\]"):
            predict(name, content, "pixels", to="jsonl")
        return
    report = predict(name, content, "pixels", to="jsonl")
    assert (report.rows, report.errors) == (0, 1)
    ((row, _, reason),) = errors(Path(f"{report.output}.errors.jsonl"))
    assert row == 1
    assert "[4, 5, 3]" in reason
    assert "[3, 4, 5]" in reason


@pytest.mark.parametrize("shape", [(4, 5, 3), (60,), (2, 30)])
@pytest.mark.parametrize("name", forms(IMAGE))
def test_rows_of_another_rank_are_reshaped(predict: Predict, name: str, shape: tuple[int, ...]) -> None:
    report = predict(name, forms(IMAGE.reshape(shape))[name], "pixels", to="jsonl")
    assert (report.rows, report.errors) == (1, 0)
    assert values(Path(report.output)) == [IMAGE.reshape(4, 5, 3).tolist()]


def test_lists_of_parquet_by_their_shapes(predict: Predict, tmp_path: Path) -> None:
    """Rows of many shapes in one block, good ones, ragged ones, and those of the same rank with other lengths."""
    good, flat, turned = IMAGE.reshape(4, 5, 3).tolist(), IMAGE.reshape(1, 1, 60).tolist(), IMAGE.tolist()
    ragged = [*good[:3], [*good[3][:4], good[3][4][:2]]]
    report = predict("x.parquet", parquet(x=[good, turned, ragged, None, [], good, flat]), "pixels", to="jsonl")
    assert values(Path(report.output)) == [good, good]
    assert errors(tmp_path / "out/x.parquet.jsonl.errors.jsonl") == [
        (2, "x", "lists of the shape [3, 4, 5], but rows have the shape [4, 5, 3]"),
        (3, "x", "the lists in it have different lengths"),
        (4, "x", "the value is missing"),
        (5, "x", "lists of the shape [0, 0, 0], but rows have the shape [4, 5, 3]"),
        (7, "x", "lists of the shape [1, 1, 60], but rows have the shape [4, 5, 3]"),
    ]


@pytest.mark.parametrize("shape", [(2,), (3, 4, 5), (1, 2)])
@pytest.mark.parametrize("name", forms(IMAGE))
def test_rows_of_any_rank(predict: Predict, name: str, shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    report = predict(name, forms(array)[name], "any", to="jsonl")
    assert (report.rows, report.errors) == (1, 0)
    assert values(Path(report.output)) == [array.tolist()]


ANY: dict[str, tuple[str, bytes, str, str, Any]] = {
    "values": ("x.jsonl", jsonl({"x": 1}, {"x": 2}), "any", "jsonl", [1.0, 2.0]),
    "ranks": ("x.jsonl", jsonl({"x": 1}, {"x": [2, 3]}, {"x": [[4]]}), "any", "jsonl", [1.0, [2.0, 3.0], 4.0]),
    "columns": ("x.csv", b"a,b\n1,2\n3,4\n", "any", "jsonl", [[1.0, 2.0], [3.0, 4.0]]),
    "a column": ("x.csv", b"a\n1\n3\n", "any", "jsonl", [1.0, 3.0]),
    "cells": ("x.csv", b'x\n"[1,2]"\n3\n', "any", "jsonl", [[1.0, 2.0], 3.0]),
    "text": ("x.csv", b'x\n"[1,2]"\n3\n', "anytext", "jsonl", ["[1,2]", "3"]),
    "a list of text": ("x.jsonl", jsonl({"x": ["a", "b"]}), "anytext", "jsonl", [["a", "b"]]),
    "a column of Parquet": ("x.parquet", parquet(x=[1.0, 2.0]), "any", "parquet", [1.0, 2.0]),
    "lists of Parquet": ("x.parquet", parquet(x=[[1.0], [2.0, 3.0]]), "any", "parquet", [[1.0], [2.0, 3.0]]),
    "an array": ("x.npy", npy(np.ones(3, np.float32)), "any", "jsonl", [1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize("case", ANY)
def test_a_model_that_states_no_rank(predict: Predict, case: str) -> None:
    name, content, model, to, expected = ANY[case]
    report = predict(name, content, model, to=to)
    assert report.errors == 0
    assert values(Path(report.output)) == expected


def test_results_of_any_rank_as_csv(predict: Predict) -> None:
    report = predict("x.jsonl", jsonl({"x": [1, 2]}, {"x": [[3]]}, {"x": 4}), "any", to="csv")
    assert Path(report.output).read_text() == 'y\n"[1.0,2.0]"\n"[[3.0]]"\n"4.0"\n'
    with pytest.raises(NotSupported, match="rows of any shape"):
        predict("y.jsonl", jsonl({"x": [1, 2]}), "any", to="npy")


def stateful(rate: int) -> dict[str, Any]:
    """A request as a recurrent model takes it: a row, its state, and a scalar."""
    return {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [rate, 0.5]},
            {"name": "state", "datatype": "FP32", "shape": [2, 1, 1], "data": [7, rate]},
            {"name": "rate", "datatype": "INT64", "shape": [], "data": [rate]},
        ]
    }


def test_requests_that_have_no_rows(predict: Predict) -> None:
    report = predict("x.jsonl", jsonl(*map(stateful, range(100))), "state")
    assert (report.rows, report.errors) == (100, 0)
    for rate, answer in enumerate(map(json.loads, Path(report.output).read_bytes().splitlines())):
        assert {output["name"]: (output["shape"], output["data"]) for output in answer["outputs"]} == {
            "x_out": ([1, 2], [rate, 0.5]),
            "state_out": ([2, 1, 1], [7, rate]),
            "rate_out": ([], [rate]),
        }


def test_requests_of_any_rank(predict: Predict) -> None:
    """Scalars among vectors: they have no rows that could be joined."""
    shapes: list[list[int]] = [[], [], [2], [1], [], [1, 2], [2, 2], []]
    tensors = [
        {"name": "x", "datatype": "FP32", "shape": shape, "data": [float(number)] * math.prod(shape)}
        for number, shape in enumerate(shapes)
    ]
    report = predict("x.jsonl", jsonl(*({"inputs": [tensor]} for tensor in tensors)), "any")
    answers = map(json.loads, Path(report.output).read_bytes().splitlines())
    assert [answer["outputs"] for answer in answers] == [[{**tensor, "name": "y"}] for tensor in tensors]


def test_missing_rows_of_fixed_shapes(predict: Predict, tmp_path: Path) -> None:
    image = IMAGE.reshape(4, 5, 3).tolist()
    nested = pa.list_(pa.list_(pa.list_(pa.float32(), 3), 5), 4)
    flat = pa.array([IMAGE.reshape(-1).tolist(), None, IMAGE.reshape(-1).tolist()], pa.list_(pa.float32(), 60))
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (4, 5, 3)), flat)
    for name, column in (("lists", pa.array([image, None, image], nested)), ("tensors", tensors)):
        report = predict(f"{name}.parquet", parquet(x=column), "pixels", to="jsonl")
        assert values(Path(report.output)) == [image, image]
        assert errors(Path(f"{report.output}.errors.jsonl")) == [(2, "x", "the value is missing")]


def test_tensors_of_permuted_axes_are_refused(predict: Predict) -> None:
    kind = pa.fixed_shape_tensor(pa.float32(), (4, 5, 3), permutation=[2, 0, 1])
    tensors = pa.ExtensionArray.from_storage(kind, pa.array([IMAGE.reshape(-1).tolist()], pa.list_(pa.float32(), 60)))
    with pytest.raises(InvalidFile, match="axes are permuted"):
        predict("x.parquet", parquet(x=tensors), "pixels")


@pytest.mark.parametrize("rows", [[[], []], [[], [1], None]])
def test_empty_lists_of_parquet(predict: Predict, rows: list[Any]) -> None:
    report = predict("x.parquet", parquet(x=pa.array(rows, pa.list_(pa.int64()))), "ragged")
    assert pq.read_table(report.output)["y"].to_pylist() == [row for row in rows if row is not None]


def test_requests_in_binary(predict: Predict) -> None:
    """Lines carry the bytes of binary tensors in base64, there and back."""
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000], np.uint32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
    tail = base64.b64encode(bits.tobytes()).decode()
    line = {
        "binary_tail": tail,
        "inputs": [tensor],
        "parameters": {"binary_data_output": True},
        "id": ',"binary_tail":"',
    }
    cut = {**line, "binary_tail": tail[:8]}
    report = predict("x.jsonl", jsonl(line, {**line, "binary_tail": "?"}, cut), "row")
    assert (report.rows, report.errors) == (1, 2)
    answer = json.loads(Path(report.output).read_bytes())
    assert (np.frombuffer(base64.b64decode(answer["binary_tail"]), np.uint32) == bits).all()
    assert (answer["outputs"][0]["parameters"], answer["id"]) == ({"binary_data_size": 12}, line["id"])
    reasons = [reason for _, _, reason in errors(Path(f"{report.output}.errors.jsonl"))]
    assert [reason.partition(":")[0] for reason in reasons] == [
        "'binary_tail' of the request must be base64",
        "unexpected size for input 'x' for model 'row', expecting 6 additional bytes",
    ]


def test_requests_of_the_protocol(predict: Predict, tmp_path: Path) -> None:
    """Each has an answer of its own, also those that ran together with others."""

    def request(rows: list[list[float]], **members: Any) -> dict[str, Any]:
        return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 3], "data": rows}], **members}

    wrong = {"inputs": [{"name": "z", "datatype": "FP32", "shape": [1], "data": [1]}]}
    content = jsonl(request([[1, 2, 3]], id="a"), wrong, request([[1, 1, 1], [2, 2, 2]]), {"features": [1, 2, 3]})
    report = predict("x.jsonl", content, "row")
    assert (report.rows, report.errors) == (2, 2)

    def answer(shape: list[int], data: list[float], **members: Any) -> dict[str, Any]:
        outputs = [{"name": "y", "datatype": "FP32", "shape": shape, "data": data}]
        return {"model_name": "row", "model_version": "1", "outputs": outputs, **members}

    assert [json.loads(line) for line in (tmp_path / "out/x.jsonl").read_bytes().splitlines()] == [
        answer([1, 3], [2, 4, 6], id="a"),
        answer([2, 3], [2, 2, 2, 4, 4, 4]),
    ]
    assert [row for row, _, _ in errors(tmp_path / "out/x.jsonl.errors.jsonl")] == [2, 4]
    with pytest.raises(NotSupported, match="can't be a table"):
        predict("y.jsonl", content, "row", to="csv")


@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_a_request_by_reference_is_an_error(predict: Predict, tmp_path: Path, where: str) -> None:
    """Nothing would be stored there, and nothing read."""
    elsewhere = {"parameters": {"uri": f"file://{tmp_path}/y.npy"}}
    x: dict[str, Any] = {"name": "x", "shape": [1, 3], "datatype": "FP32"}
    given = {**x, **elsewhere} if where == "inputs" else {**x, "data": [1, 2, 3]}
    request = {"inputs": [given], "outputs": [{"name": "y", **(elsewhere if where == "outputs" else {})}]}
    good = {"inputs": [{**x, "data": [1, 2, 3]}]}
    report = predict("x.jsonl", jsonl(good, request), "row")
    assert (report.rows, report.errors) == (1, 1)
    assert "its inputs and outputs in it, none by a 'uri'" in Path(f"{report.output}.errors.jsonl").read_text()
    assert not (tmp_path / "y.npy").exists()


def test_a_request_with_more_inputs_than_its_model(predict: Predict, tmp_path: Path) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    many = {"inputs": [x, *({**x, "name": name, "parameters": {"uri": "/x"}} for name in ("factor", "z"))]}
    report = predict("x.jsonl", jsonl({"inputs": [x]}, many), "row")
    assert (report.rows, report.errors) == (1, 1)
    assert [(row, reason) for row, _, reason in errors(tmp_path / "out/x.jsonl.errors.jsonl")] == [
        (
            2,
            "unexpected inference input 'z' for model 'row', whose inputs are 'x', 'factor': the request has 3 inputs, "
            "the model 2",
        )
    ]


KEPT: dict[str, tuple[bytes, Any]] = {
    "x.jsonl": (jsonl({"x": [1, 2, 3], "id": "a", "t": [1]}, {"x": 1}, {"x": [4, 5, 6]}), [["a", [1]], [None, None]]),
    "x.csv": (b"id,p,q,r,t\n007,1,2,3,u\n8,x,2,3,v\n9,4,5,6,\n", [["007", "u"], ["9", ""]]),
    "x.parquet": (parquet(x=[[1, 2, 3], [1], [4, 5, 6]], id=[7, 8, 9], t=[None, "b", "c"]), [[7, None], [9, "c"]]),
    "x.npz": (npz(x=X[:2], id=np.array([7, 9]), t=np.array(["u", "v"])), [[7, "u"], [9, "v"]]),
}


@pytest.mark.parametrize("to", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", KEPT)
def test_columns_are_kept(predict: Predict, tmp_path: Path, name: str, to: str) -> None:
    content, expected = KEPT[name]
    report = predict(name, content, "row", keep=("id", "t"), to=to)
    path = Path(report.output)
    found = pq.read_table(path).to_pylist() if to == "parquet" else map(json.loads, path.read_text().splitlines())
    if (name, to) == ("x.csv", "jsonl"):
        expected = [["007", "u"], [9, ""]]  # each cell by itself, and a column of Parquet as a whole
    assert [[row["id"], row["t"]] for row in found] == expected


def test_rows_of_different_shapes(predict: Predict, tmp_path: Path) -> None:
    rows = [[1], [2, 3], [], [4], [5, 6], [7, 8, 9]]
    cells = b"x\n" + b"".join(b'"%b"\n' % json.dumps(row).encode() for row in rows)
    for name, content in {"x.jsonl": jsonl(*({"x": row} for row in rows)), "x.csv": cells}.items():
        assert predict(name, content, "ragged", to="jsonl").errors == 0
        out = tmp_path / "out" / (name if name == "x.jsonl" else f"{name}.jsonl")
        # A row of one value is that value, as everywhere.
        expected = [row[0] if len(row) == 1 else row for row in rows]
        assert [json.loads(line)["y"] for line in out.read_bytes().splitlines()] == expected
    predict("x.parquet", parquet(x=rows), "ragged")
    assert pq.read_table(tmp_path / "out/x.parquet")["y"].to_pylist() == rows
    predict("y.parquet", parquet(x=rows), "ragged", to="csv")
    assert (tmp_path / "out/y.parquet.csv").read_text() == 'y\n"[1]"\n"[2,3]"\n"[]"\n"[4]"\n"[5,6]"\n"[7,8,9]"\n'


TYPES: dict[str, tuple[str, bytes, str, list[Any]]] = {
    "text": ("x.csv", b'x\none\n\n"two, three"\n', "words", ["one", "", "two, three"]),
    "text of Parquet": ("x.parquet", parquet(x=["one", ""]), "words", ["one", ""]),
    "text of NPY": ("x.npy", npy(np.array([["one"], ["\u00fc"]])), "words", ["one", "\u00fc"]),
    "booleans": ("x.csv", b"x\ntrue\nFalse\n1\n", "flags", [True, False, True]),
    "booleans of Parquet": ("x.parquet", parquet(x=[True, False]), "flags", [True, False]),
    "bfloat16": ("x.npy", npy(np.array([[1.0, 3.0]])), "brain", [[1.0, 3.0]]),
    "half floats": ("x.csv", b"a,b\n1.5,2\n", "half", [[1.5, 2.0]]),
    "an image from columns": ("x.csv", b"a,b,c,d\n1,2,3,4\n", "image", [[[[1.0, 2.0], [3.0, 4.0]]]]),
    "an image": ("x.jsonl", jsonl({"x": [[[1, 2], [3, 4]]]}), "image", [[[[1.0, 2.0], [3.0, 4.0]]]]),
    "a model of single rows": ("x.jsonl", jsonl({"x": [1, 2]}, {"x": [3, 4]}), "alone", [[1.0, 2.0], [3.0, 4.0]]),
    "columns of no type": ("x.parquet", parquet(p=[1.0], q=pa.nulls(1), r=[3]), "row", [[2.0, None, 6.0]]),
    "views of text": ("x.parquet", parquet(x=pa.array(["one"], pa.string_view())), "words", ["one"]),
    "missing values": ("x.csv", b"p,q,r\n1,,NA\n", "row", [[2.0, None, None]]),
    "NaN in JSON": ("x.jsonl", b'{"x": [1, NaN, null]}\n', "row", [[2.0, None, None]]),
}


@pytest.mark.parametrize("case", TYPES)
def test_types(predict: Predict, case: str) -> None:
    name, content, model, expected = TYPES[case]
    report = predict(name, content, model, to="jsonl")
    assert report.errors == 0
    assert [json.loads(line)["y"] for line in Path(report.output).read_bytes().splitlines()] == expected


CSV: dict[str, tuple[bytes, str, str]] = {
    "floats": (b"a,b,c\n1,2.5,3e-9\n-0.5,1e20,0\n", "row", "y_0,y_1,y_2\n2.0,5.0,6e-9\n-1.0,2e+20,0.0\n"),
    "a missing value": (b"a,b,c\n1,,3\n4,5,6\n", "row", "y_0,y_1,y_2\n2.0,nan,6.0\n8.0,10.0,12.0\n"),
    "infinity": (b"a,b,c\n1,inf,3\n-inf,0.1,nan\n", "row", "y_0,y_1,y_2\n2.0,inf,6.0\n-inf,0.2,nan\n"),
    "infinity alone": (b"a,b\n1,inf\n", "half", "y_0,y_1\n1.0,inf\n"),
    "integers": (b"a,b\n1,-2\n", "small", "y_0,y_1\n1,-2\n"),
    "booleans": (b"x\ntrue\nfalse\n", "flags", "y\ntrue\nfalse\n"),
    "half floats": (b"a,b\n1.5,2\n", "half", "y_0,y_1\n1.5,2.0\n"),
    "bfloat16": (b"a,b\n1.5,2\n", "brain", "y_0,y_1\n1.5,2.0\n"),
    "two outputs": (b"a,b\n1.5,2\n-1,7\n", "table", "a_out,b_out\n1.5,2\n-1.0,7\n"),
    "text": (b'x\none\n"two, three"\n', "words", 'y\n"one"\n"two, three"\n'),
    "any shape": (b'x\n"[1,2]"\n"[3,4]"\n', "ragged", 'y\n"[1,2]"\n"[3,4]"\n'),
    "an image": (b"a,b,c,d\n1,2,3,4\n", "image", "y_0,y_1,y_2,y_3\n1.0,2.0,3.0,4.0\n"),
}


@pytest.mark.parametrize("case", CSV)
def test_results_as_csv(predict: Predict, case: str) -> None:
    content, model, expected = CSV[case]
    report = predict("x.csv", content, model)
    assert report.errors == 0
    assert Path(report.output).read_text() == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"a,b,more,c\n1,2,?,3\n"),
        ("x.parquet", parquet(a=[1.0], b=[2.0], more=["?"], c=[3.0])),
        ("x.parquet", parquet(x=[[3.0, 1.0, 2.0]], a=[7.0])),
    ],
)
def test_columns_that_the_card_lists(predict: Predict, name: str, content: bytes) -> None:
    """In its order, others left out; a column of the input's name comes before them."""
    report = predict(name, content, "listed", to="jsonl")
    assert Path(report.output).read_bytes() == b'{"y":[6.0,2.0,4.0]}\n'


def without_shapes(model: bytes) -> bytes:
    """The same, whose outputs are of any rank."""
    found = ModelProto.FromString(model)
    for output in found.graph.output:
        output.type.tensor_type.ClearField("shape")
    return found.SerializeToString()


def same(*shape: int | str) -> bytes:
    """`y` [shape] is `x`, by a way on which ONNX Runtime doesn't see its shape."""
    made = onnx_models.helper.make_node
    nodes = [
        made("Shape", ["x"], ["s"]),
        made("NonZero", ["s"], ["at"]),
        made("Squeeze", ["at"], ["all"]),
        made("Gather", ["s", "all"], ["of_x"]),
        made("Reshape", ["x", "of_x"], ["y"]),
    ]
    x = onnx_models.tensor("x", "FP32", ("batch", "time", 2))
    return onnx_models.model(nodes, [x], [onnx_models.tensor("y", "FP32", shape)])


# Answers of another shape than the file declares, or of none.
SHAPES = {"gru": same("batch", 6, 2), "deep": same("batch", 1), "unknown": without_shapes(same())}
THREE = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
GRU = r"rows of output 'y' have the shape \[3, 2\], but the model declares \[6, 2\]: write jsonl or parquet"
DEEP = r"rows of output 'y' have the shape \[3, 2\], but the model declares \[1\]: write jsonl"


@pytest.mark.parametrize(
    ("model", "to", "said"),
    [
        *(("gru", to, GRU) for to in ("npy", "npz", "csv")),
        *(("gru", to, "") for to in ("jsonl", "parquet")),
        *(("deep", to, DEEP) for to in ("npy", "npz", "csv", "parquet")),
        ("deep", "jsonl", ""),
        *(("unknown", to, r"output 'y' has rows of any shape: write jsonl or parquet") for to in ("npy", "npz")),
        *(("unknown", to, "") for to in ("jsonl", "csv", "parquet")),
    ],
)
def test_outputs_of_another_shape(tmp_path: Path, model: str, to: str, said: str) -> None:
    """They are right, and written where a row may have any shape; elsewhere the file fails with the reason."""
    folder = onnx_models.write(tmp_path / "models", {f"{model}.onnx": SHAPES[model]})
    (tmp_path / "x.npy").write_bytes(npy(THREE))
    service = Service.from_settings(Settings(model_path=str(folder), intra_op_threads=1))
    job = Job(input=f"{tmp_path}/x.npy", output=f"{tmp_path}/out/", to=to)
    try:
        if said:
            with pytest.raises(NotSupported, match=said):
                run(job, service)
            report = json.loads((tmp_path / f"out/x.npy{'' if to == 'npy' else '.' + to}.report.json").read_bytes())
            assert report["state"] == "failed"
            return
        path = Path(run(job, service).output)
    finally:
        service.close()
    found = (
        [json.loads(row["y"]) for row in csv.DictReader(path.read_text().splitlines())] if to == "csv" else values(path)
    )
    assert found == THREE.tolist()


def test_columns_of_csv_have_different_names(tmp_path: Path) -> None:
    """An output whose columns would have the names of others is JSON in a cell."""
    named = onnx_models.model(
        [
            onnx_models.helper.make_node("Identity", ["x"], ["getitem"]),
            onnx_models.helper.make_node("ReduceSum", ["x", "axis"], ["getitem_1"], keepdims=0),
        ],
        [onnx_models.tensor("x", "FP32", ("batch", 2))],
        [onnx_models.tensor("getitem", "FP32", ("batch", 2)), onnx_models.tensor("getitem_1", "FP32", ("batch",))],
        [onnx_models.helper.make_tensor("axis", onnx_models.ELEMENT_TYPES["INT64"], [1], [1])],
    )
    folder = onnx_models.write(tmp_path / "models", {"m.onnx": named, "plain.onnx": onnx_models.scaled(2, 2)})
    service = Service.from_settings(Settings(model_path=str(folder), intra_op_threads=1))
    (tmp_path / "x.csv").write_bytes(b"a,b,y_0\n1,2,k\n")
    (tmp_path / "y.csv").write_bytes(b"a,b\n1,2\n")
    try:
        report = run(Job(input=f"{tmp_path}/y.csv", output=f"{tmp_path}/out/", model="m"), service)
        assert Path(report.output).read_text() == 'getitem,getitem_1\n"[1.0,2.0]",3\n'
        job = Job(input=f"{tmp_path}/x.csv", output=f"{tmp_path}/out/", model="plain", keep=("y_0",))
        with pytest.raises(InvalidRequest, match="the column 'y_0' to keep has the name of a column of an output"):
            run(job, service)
    finally:
        service.close()


def test_kept_columns_of_csv(predict: Predict) -> None:
    content = b'id,p,q,r,t\n007,1,2,3,"a ""word"""\n8,4,5,6,\n'
    report = predict("x.csv", content, "row", keep=("t", "id"))
    assert list(csv.reader(Path(report.output).read_text().splitlines())) == [
        ["t", "id", "y_0", "y_1", "y_2"],
        ['a "word"', "007", "2", "4", "6"],
        ["", "8", "8", "10", "12"],
    ]


def test_wide_rows_of_parquet_are_few_at_a_time(service: Service) -> None:
    """A row of 2 MB, which its encoding makes small in the file: 8 MB of them are in memory at a time."""
    column = pa.array([[7] * 262_144] * 10, pa.list_(pa.int64()))
    file = BytesIO()
    pq.write_table(pa.table({"x": column}), file)
    wanted = ReadOptions(service.repository.get("ragged"), (), Pace(1000), "wide.parquet")
    chunks = ParquetRows(file, "", wanted).chunks(Cursor())
    assert [len(block.rows) for chunk in chunks for block in chunk()] == [4, 4, 2]


def test_a_model_without_a_batch_axis(predict: Predict) -> None:
    with pytest.raises(NotSupported, match="takes no rows"):
        predict("x.jsonl", jsonl({"x": [1, 2]}), "fixed")


MANY = jsonl(*({"features": [row, 0, 1]} if row % 9 else {"features": "?"} for row in range(20_000)))


BAD = range(600, 3_000, 600)
Y = np.where(np.isin(np.arange(3_000), BAD), 1e300, 1.0).reshape(-1, 1) * [1.0, 2.0, 3.0]
FEW_BAD = jsonl(*({"features": [1, row, row] if row not in BAD else "?"} for row in range(3_000)))
LONG = {
    "x.jsonl": FEW_BAD,
    "x.jsonl.gz": gzip.compress(FEW_BAD),
    "x.csv": b"p,q,r\n" + b"".join(b'%d,"1",%b\n' % (row, b"x" if row in BAD else b"2") for row in range(3_000)),
    "x.parquet": parquet(x=[None if row in BAD else [row, 1, 2] for row in range(3_000)]),
    "x.npy": npy(Y),
    "x.npz": npz(x=Y),
}


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts so small that a test has many."""
    monkeypatch.setattr(part_writer, "PART_BYTES", 10_000)


def contents(folder: Path, name: str) -> list[Any]:
    """The results and errors; compressed parts and row groups are borders that don't matter."""
    return [values(folder / name), (folder / f"{name}.errors.jsonl").read_bytes()]


@pytest.mark.parametrize("name", LONG)
@pytest.mark.usefixtures("parts")
def test_a_job_without_time_goes_on(predict: Predict, service: Service, tmp_path: Path, name: str) -> None:
    """Runs whose time is over at once do a block each; together they give the results of one run."""
    content = LONG[name]
    straight = predict(name, content, "row")
    job = Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/again/", model="row")
    reports: list[Report] = []
    while not reports or not reports[-1].finished:
        reports.append(run(job, service, until=time.monotonic()))
    assert len(reports) > 2
    assert [report.rows for report in reports] == sorted(report.rows for report in reports)
    assert (reports[-1].rows, reports[-1].errors) == (straight.rows, straight.errors)
    assert contents(tmp_path / "again", name) == contents(tmp_path / "out", name)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted(
        path.name for path in (tmp_path / "out").iterdir()
    )


@pytest.mark.parametrize(("took", "states"), [(40, ["finished"]), (60, ["unfinished", "finished"])])
@pytest.mark.usefixtures("parts")
def test_what_is_made_late_is_published_by_the_next_run(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: float, states: list[str]
) -> None:
    """Publishing takes time that the end of an invocation may not have."""
    (tmp_path / "x.jsonl").write_bytes(LONG["x.jsonl"])
    job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row")
    now = start = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def progress(_: Any) -> None:
        nonlocal now
        now = start + took

    found: list[str] = []
    while len(found) < 3 and "finished" not in found:
        found.append(run(job, service, until=start + 100, progress=progress).state)
        assert (tmp_path / "out/x.jsonl").exists() == (found[-1] == "finished")
    assert found == states


@pytest.mark.parametrize("name", LONG)
def test_slices(predict: Predict, service: Service, tmp_path: Path, name: str) -> None:
    """Jobs of slices, in any order, and a last one that only puts them together."""
    content = LONG[name]
    straight = predict(name, content, "row")
    job = Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/again/", model="row")
    slices = borders(job, service, 700)
    assert len(slices) > 3
    done = [run(replace(job, part=part), service) for part in reversed(slices)]
    assert not (tmp_path / "again" / name).exists()
    assert sum(report.rows for report in done) == straight.rows
    report = run(job, service, until=0.0)
    assert (report.state, report.rows, report.errors) == ("finished", straight.rows, straight.errors)
    assert contents(tmp_path / "again", name) == contents(tmp_path / "out", name)


GOOD = {
    "x.jsonl": b'{"features":[1,2,3]}\n' * 3_000,
    "x.csv": b"p,q,r\n" + b"1,2,3\n" * 3_000,
}


@pytest.mark.parametrize("name", GOOD)
def test_slices_end_within_blocks(service: Service, tmp_path: Path, name: str) -> None:
    """Where no row is bad, what is read at a time goes on behind the end of a slice."""
    (tmp_path / name).write_bytes(GOOD[name])
    job = Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/out/", model="row")
    slices = borders(job, service, 700)
    done = [run(replace(job, part=part), service) for part in slices]
    assert [report.rows for report in done] == [(part.stop or 3_000) - part.start.row for part in slices]
    assert run(job, service).rows == 3_000
    assert values(tmp_path / "out" / name) == [[2, 4, 6]] * 3_000


@pytest.mark.parametrize("name", LONG)
def test_a_large_file_is_cut(predict: Predict, service: Service, tmp_path: Path, name: str) -> None:
    """Into slices of about a size, where what is behind the first can be read without it."""
    content = LONG[name]
    straight = predict(name, content, "row")
    job = Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/again/", model="row")
    slices = cut(job, service, len(content) // 4)
    if name.endswith((".gz", ".zst", ".npz")):
        assert slices == []
        return
    assert 3 <= len(slices) <= 6
    assert [part.stop for part in slices] == [*(part.start.row for part in slices[1:]), None]
    done = [run(replace(job, part=part), service) for part in slices]
    assert sum(report.rows for report in done) == straight.rows
    assert max(report.rows for report in done) < straight.rows / 2
    assert run(job, service, until=0.0).state == "finished"
    assert contents(tmp_path / "again", name) == contents(tmp_path / "out", name)
    assert cut(job, service, len(content) // 4) == cut(job, service, len(content)) == []


@pytest.mark.usefixtures("parts")
def test_a_part_that_is_lost_is_made_again(predict: Predict, service: Service, tmp_path: Path) -> None:
    straight = predict("x.jsonl", MANY, "row")
    job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/again/", model="row")
    for part in borders(job, service, 5_000):
        run(replace(job, part=part), service)
    next((tmp_path / "again/.inferry").glob("*/*.data")).unlink()
    with pytest.raises(StoreError, match=r"a part of .* is gone"):
        run(job, service)
    assert run(job, service).rows == straight.rows
    assert contents(tmp_path / "again", "x.jsonl") == contents(tmp_path / "out", "x.jsonl")


def test_once(predict: Predict, service: Service, tmp_path: Path) -> None:
    """A job that is done is not done again, until its input or its options are others."""
    first = predict("x.jsonl", LINES, "row")
    job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row")
    (tmp_path / "out/x.jsonl").write_bytes(b"mark")
    assert run(job, service) == first
    assert (tmp_path / "out/x.jsonl").read_bytes() == b"mark"
    (tmp_path / "x.jsonl").write_bytes(jsonl({"x": [1, 1, 1]}, {"x": 0}))
    changed = run(job, service)
    assert (changed.rows, changed.errors) == (1, 1)
    assert contents(tmp_path / "out", "x.jsonl")[0] == [[2.0, 2.0, 2.0]]
    assert run(replace(job, batch_size=1), service).key != changed.key
    again = predict("x.jsonl", LINES, "row")
    assert again.rows == ROWS
    assert not (tmp_path / "out/x.jsonl.errors.jsonl").exists()
    assert not (tmp_path / "out/.inferry").exists()


@pytest.mark.usefixtures("parts")
def test_workers_at_the_same_time(service: Service, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(MANY)
    job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row")
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: run(job, service), range(4)))
    assert {(report.rows, report.errors) for report in reports} == {(17_777, 2_223)}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "x.jsonl",
        "x.jsonl.errors.jsonl",
        "x.jsonl.report.json",
    ]


@pytest.mark.parametrize(
    ("max_errors", "said"),
    [(2222, "2223 of 20000 rows"), (100, "more than --max-errors 100"), (0.01, "0.01 of all"), (2223, ""), (0.2, "")],
)
def test_too_many_errors(predict: Predict, service: Service, tmp_path: Path, max_errors: Any, said: str) -> None:
    if not said:
        assert predict("x.jsonl", MANY, "row", max_errors=max_errors).errors == 2223
        return
    with pytest.raises(TooManyErrors, match=said):
        predict("x.jsonl", MANY, "row", max_errors=max_errors)
    report = json.loads((tmp_path / "out/x.jsonl.report.json").read_bytes())
    assert report["state"] == "stopped"
    assert said in report["reason"]
    assert len(errors(tmp_path / "out/x.jsonl.errors.jsonl")) == report["errors"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.jsonl.errors.jsonl", "x.jsonl.report.json"]
    with pytest.raises(TooManyErrors, match=said):
        predict_again(tmp_path, service, max_errors)


def predict_again(tmp_path: Path, service: Service, max_errors: Any) -> Report:
    return run(Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row", max_errors=max_errors), service)
