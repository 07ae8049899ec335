"""Files that can't be used: one clear error each, a report that says so, no results, nothing left behind."""

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from arrayfiles import LIES, archived, npy, npz
from inferry.errors import InferryError, StoreError
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage.files import open_files

sys.path.append(str(Path(__file__).parents[1] / "contract"))
import services
from flaky import Denial, flaky

MODELS = {
    "row.onnx": onnx_models.scaled(2, 3),
    "table.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n",))}),
    "image.onnx": onnx_models.identity("FP32", ("n", 1, 2, 2)),
    "ragged.onnx": onnx_models.identity("FP32", ("n", "k")),
    "broken.onnx": b"no model",
}
LINE = b'{"x": [1, 2, 3]}\n'


def parquet(**columns: object) -> bytes:
    file = BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def twice(name: str) -> bytes:
    """A table with two columns of a name."""
    file = BytesIO()
    lists = pa.array([[1.0, 2.0, 3.0]])
    pq.write_table(pa.table([lists, lists, lists], names=["x", name, "id"]), file)
    return file.getvalue()


class _Kms(encryption.KmsClient):  # type: ignore[misc]
    """Keeps keys as they are."""

    def __init__(self, _: object) -> None:
        encryption.KmsClient.__init__(self)

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64decode(key)


def encrypted(readable_footer: bool) -> bytes:
    """A table whose column `q` only is encrypted, with a footer that anybody can read, or not."""
    keys = encryption.CryptoFactory(_Kms)
    how = encryption.EncryptionConfiguration(footer_key="f", column_keys={"k": ["q"]}, plaintext_footer=readable_footer)
    properties = keys.file_encryption_properties(encryption.KmsConnectionConfig(), how)
    table, file = pa.table({"p": [1.0], "q": [2.0], "r": [3.0]}), BytesIO()
    with pq.ParquetWriter(file, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return file.getvalue()


TABLE = parquet(x=[[float(row), 2.0, 3.0] for row in range(50_000)])
PACKED = gzip.compress(b'{"x": [1, 2, %d]}\n' * 5000 % tuple(range(5000)))
ZSTD = bytes(pa.compress(gzip.decompress(PACKED), "zstd", asbytes=True))

UNREADABLE: dict[str, tuple[str, bytes, str, str]] = {
    "empty JSONL": ("x.jsonl", b"", "row", "is empty"),
    "empty CSV": ("x.csv", b"", "row", "is empty"),
    "empty gzip": ("x.csv.gz", gzip.compress(b""), "row", "is empty"),
    "empty Parquet": ("x.parquet", b"", "row", "is not a Parquet file"),
    "empty NPY": ("x.npy", b"", "row", "is not an NPY file"),
    "empty NPZ": ("x.npz", b"", "row", "is not an NPZ archive"),
    "columns of another table": ("x.csv", b"a,c\n1,2\n", "table", "has no column 'b' that model 'table' takes"),
    "too few columns": ("x.csv", b"p,q\n1,2\n", "row", "has 2 columns for input 'x'"),
    "too many columns": ("x.parquet", parquet(p=[1.0], q=[2.0], r=[3.0], s=[4.0]), "row", "has 4 columns"),
    "a column twice": ("x.csv", b"p,q,p\n1,2,3\n", "row", "names column 'p' twice"),
    "a column twice in Parquet": ("x.parquet", twice("x"), "row", "has 2 columns of the name 'x'"),
    "a column to keep twice": ("x.parquet", twice("id"), "row", "has 2 columns of the name 'id'"),
    "columns of a wrong type": ("x.parquet", parquet(a=["one"], b=[1]), "table", "column 'a' of .* holds text"),
    "dates for integers": (
        "x.parquet",
        parquet(a=[1.0], b=[date(2024, 2, 9)]),
        "table",
        "column 'b' .* holds dates",
    ),
    "text among floats": ("x.parquet", parquet(p=[1.0], q=["2"], r=[3.0]), "row", "column 'q' of .* holds text"),
    "lists of text": ("x.parquet", parquet(x=[["1", "2", "3"]]), "row", "holds text"),
    "an array of text": ("x.npy", npy([["one", "two", "six"]]), "row", r"holds text \(<U3\), but FP32 is expected"),
    "an array of another shape": ("x.npy", npy(np.ones((5, 4))), "row", r"have the shape \[4\]"),
    "an array of objects": ("x.npy", npy(np.array([{}], object)), "row", "holds Python objects"),
    "a single value": ("x.npy", npy(np.float32(1)), "row", "is a single value"),
    "one array for two inputs": ("x.npy", npy(np.ones(3)), "table", "takes 2 inputs"),
    "arrays of other names": ("x.npz", npz(a=np.ones(3), c=np.ones(3)), "table", "has no array 'b'"),
    "arrays of different lengths": (
        "x.npz",
        npz(a=np.ones(3), b=np.ones(4, int)),
        "table",
        "different numbers of rows",
    ),
    "cut-off gzip": ("x.jsonl.gz", PACKED[:-1000], "row", "ends in the middle"),
    "damaged gzip": ("x.jsonl.gz", PACKED[:3000] + b"?" * 100 + PACKED[3100:], "row", "can't be read"),
    "no gzip": ("x.jsonl.gz", LINE, "row", "can't be read"),
    "no zstd": ("x.jsonl.zst", LINE, "row", "can't be read"),
    "cut-off zstd": ("x.jsonl.zst", ZSTD[:-1000], "row", "can't be read"),
    "cut-off zstd at a block": ("x.jsonl.zst", ZSTD[:-3], "row", "can't be read"),
    "gzip without the extension": ("x.jsonl", PACKED, "row", "is compressed with gzip"),
    "cut-off Parquet": ("x.parquet", TABLE[:-1000], "row", "is not a Parquet file"),
    "damaged Parquet": ("x.parquet", TABLE[:5000] + b"?" * 5000 + TABLE[10_000:], "row", "can't be read"),
    "encrypted columns": (
        "x.parquet",
        encrypted(readable_footer=True),
        "row",
        "is encrypted, which inferry can't read",
    ),
    "an encrypted footer": ("x.parquet", encrypted(readable_footer=False), "row", "is encrypted, which inferry can't"),
    "a first line of numbers": ("x.csv", b"1,2,3\n4,5,6\n", "row", "holds numbers alone: 1, 2, 3. Say --no-header"),
    "cut-off NPY": ("x.npy", npy(np.ones((1000, 3)))[:-100], "row", "is cut off"),
    **{f"NPY with {name}": ("x.npy", content, "row", re.escape(said)) for name, (content, said) in LIES.items()},
    **{
        f"NPZ with {name}": ("x.npz", archived("x.npy", content), "row", re.escape(said))
        for name, (content, said) in LIES.items()
    },
    "rows of no values": ("x.npy", npy(np.zeros((5, 0))), "ragged", "rows hold no values"),
    "images in another order": ("x.npy", npy(np.ones((5, 2, 2, 1))), "image", r"have the shape \[1, 2, 2\]"),
    "cut-off NPZ": ("x.npz", npz(x=np.ones((1000, 3)))[:-100], "row", "is not an NPZ archive"),
    "UTF-16": ("x.csv", "p,q,r\n1,2,3\n".encode("utf-16"), "row", "is UTF-16"),
    "a header in Latin-1": ("x.csv", b"p,q,\xfc\n1,2,3\n", "row", "can't be read"),
    "an unknown model": ("x.jsonl", LINE, "rows", "unknown model 'rows'"),
    "a broken model": ("x.jsonl", LINE, "broken", "can't be loaded"),
    "an unknown extension": ("x.txt", LINE, "row", "can't tell the format"),
    "nothing to keep": ("x.csv", b"p,q,r\n1,2,3\n", "row", "has no column 'id' to keep"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), MODELS)


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[Service]:
    service = Service.from_settings(Settings(model_path=str(models), intra_op_threads=1))
    yield service
    service.close()


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable(service: Service, tmp_path: Path, case: str) -> None:
    name, content, model, said = UNREADABLE[case]
    (tmp_path / name).write_bytes(content)
    keep = ("id",) if "to keep" in case else ()
    with pytest.raises(InferryError, match=said) as raised:
        run(Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/out/", model=model, keep=keep), service)
    left = sorted(path.name for path in tmp_path.glob("out/*"))
    if "model" in case or ("extension" in case and "without" not in case):
        assert left == []  # nothing is known of a job without a model or a format
        return
    assert left in ([f"{name}.report.json"], [".inferry", f"{name}.report.json"])
    report = json.loads((tmp_path / f"out/{name}.report.json").read_bytes())
    assert (report["state"], report["reason"]) == ("failed", str(raised.value))


@pytest.mark.parametrize("extension", ["jsonl", "csv"])
def test_a_line_of_50_mb_and_bytes_that_are_no_text(service: Service, tmp_path: Path, extension: str) -> None:
    """Rows that can't be used between rows that can: the others have their results."""
    if extension == "jsonl":
        lines = [LINE, b'{"x": [1, 2, 3], "y": "' + b"z" * 50_000_000 + b'"}\n', b'{"x": "\xff"}\n', b"\x00\n", LINE]
    else:
        lines = [b"x\n", b'"[1,2,3]"\n', b'"' + b"7" * 50_000_000 + b'"\n', b'"\xff"\n', b"\x00\n", b'"[1,2,3]"\n']
    (tmp_path / f"x.{extension}").write_bytes(b"".join(lines))
    job = Job(input=f"{tmp_path}/x.{extension}", output=f"{tmp_path}/out/", model="row", to="jsonl")
    report = run(job, service)
    assert (report.rows, report.errors) == (2, 3)
    assert Path(report.output).read_bytes() == b'{"y":[2.0,4.0,6.0]}\n' * 2
    errors = [json.loads(line) for line in Path(f"{report.output}.errors.jsonl").read_bytes().splitlines()]
    assert [error["row"] for error in errors] == [2, 3, 4]
    assert errors[0]["reason"].startswith("the line has 5000")
    assert max(len(str(error["data"])) for error in errors) < 1100


def command(*arguments: str, cwd: Path, models: Path) -> tuple[int, str]:
    env = {"PATH": os.environ["PATH"], "ORT_DISABLE_TELEMETRY": "1", "MODEL_PATH": str(models)}
    done = subprocess.run(
        [sys.executable, "-m", "inferry", "batch", *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


REFUSED: dict[str, tuple[list[str], str]] = {
    "an output in the input": (["--model", "row", "in", "in/out"], "is inside of the input"),
    "the input as output": (["--model", "row", "in", "in"], "is inside of the input"),
    "the input file as output": (["--model", "row", "in/x.jsonl", "in/x.jsonl"], "would replace it"),
    "the input's folder as output": (["--model", "row", "in/x.jsonl", "in/"], "would replace it"),
    "no such file": (["--model", "row", "y.jsonl", "out"], "there is no file y.jsonl"),
    "nothing to predict": (["--model", "row", "other", "out"], "no files to predict in other"),
    "no model": (["in", "out"], "name a model"),
    "an unknown format": (["--model", "row", "in", "out", "--to", "xml"], "unknown format 'xml'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(models: Path, tmp_path: Path, case: str) -> None:
    arguments, said = REFUSED[case]
    for name in ("in/x.jsonl", "other/x.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(LINE)
    status, text = command(*arguments, cwd=tmp_path, models=models)
    assert status == 1
    assert said in text
    assert "Traceback" not in text
    assert (tmp_path / "in/x.jsonl").read_bytes() == LINE
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("x.jsonl", "x.txt")]


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[None]:
    """The process as a user without rights, who can reach the test's folder."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize(("locked", "said"), [("x.jsonl", "can't read 'x.jsonl'"), ("out", "can't write 'x.jsonl'")])
def test_missing_rights(
    service: Service, tmp_path: Path, locked: str, said: str, request: pytest.FixtureRequest
) -> None:
    """Of who may not read the input, or not write the results."""
    (tmp_path / "x.jsonl").write_bytes(LINE)
    (tmp_path / "out").mkdir()
    job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="row")
    (tmp_path / "out").chmod(0o555 if locked == "out" else 0o777)
    (tmp_path / "x.jsonl").chmod(0 if locked == "x.jsonl" else 0o444)
    # What is imported lazily may be in a folder of root's.
    run(replace(job, output=f"{tmp_path}/before/"), service)
    request.getfixturevalue("nobody")
    with pytest.raises(StoreError, match=f"{said} .*Permission denied"):
        run(job, service)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture(scope="module")
def s3() -> Iterator[services.S3]:
    with services.moto() as running:
        running.create("rights")
        yield running


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"GET", "HEAD"}, "can't read 'x.jsonl' in s3://rights/in"),
        ({"GET"}, "can't read '[^']*' in s3://rights/(in|out)"),
        ({"PUT", "POST"}, "can't write 'x.jsonl' in s3://rights/out"),
    ],
)
def test_missing_rights_on_a_bucket(
    service: Service, s3: services.S3, monkeypatch: pytest.MonkeyPatch, methods: set[str], said: str
) -> None:
    """One clear error at once, as a job's own; nothing is written, and with the rights the same job is done."""
    name = "-".join(sorted(methods)).lower()
    for variable, value in {**s3.environment, "NO_PROXY": services.HOST}.items():
        monkeypatch.setenv(variable, value)
    s3.put("rights", f"in/{name}/x.jsonl", LINE)
    job = Job(input=f"s3://rights/in/{name}/x.jsonl", output=f"s3://rights/out/{name}/", model="row")
    with flaky(s3.endpoint, Denial(frozenset(methods)), lambda: None) as endpoint, monkeypatch.context() as denied:
        denied.setenv("AWS_ENDPOINT_URL", endpoint)
        start = time.monotonic()
        with pytest.raises(StoreError, match=said) as raised:
            run(job, service)
        assert time.monotonic() - start < 5
    assert "lacked the necessary privileges" in str(raised.value)
    assert "<?xml" not in str(raised.value)
    out = open_files(f"s3://rights/out/{name}")
    assert out.list() == []
    assert run(job, service).state == "finished"
    assert out.read("x.jsonl") == b'{"y":[2.0,4.0,6.0]}\n'
