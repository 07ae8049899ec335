"""What is said of wrong files of each format: words of the file, none of HTTP's headers or of libraries' insides."""

import bz2
import gzip
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from inferry.errors import InferryError
from inferry.jobs import runner
from inferry.jobs.runner import Job
from inferry.service import Service
from inferry.settings import Settings

MODELS = {
    "ab.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n", 1))}),
    "three.onnx": onnx_models.identity("FP32", ("n", 3)),
}
FOREIGN = re.compile(
    r"(?i)content-length|header inference|arrow|thrift|orjson|simdjson|csv module|magic|zip ?file|gzipped|postscript|"
    r"deserialize|codec|newline=|ZSTD|data stream"
)
TABLE = pa.table({"a": ["x"], "b": [1]})


def written(write: Any, *arguments: Any) -> bytes:
    target = BytesIO()
    write(*arguments, target)
    return target.getvalue()


def npz(**arrays: Any) -> bytes:
    target = BytesIO()
    np.savez(target, allow_pickle=False, **arrays)
    return target.getvalue()


def npy(values: Any) -> bytes:
    target = BytesIO()
    np.save(target, np.array(values))
    return target.getvalue()


PARQUET = written(pq.write_table, TABLE)
DAMAGED = "it is damaged, cut off, or not what its name says"
TEXT = "column 'a' of {} holds text (string), but FP32 is expected for input 'a' of model 'ab'"
FILES: dict[str, tuple[bytes, str]] = {
    "ab.parquet": (PARQUET, TEXT),
    "ab.feather": (written(feather.write_feather, TABLE), TEXT),
    "ab.orc": (written(orc.write_table, TABLE), TEXT),
    "ab cut.parquet": (PARQUET[:-30], f"{{}} is not a Parquet file: {DAMAGED}"),
    "ab changed.parquet": (PARQUET[:4] + b"\xff" * 26 + PARQUET[30:], f"{{}} can't be read: {DAMAGED}"),
    "ab other.feather": (b"hello", f"{{}} can't be read as an Arrow file: {DAMAGED}"),
    "ab other.orc": (b"hello" * 5, f"{{}} can't be read as an ORC file: {DAMAGED}"),
    "ab other.npz": (b"hello", f"{{}} is not an NPZ archive: {DAMAGED}"),
    "ab one.npz": (npz(a=[[1.0]]), "{} has no array 'b'; it has a"),
    "ab lengths.npz": (
        npz(a=np.zeros((2, 1)), b=np.zeros((3, 1))),
        "the arrays in {} have different numbers of rows: 2 of a, 3 of b",
    ),
    "three other.npy": (b"hello", "{} is not an NPY file: its header can't be read"),
    "three text.npy": (npy([["a", "b", "c"]]), "{} holds text (<U1), but FP32 is expected"),
    "three times.npy": (
        npy(np.zeros((2, 3), "M8[s]")),
        "{} holds dates and times (datetime64[s]), but FP32 is expected",
    ),
    "three complex.npy": (npy([[1j, 2, 3]]), "{} holds complex numbers (complex128), but FP32 is expected"),
    "ab.csv.gz": (b"a,b\n", f"{{}} can't be read: {DAMAGED}"),
    "ab.csv.bz2": (b"a,b\n", f"{{}} can't be read: {DAMAGED}"),
    "ab.csv.zst": (b"a,b\n", f"{{}} can't be read: {DAMAGED}"),
    "ab cut.csv.gz": (gzip.compress(b"a,b\n" + b"1,2\n" * 9999)[:60], "{} ends in the middle of its compressed data"),
    "ab cut.csv.bz2": (bz2.compress(b"a,b\n")[:20], "{} ends in the middle of its compressed data"),
    "ab latin.csv": (b"a,\xfc\n1,2\n", "the first line of {} can't be read: it is not text in UTF-8"),
    "ab cut.json": (b'[{"a":1,"b":2},{"a":1', "element 2 of {} is not JSON, or has over 16777216 bytes"),
    "ab latin.json": (b'[{"a":1,"b":"\xfc"}]', "{} is not text in UTF-8"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    models = onnx_models.write(tmp_path_factory.mktemp("models"), MODELS)
    service = Service.from_settings(Settings(model_path=str(models), intra_op_threads=1))
    yield service
    service.close()


def predicted(service: Service, path: Path) -> Any:
    job = Job(input=str(path), output=f"{path.parent}/out/", model=re.split(r"[ .]", path.name)[0], to="jsonl")
    return runner.run(job, service)


@pytest.mark.parametrize("name", FILES)
def test_files(service: Service, tmp_path: Path, name: str) -> None:
    content, reason = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InferryError) as caught:
        predicted(service, path)
    assert str(caught.value) == reason.format(path)
    assert FOREIGN.search(reason.replace("an Arrow file", "")) is None


REQUEST = {"name": "x", "datatype": "FP32", "shape": [1, 3]}
LINES: dict[str, tuple[list[str], list[str]]] = {
    "ab.jsonl": (
        [
            '{"a":1,"b":2}',
            '{"a":"x","b":2}',
            '{"a":1,"b":2.5}',
            '{"a":{"q":1},"b":1}',
            "nope",
            '{"a":1e400,"b":1}',
            "[1]",
        ],
        [
            "input 'a' for model 'ab' must hold numbers or null for FP32, got the string 'x'",
            "input 'b' for model 'ab' must hold integers for INT64, got the number 2.5",
            "input 'a' for model 'ab' must hold numbers or null for FP32, got an object",
            "the line is not JSON: invalid literal, expected 'null', at character 1",
            "the line is not JSON: number is infinity when parsed as double, at character 6",
            "each line must be a JSON object, got an array",
        ],
    ),
    "three requests.jsonl": (
        [
            json.dumps({"inputs": [{**REQUEST, "data": [1, 2, 3]}]}),
            "nope",
            json.dumps({"inputs": [{**REQUEST, "parameters": {"binary_data_size": 12}}], "binary_tail": "AAAA"}),
        ],
        [
            "the line is not JSON: invalid literal, expected 'null', at character 1",
            "unexpected size for input 'x' for model 'three', expecting 9 additional bytes: "
            "'binary_data_size' says 12, 3 are left of the body.",
        ],
    ),
    "ab.csv": (
        ["a,b", "1,2", "x,1", "1", "1,2,3", '"1"2,3', '"1,2'],
        [
            "'x' is found where FP32 is expected",
            "the line has 1 cell, the header 2",
            "the line has 3 cells, the header 2",
            "the line is not CSV: ',' expected after '\"'",
            "the line is not CSV: the quote around a cell has no end",
        ],
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_rows(service: Service, tmp_path: Path, name: str) -> None:
    lines, reasons = LINES[name]
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    report = predicted(service, path)
    assert report.rows == 1
    found = [json.loads(line)["reason"] for line in Path(f"{report.output}.errors.jsonl").read_bytes().splitlines()]
    assert found == reasons
    assert [reason for reason in found if FOREIGN.search(reason)] == []
