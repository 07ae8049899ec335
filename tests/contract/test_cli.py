"""The commands `infer` and `inspect`, and the options of all: what is printed, and one line on stderr when it fails."""

import gzip
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import inferry
import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrayfiles import described, npy, npz
from inferry.cli import main as cli
from inferry.cli.parser import make_parser
from servers import EXAMPLES, environment, serving, tensor


def parquet(**columns: Any) -> bytes:
    target = BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


MODELS = {
    "pixels.onnx": onnx_models.identity("FP32", ("n", 2, 3)),
    "row/1/model.onnx": onnx_models.scaled(2, 3),
    "row/2/model.onnx": onnx_models.scaled(10, 3),
    "table/1/model.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n", 1))}),
    "words.onnx": onnx_models.identity("BYTES", ("n", 2)),
    "flags.onnx": onnx_models.identity("BOOL", ("n", 2)),
    "bytes.onnx": onnx_models.identity("INT8", ("n", 2)),
    "brain.onnx": onnx_models.identity("BF16", ("n", 2)),
    "failing.onnx": onnx_models.failing(),
}
GOOD = {path: model for path, model in MODELS.items() if path.startswith(("row", "table"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("cli"), MODELS)


def run(*arguments: str, stdin: bytes = b"", **env: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command."""
    ended = subprocess.run(
        [sys.executable, "-m", "inferry", *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        env=environment(env),
        check=False,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """`run` in this process, which is faster; in `tmp_path`."""

    def main(*arguments: str, stdin: bytes = b"", **env: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        try:
            status = cli.main(arguments)
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else -1
        return status, *capfd.readouterr()

    return main


@pytest.fixture
def infer(call: Call, folder: Path, tmp_path: Path) -> Call:
    """`inferry infer` with a model of MODELS over a file of this content, - for stdin."""

    def main(model: str, file: str, content: bytes | None) -> tuple[int, str, str]:
        if file != "-" and content is not None:
            (tmp_path / file).write_bytes(content)
        return call("infer", model, "--input", file, "--models", str(folder), stdin=content or b"")

    return main


Y = np.arange(12.0).reshape(2, 2, 3).tolist()
INFER: dict[str, tuple[str, str, bytes, list[Any]]] = {
    "a row in JSON on stdin": ("row", "-", b"[1, 2, 3]", [{"y": [10.0, 20.0, 30.0]}]),
    "another version": ("row/1", "-", b"[1, 2, 3]", [{"y": [2.0, 4.0, 6.0]}]),
    "features": ("row/1", "x.json", b'{"features": [[1, 2, 3], [4, 5, 6]]}', [{"y": [2, 4, 6]}, {"y": [8, 10, 12]}]),
    "instances": ("row/1", "x.json", b'{"instances": [[1, 2, 3]]}', [{"y": [2.0, 4.0, 6.0]}]),
    "named values": ("table", "x.JSON", b'[{"a": 1.5, "b": 2}]', [{"a_out": 1.5, "b_out": 2}]),
    "a row of named values": ("row/1", "-", b'{"x": [1, 2, 3], "factor": 5}', [{"y": [5.0, 10.0, 15.0]}]),
    "a request of the protocol": (
        "row/1",
        "-",
        json.dumps({"inputs": [tensor("x", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]])]}).encode(),
        [{"y": [2.0, 4.0, 6.0]}, {"y": [8.0, 10.0, 12.0]}],
    ),
    "columns of a CSV file": (
        "table",
        "x.csv",
        b"b,a\n2,1.5\n3,-2\n",
        [{"a_out": 1.5, "b_out": 2}, {"a_out": -2, "b_out": 3}],
    ),
    "rows of a CSV file": (
        "row/1",
        "x.csv",
        "\ufeffä,b,c\r\n1,2,3\r\n\r\n4,5,6\r\n".encode(),
        [{"y": [2, 4, 6]}, {"y": [8, 10, 12]}],
    ),
    "quoted strings of a CSV file": ("words", "x.csv", b'one,two\n"a, b",\n', [{"y": ["a, b", ""]}]),
    "booleans of a CSV file": ("flags", "x.csv", b"one,two\ntrue,False\n", [{"y": [True, False]}]),
    "an NPY file": ("row/1", "x.npy", npy(np.array([[1, 2, 3]], np.float32)), [{"y": [2.0, 4.0, 6.0]}]),
    "an NPY file of flat rows": ("pixels", "x.npy", npy(np.arange(12.0).reshape(2, 6)), [{"y": Y[0]}, {"y": Y[1]}]),
    "an NPY file of a flat row": ("pixels", "x.npy", npy(np.arange(6.0).reshape(1, 6)), [{"y": Y[0]}]),
    "an NPY file of one row": ("pixels", "x.npy", npy(np.arange(6.0).reshape(2, 3)), [{"y": Y[0]}]),
    "an NPY file of one row of doubles": ("row/1", "x.npy", npy(np.array([1.0, 2, 3])), [{"y": [2.0, 4.0, 6.0]}]),
    "an NPY file of integers for floats": ("row/1", "x.npy", npy(np.array([[1, 2, 3]])), [{"y": [2.0, 4.0, 6.0]}]),
    "an NPY file of long integers that fit": ("bytes", "x.npy", npy(np.array([[-128, 127]])), [{"y": [-128, 127]}]),
    "an NPY file in Fortran order": (
        "bytes",
        "x.npy",
        npy(np.asfortranarray(np.array([[1, 2], [3, 4]], np.int8))),
        [{"y": [1, 2]}, {"y": [3, 4]}],
    ),
    "an NPY file for bfloat16": ("brain", "x.npy", npy(np.array([[1.5, 2]], np.float32)), [{"y": [1.5, 2.0]}]),
    "an NPZ archive": ("table", "x.npz", npz(a=np.array([[1.5]]), b=np.array([[2]])), [{"a_out": 1.5, "b_out": 2}]),
    "JSON Lines": (
        "row/1",
        "x.jsonl",
        b'{"x": [1, 2, 3]}\n{"features": [4, 5, 6]}\n',
        [{"y": [2, 4, 6]}, {"y": [8, 10, 12]}],
    ),
    "JSON Lines in gzip": ("row/1", "x.jsonl.gz", gzip.compress(b'{"x": [1, 2, 3]}\n'), [{"y": [2, 4, 6]}]),
    "a Parquet file": (
        "table",
        "x.parquet",
        parquet(a=[1.5, -2], b=[2, 3]),
        [{"a_out": 1.5, "b_out": 2}, {"a_out": -2, "b_out": 3}],
    ),
    "an NPY file of strings": ("words", "x.npy", npy(np.array([["a", "ü"]])), [{"y": ["a", "ü"]}]),
    "NaN and infinity": ("row/1", "-", b"[null, Infinity, 1]", [{"y": [None, None, 2.0]}]),
}


@pytest.mark.parametrize("name", INFER)
def test_infer(infer: Call, name: str) -> None:
    model, file, content, rows = INFER[name]
    status, output, errors = infer(model, file, content)
    assert (status, errors) == (0, "")
    assert [json.loads(line) for line in output.splitlines()] == rows


def test_infer_from_stdin(folder: Path) -> None:
    given = ["infer", "row", "--input", "-", "--models", str(folder)]
    assert run(*given, stdin=b"[1, 2, 3]") == (0, '{"y":[10.0,20.0,30.0]}\n', "")


def test_infer_from_a_single_file_and_the_environment(call: Call, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"[1, 2]")
    given = ["--input", str(tmp_path / "x.json")]
    assert call("infer", str(folder / "bytes.onnx"), *given) == (0, '{"y":[1,2]}\n', "")
    assert call("infer", "bytes", *given, MODEL_PATH=str(folder)) == (0, '{"y":[1,2]}\n', "")
    assert call("infer", "bytes", *given, MODEL_PATH="/nowhere", DEBUG="true")[0] == 1


def test_infer_with_an_example_model(call: Call) -> None:
    card = json.loads((EXAMPLES / "newsline" / "config.json").read_text())["example"]
    headline = json.dumps(card["inputs"][0]["data"]).encode()
    status, output, errors = call("infer", "newsline", "--input", "-", "--models", str(EXAMPLES), stdin=headline)
    assert (status, errors) == (0, "")
    assert json.loads(output)["label"] == card["expect"]["label"][0]


CANT_INFER: dict[str, tuple[str, str, bytes | None, str]] = {
    "an unknown model": ("nobody", "-", b"[1]", "unknown model 'nobody'; the repository has: "),
    "an unknown version": ("row/7", "-", b"[1]", "unknown version '7' of model 'row'"),
    "no JSON": ("row", "-", b"{", "not JSON"),
    "no input": ("row", "-", b"", "not JSON"),
    "a row that is too short": ("row", "-", b"[1, 2]", "each row of input 'x' for model 'row' must have the shape [3]"),
    "a file that isn't there": ("row", "x.csv", None, "there is no file x.csv"),
    "a document that isn't there": ("row", "x.json", None, "can't read x.json: No such file"),
    "a file of another format": (
        "row",
        "x.xlsx",
        b"PK",
        "can't tell the format of x.xlsx: give a file in .jsonl, .csv,",
    ),
    "an empty CSV file": ("row", "x.csv", b"", "x.csv is empty"),
    "a CSV file of a header only": ("row", "x.csv", b"a,b,c\n", "no rows"),
    "a CSV line that is too short": (
        "row",
        "x.csv",
        b"a,b,c\n1,2,3\n4,5\n",
        "1 of 2 rows of x.csv can't be predicted; inferry batch predicts the others; row 2: the line has 2 cells",
    ),
    "a CSV file with a column twice": (
        "row",
        "x.csv",
        b"a,b,a\n1,2,3\n",
        "x.csv must name the columns: it names column 'a' twice",
    ),
    "a CSV cell that is no number": (
        "row",
        "x.csv",
        b"a,b,c\n1,2,many\n",
        "row 1, column 'c': 'many' is found where FP32",
    ),
    "a CSV cell that is no integer": ("bytes", "x.csv", b"a,b\n1,2.5\n", "2.5 is no whole number, as INT8 is"),
    "a CSV cell out of range": ("bytes", "x.csv", b"a,b\n1,300\n", "300 is out of range"),
    "a CSV file that is not UTF-8": ("words", "x.csv", b"a,b\n\xff,\xfe\n", "the line is not CSV in UTF-8: column 'a'"),
    "a CSV file with a huge cell": (
        "words",
        "x.csv",
        b'a,b\n"' + b"x" * 200_000,
        "the line is not CSV: a cell has over",
    ),
    "an NPY file of rows in another order": (
        "pixels",
        "x.npy",
        npy(np.zeros((4, 3, 2))),
        "have the shape [3, 2], but those of input 'x' of model 'pixels' have the shape [2, 3]",
    ),
    "JSON of rows in another order": (
        "pixels",
        "-",
        b"[[[1, 2], [3, 4], [5, 6]]]",
        "must have the shape [2, 3], got [3",
    ),
    "numbers beyond all": ("row", "-", b"[NaN, 1e400, 2]", "1e400 is too large for a number"),
    "numbers beyond all in a CSV file": ("row", "x.csv", b"a,b,c\n1,2,-1e400\n", "-1e400"),
    "an NPY file with a negative length": ("row", "x.npy", described("(1, -2)"), "names the shape (1, -2)"),
    "an NPY file that promises more": ("row", "x.npy", described("(1000000000000, 2)"), "x.npy is cut off"),
    "an empty NPY file": ("row", "x.npy", b"", "x.npy is not an NPY file"),
    "an NPY file cut off": ("row", "x.npy", npy(np.zeros((9, 3)))[:-5], "x.npy is cut off"),
    "an archive of arrays": ("row", "x.npy", b"PK\3\4" + bytes(50), "x.npy is not an NPY file"),
    "a pickle in an NPY file": ("row", "x.npy", npy(np.array([{}], object)), "x.npy holds Python objects"),
    "dates in an NPY file": ("row", "x.npy", npy(np.array([["2026-01-01"] * 3], "M8[D]")), "holds dates and times"),
    "an NPY file out of range": ("bytes", "x.npy", npy(np.array([[1, 300]])), "a value is out of range for INT8"),
    "fractions in an NPY file of integers": (
        "bytes",
        "x.npy",
        npy(np.array([[1.5, 2]])),
        "no whole number or out of range for INT8",
    ),
    "a request with more inputs than the model has": (
        "table",
        "-",
        json.dumps({"inputs": [tensor(name, "FP32", [1], [1]) for name in "abcd"]}).encode(),
        "unexpected inference input 'c' for model 'table', whose inputs are 'a', 'b': the request has 4 inputs, the "
        "model 2",
    ),
    "an NPY file for a table": ("table", "x.npy", npy(np.zeros((1, 2))), "takes 2 inputs: give an NPZ archive"),
    "a model that fails": ("failing", "-", b"[1, 2]", "model 'failing' failed"),
}


@pytest.mark.parametrize("name", CANT_INFER)
def test_what_infer_can_not_do_is_one_line(infer: Call, name: str) -> None:
    model, file, content, words = CANT_INFER[name]
    status, output, errors = infer(model, file, content)
    assert (status, output) == (1, "")
    assert re.fullmatch(r"inferry: [^\n]+\n", errors), errors
    assert words in errors


@pytest.mark.parametrize(
    ("model", "words"), [("bad", "model 'bad' can't be loaded"), ("failing", "model 'failing' failed")]
)
def test_what_onnxruntime_can_not_do_is_one_line(tmp_path: Path, model: str, words: str) -> None:
    folder = onnx_models.write(tmp_path, {"bad.onnx": b"text", "failing.onnx": onnx_models.failing()})
    status, output, errors = run("infer", model, "--input", "-", "--models", str(folder), stdin=b"[1, 2]")
    assert (status, output) == (1, "")
    assert re.fullmatch(r"inferry: [^\n]+\n", errors), errors
    assert words in errors


BROKEN = {"bad.onnx": b"text", "odd.onnx": onnx_models.sequence_output(), "misnamed/1/net.onnx": b""}


def test_inspect_prints_a_table(call: Call, tmp_path: Path) -> None:
    folder = onnx_models.write(tmp_path, GOOD | BROKEN)
    status, output, errors = call("inspect", str(folder))
    assert (status, errors) == (1, "")
    header, *lines = output.splitlines()
    assert header.split() == ["MODEL", "VERSION", "INPUTS", "OUTPUTS", "ROWS", "SIZE", "OPSET", "SHA-256"]
    table = [re.split(r"  +", line) for line in lines]
    assert [row[:4] for row in table[:5]] == [
        ["bad", "1", "unavailable"],
        ["odd", "1", "unavailable"],
        ["row", "2", "x FP32[batch, 3], factor FP32[1]", "y FP32[batch, 3]"],
        ["row", "1", "x FP32[batch, 3], factor FP32[1]", "y FP32[batch, 3]"],
        ["table", "1", "a FP32[n, 1], b INT64[n, 1]", "a_out FP32[n, 1], b_out INT64[n, 1]"],
    ]
    assert all(re.fullmatch(r"proven,\d+ B,18,[0-9a-f]{12}", ",".join(row[4:])) for row in table[2:5])
    assert lines[5].startswith("! bad 1: model 'bad' can't be loaded")
    assert lines[6].startswith("! odd 1: output 'y' of model 'odd' is of type seq(tensor(float))")
    assert lines[7:] == ["! misnamed/1 has no model.onnx: a version's ONNX file must have that name"]


def test_names_in_a_model_move_no_cursor(call: Call, tmp_path: Path) -> None:
    folder = onnx_models.write(tmp_path, {"m.onnx": onnx_models.identity(input="x\n! n 1: fine\x1b[2J")})
    status, output, errors = call("inspect", str(folder))
    assert (status, len(output.splitlines()), errors) == (0, 2, "")
    assert r"x\n! n 1: fine\x1b[2J FP32[" in output
    assert "\x1b" not in output


def test_inspect_for_machines(call: Call, tmp_path: Path) -> None:
    folder = onnx_models.write(tmp_path, GOOD)
    status, output, errors = call("inspect", "--json", str(folder))
    assert (status, errors) == (0, "")
    report = json.loads(output)
    assert (report["path"], report["problems"]) == (str(folder), [])
    assert [(model["name"], model["version"], model["state"]) for model in report["models"]] == [
        ("row", "2", "READY"),
        ("row", "1", "READY"),
        ("table", "1", "READY"),
    ]
    facts = report["models"][2]
    assert (facts["inputs"], facts["outputs"]) == (
        [
            {"name": "a", "datatype": "FP32", "shape": [-1, 1], "axes": "n, 1"},
            {"name": "b", "datatype": "INT64", "shape": [-1, 1], "axes": "n, 1"},
        ],
        [
            {"name": "a_out", "datatype": "FP32", "shape": [-1, 1], "axes": "n, 1"},
            {"name": "b_out", "datatype": "INT64", "shape": [-1, 1], "axes": "n, 1"},
        ],
    )
    assert facts["properties"]["size"] == str(len(MODELS["table/1/model.onnx"]))


def test_inspect_of_broken_models_for_machines(call: Call, tmp_path: Path) -> None:
    folder = onnx_models.write(tmp_path, BROKEN)
    status, output, errors = call("inspect", "--json", MODEL_PATH=str(folder))
    assert (status, errors) == (3, "")
    report = json.loads(output)
    assert [model["state"] for model in report["models"]] == ["UNAVAILABLE"] * 2
    assert len(report["problems"]) == 1


def test_inspect_names_what_is_left_out(call: Call, tmp_path: Path) -> None:
    onnx_models.write(tmp_path, {"blob": onnx_models.identity(), "models/deep/file.txt": b""})
    for name, target in (("a.onnx", "../blob"), ("b.onnx", "blob"), ("deep/1", "../../models")):
        (tmp_path / "models" / name).symlink_to(target)
    assert call("inspect", str(tmp_path / "models")) == (
        3,
        f"no models in {tmp_path}/models: put NAME.onnx or NAME/1/model.onnx there\n"
        "! a.onnx is a link that leads out of the repository\n"
        "! b.onnx is a link to a file that does not exist\n"
        "! deep/1 is a link to a folder that it lies in\n",
        "",
    )
    status, output, errors = call("inspect", str(tmp_path / "models/a.onnx"))
    assert (status, output.splitlines()[1].split()[:2], errors) == (0, ["a", "1"], "")


def test_inspect_of_the_examples_finds_nothing_wrong(call: Call) -> None:
    status, output, errors = call("inspect", str(EXAMPLES))
    assert (status, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines()[1:7]] == [
        "diabetes",
        "digits",
        "digits",
        "digits-conv",
        "encoder",
        "newsline",
    ]


def test_inspect_shows_the_inputs_that_the_table_has_no_room_for(call: Call, tmp_path: Path) -> None:
    columns = dict.fromkeys("abcde", ("FP32", ("batch", 1)))
    folder = onnx_models.write(tmp_path, {"m.onnx": onnx_models.echo(columns)})
    status, output, _ = call("inspect", str(folder))
    assert status == 0
    assert output.splitlines()[2:] == [
        "  m 1 inputs: a FP32[batch, 1], b FP32[batch, 1], c FP32[batch, 1], d FP32[batch, 1], e FP32[batch, 1]",
        f"  m 1 outputs: {', '.join(f'{name}_out FP32[batch, 1]' for name in 'abcde')}",
    ]


FOREIGN = {
    "net.pt": "torch.onnx.export(",
    "net.PTH": "torch.onnx.export(",
    "clf.pkl": "inferry import ",
    "clf.joblib": "inferry import ",
    "clf.skops": "inferry import ",
    "net.pt2": "inferry import ",
    "net.h5": '.export("model.onnx", format="onnx")',
    "net.keras": '.export("model.onnx", format="onnx")',
    "net.tflite": "tf2onnx.convert --tflite ",
    "net/model.safetensors": "optimum-cli export onnx --model ",
    "net/saved_model.pb": "tf2onnx.convert --saved-model ",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_inspect_says_how_to_export_what_is_no_onnx(call: Call, tmp_path: Path, name: str) -> None:
    onnx_models.write(tmp_path / "models", {name: b"no ONNX"})
    status, output, errors = call("inspect", f"models/{name}")
    assert (status, errors, output.count("\n")) == (3, "", 1)
    assert output.startswith(f"  models/{name} is not ONNX. ")
    assert FOREIGN[name] in output
    # What a shell is to run finds the file, or its folder, from where it was named.
    for word in re.findall(r"(?:model=|--model |--tflite |--saved-model |inferry import )([^\s,]+)", output):
        assert word in (f"models/{name}", "models/net")


def test_inspect_names_files_of_other_formats_beside_models(call: Call, tmp_path: Path) -> None:
    graph, weights = onnx_models.external(location="weights.pt")
    files = {"a/1/model.onnx": graph, "a/1/weights.pt": weights, "a/1/old.pkl": b"", "b.joblib": b"", "notes.txt": b""}
    files |= {"a/1/test_data_set_0/input_0.pb": b""}
    onnx_models.write(tmp_path / "models", files)
    status, output, _ = call("inspect", "models")
    assert status == 0
    assert re.findall(r"^  (\S+) is not ONNX", output, re.MULTILINE) == ["a/1/old.pkl", "b.joblib"]
    _, output, _ = call("inspect", "--json", "models")
    assert [file["path"] for file in json.loads(output)["not_onnx"]] == ["a/1/old.pkl", "b.joblib"]


def test_inspect_names_only_some_of_many_files(call: Call, tmp_path: Path) -> None:
    onnx_models.write(tmp_path / "models", {f"{index}.pkl": b"" for index in range(25)})
    _, output, _ = call("inspect", "models")
    assert output.count("is not ONNX") == 10
    assert output.endswith("  and 15 more files are not ONNX\n")


def test_inspect_of_nothing(call: Call, tmp_path: Path) -> None:
    assert call("inspect", str(tmp_path)) == (
        3,
        f"no models in {tmp_path}: put NAME.onnx or NAME/1/model.onnx there\n",
        "",
    )


def test_inspect_of_a_folder_that_is_not_there(call: Call) -> None:
    status, output, errors = call("inspect", "/no/such/folder")
    assert (status, output) == (1, "")
    assert re.fullmatch(r"inferry: [^\n]*/no/such/folder[^\n]*\n", errors)


@pytest.mark.parametrize("command", ["serve", "init"])
def test_a_model_of_another_format_is_imported_first(call: Call, tmp_path: Path, command: str) -> None:
    path = tmp_path / "wine.joblib"
    path.write_bytes(b"a pickle")
    status, output, errors = call(command, str(path))
    assert (status, output) == (1, "")
    assert errors.startswith(
        f"inferry: {path} is not ONNX. scikit-learn: inferry import {path} --trust, in the environment"
    )


def test_version() -> None:
    assert run("--version") == (0, f"inferry {inferry.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "usage", "error"),
    [
        (["sever"], "inferry [", "; did you mean serve?"),
        (
            ["serve", "models", "--prot", "9000"],
            "inferry serve [",
            "arguments: --prot 9000; did you mean --port?",
        ),
        (["batch", "in", "out", "--modell=digits"], "inferry batch [", "--modell=digits; did you mean --model?"),
        (["inspect", "--nothing-like-it"], "inferry inspect [", "unrecognized arguments: --nothing-like-it"),
        (["serve", "--port", "http"], "inferry serve [", "argument --port: invalid int value: 'http'"),
    ],
)
def test_what_was_meant(call: Call, arguments: list[str], usage: str, error: str) -> None:
    """Under the usage of the command that it was for."""
    status, output, errors = call(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith(f"usage: {usage}")
    assert errors.endswith(f"{error}\n")


@pytest.mark.parametrize(
    ("words", "completed"),
    [("inferry se", "serve"), ("inferry serve --gr", "--grpc-port"), ("inferry inspect mod", "model.onnx")],
)
def test_bash_completes(tmp_path: Path, words: str, completed: str) -> None:
    """As bash calls the function that the script names."""
    status, script, _ = run("completion", "bash")
    assert status == 0
    (tmp_path / "inferry.bash").write_text(script)
    (tmp_path / "model.onnx").touch()
    asked = f"""
        source inferry.bash; COMP_WORDS=({words}); COMP_CWORD=$(({len(words.split())} - 1))
        $(complete -p inferry | sed 's/.* -F //; s/ .*//'); echo "${{COMPREPLY[@]}}"
    """
    shell = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert shell.stdout.split() == [completed]


@pytest.mark.parametrize("arguments", [[], ["infer"], ["sing"], ["serve", "--port", "http"]])
def test_a_command_line_that_is_wrong_shows_the_usage(call: Call, arguments: list[str]) -> None:
    status, output, errors = call(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("usage: inferry")


@pytest.mark.parametrize("command", [[], ["serve"], ["infer"], ["inspect"], ["key"]])
def test_help(call: Call, command: list[str]) -> None:
    status, output, errors = call(*command, "--help")
    assert (status, errors) == (0, "")
    assert output.startswith("usage: inferry")


@pytest.mark.parametrize("command", ["serve", "infer", "batch", "inspect", "init", "prepare", "size"])
def test_examples_in_the_help_can_be_parsed(call: Call, command: str) -> None:
    _, output, _ = call(command, "--help")
    examples = output.partition("examples:\n")[2].splitlines()
    assert examples
    for example in examples:
        program, *arguments = shlex.split(example)
        assert program == "inferry"
        assert make_parser().parse(arguments).command == command


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -m inferry inspect --json {folder} | head -c 1"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, env=environment({}), check=True)
    assert (ended.stdout, ended.stderr) == (b"{", b"")


def test_a_model_of_ones_own_that_is_called_digits_can_be_served(tmp_path: Path) -> None:
    files = {"digits/1/model.onnx": onnx_models.identity(), "digits/config.json": b"{}"}
    with serving(onnx_models.write(tmp_path, files)) as server:
        assert server.ask("GET", "/v2/models/digits/ready").status == 200
        assert "predict  curl" not in server.output
