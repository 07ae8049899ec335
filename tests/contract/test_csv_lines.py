"""Lines of CSV that other tools write: empty ones, and a first one that names no columns."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from inferry.cli.main import main
from inferry.errors import InvalidFile
from inferry.jobs.formats import lines as lines_module
from inferry.jobs.runner import Job, borders, run
from inferry.service import Service
from inferry.settings import Settings

MODELS = {
    "one.onnx": onnx_models.identity("FP32", ("n", 1)),
    "whole.onnx": onnx_models.identity("INT64", ("n",)),
    "word.onnx": onnx_models.identity("BYTES", ("n", 1)),
    "four.onnx": onnx_models.identity("FP32", ("n", 4)),
    "any.onnx": onnx_models.identity("FP32", ("n", "m")),
    "table.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n",))}),
    "listed/1/model.onnx": onnx_models.identity("FP32", ("n", 3)),
    "listed/config.json": b'{"columns": ["c", "a", "b"]}',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), MODELS)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    service = Service.from_settings(Settings(model_path=str(folder), intra_op_threads=1))
    yield service
    service.close()


Outcome = tuple[list[Any], list[Any]]
Predict = Callable[..., Outcome]


def outcome(path: Path) -> Outcome:
    """The rows of the results, and the numbers and reasons of those without."""
    errors = path.with_name(f"{path.name}.errors.jsonl")
    lines = errors.read_bytes().splitlines() if errors.exists() else []
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return rows, [(item["row"], item["reason"]) for item in map(json.loads, lines)]


@pytest.fixture
def predict(service: Service, tmp_path: Path) -> Predict:
    def go(content: bytes, model: str, **options: Any) -> Outcome:
        (tmp_path / "x.csv").write_bytes(content)
        job = Job(input=f"{tmp_path}/x.csv", output=f"{tmp_path}/out/", model=model, to="jsonl", **options)
        return outcome(Path(run(job, service).output))

    return go


MISSING = "the value is missing"
BAD = "'bad' is found where FP32 is expected"
RETURN = "the line is not CSV: there is a carriage return in a cell without quotes"
LINES: dict[str, tuple[bytes, str, list[Any], list[Any]]] = {
    "an empty line": (b"x\n1\n\n3\n", "one", [1.0, None, 3.0], []),
    "at the end": (b"x\n1\n\n", "one", [1.0, None], []),
    "at the start": (b"x\n\n1\n", "one", [None, 1.0], []),
    "alone": (b"x\n\n", "one", [None], []),
    "without a last line end": (b"x\n\n1", "one", [None, 1.0], []),
    "with carriage returns": (b"x\r\n1\r\n\r\n3\r\n", "one", [1.0, None, 3.0], []),
    "quoted nothing": (b'x\n""\n1\n', "one", [None, 1.0], []),
    "among lines that need a look": (b"x\n1\n\nbad\n\n5\n", "one", [1.0, None, None, 5.0], [(3, BAD)]),
    "of integers": (b"x\n1\n\n3\n", "whole", [1, 3], [(2, MISSING)]),
    "of nothing but missing integers": (b"x\n\n\n", "whole", [], [(1, MISSING), (2, MISSING)]),
    "of text": (b'x\na\n\n"b\nc"\n', "word", ["a", "", "b\nc"], []),
    "in a file of more columns": (b"a,b,c,d\n\n1,2,3,4\n\n5,6,7,8\n", "four", [[1, 2, 3, 4], [5, 6, 7, 8]], []),
    "a lone carriage return is no line end": (b"x\n1\r2\n3\n", "one", [3.0], [(1, RETURN)]),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_empty_lines(predict: Predict, case: str) -> None:
    content, model, expected, errors = LINES[case]
    rows, found = predict(content, model)
    assert ([row["y"] for row in rows], [(row, said.partition(" - ")[0]) for row, said in found]) == (expected, errors)


@pytest.mark.parametrize("case", [name for name in LINES if "carriage return is" not in name])
def test_empty_lines_of_one_request(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """`inferry infer` reads the same rows; a bad one fails its request."""
    content, model, expected, errors = LINES[case]
    (tmp_path / "x.csv").write_bytes(content)
    status = main(["infer", model, "--input", f"{tmp_path}/x.csv", "--models", str(folder)])
    output = capsys.readouterr()
    assert status == bool(errors), output.err
    if not errors:
        assert [json.loads(line)["y"] for line in output.out.splitlines()] == expected


@pytest.mark.parametrize("block", [7, 1000])
def test_slices_agree_about_empty_lines(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(lines_module, "BLOCK", block)
    monkeypatch.setattr(lines_module, "FIRST", block)
    values = ["" if row % 3 else ("bad" if row % 63 == 0 else f"{row}") for row in range(600)]
    (tmp_path / "x.csv").write_text("x\n" + "\n".join(values) + "\n")
    job = Job(input=f"{tmp_path}/x.csv", output=f"{tmp_path}/out/", model="one", to="jsonl")
    rows, errors = outcome(Path(run(job, service).output))
    good = [float(value) if value else None for value in values if value != "bad"]
    assert [row["y"] for row in rows] == good
    assert [row for row, _ in errors] == [row + 1 for row, value in enumerate(values) if value == "bad"]
    again = replace(job, output=f"{tmp_path}/again/")
    slices = borders(again, service, 100)
    assert len(slices) > 3
    for part in slices:
        run(replace(again, part=part), service)
    assert outcome(Path(run(again, service).output)) == (rows, errors)


NUMBERS = [
    b"1,2,3,4\n5,6,7,8\n",
    b"0,1,2,4\n",
    b"1,,3,4\n",
    b"NA,1,2,3\n",
    b'"1","2","3","4"\n',
    b"1,1,1,1\n",
    b" 1, 2e3,-inf,0\n",
]


@pytest.mark.parametrize("content", NUMBERS)
def test_a_first_line_of_numbers_is_refused(predict: Predict, content: bytes) -> None:
    with pytest.raises(InvalidFile, match=r"holds numbers alone: .*. Say --no-header when it is a row, --header when"):
        predict(content, "four")


def test_a_first_line_of_one_number_is_refused(predict: Predict) -> None:
    with pytest.raises(InvalidFile, match=r"holds numbers alone: 0. Say"):
        predict(b"0\n5\n", "one")


@pytest.mark.parametrize(
    ("content", "model", "options", "expected"),
    [
        (b"0,1,2,3\n5,6,7,8\n", "four", {}, [[5, 6, 7, 8]]),
        (b"1,2,3,4\n5,6,7,8\n", "four", {"header": True}, [[5, 6, 7, 8]]),
        (b"1,2,3,4\n5,6,7,8\n", "four", {"header": False}, [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (b"0,1,2,3\n5,6,7,8\n", "four", {"header": False}, [[0, 1, 2, 3], [5, 6, 7, 8]]),
        (b"1,1,1,1\n", "four", {"header": False}, [[1, 1, 1, 1]]),
        (b"\xef\xbb\xbf1,2\n3,4", "any", {"header": False}, [[1, 2], [3, 4]]),
        (b"1\n\n3\n", "one", {"header": False}, [1, None, 3]),
        (b"\n1\n", "one", {"header": False}, [None, 1]),
        (b"1,2,3\n4,5,6\n", "listed", {"header": False}, [[1, 2, 3], [4, 5, 6]]),
        (b"one\ntwo\n", "word", {"header": False}, ["one", "two"]),
        (b'"[1,2]"\n"[3]"\n', "any", {"header": False}, [[1, 2], 3]),
    ],
)
def test_what_the_first_line_is(predict: Predict, content: bytes, model: str, options: Any, expected: Any) -> None:
    rows, errors = predict(content, model, **options)
    assert ([row["y"] for row in rows], errors) == (expected, [])


@pytest.mark.parametrize("content", [b"\n1\n", b"\n\n", b"\nx,y\n1,2\n"])
def test_a_first_line_that_is_empty(
    predict: Predict, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    with pytest.raises(InvalidFile, match=r"the first line of .* must name the columns: it is empty"):
        predict(content, "table")
    assert main(["infer", "table", "--input", f"{tmp_path}/x.csv", "--models", str(folder)]) == 1
    assert "inferry: " in capsys.readouterr().err


def test_columns_without_names(predict: Predict) -> None:
    """They go by position; those to keep are named by their numbers."""
    assert predict(b"1.5,2\n2.5,3\n", "table", header=False) == (
        [{"a_out": 1.5, "b_out": 2}, {"a_out": 2.5, "b_out": 3}],
        [],
    )
    assert predict(b"7,1.5,2\n", "table", header=False, keep=("0",)) == ([{"0": 7, "a_out": 1.5, "b_out": 2}], [])
    said = "has 3 columns without names, but model 'table' takes 2: a, b. Name those that are none of them with --keep"
    with pytest.raises(InvalidFile, match=said):
        predict(b"7,1.5,2\n", "table", header=False)


@pytest.mark.parametrize(
    ("option", "expected"), [("--header", [[5, 6, 7, 8]]), ("--no-header", [[1, 2, 3, 4], [5, 6, 7, 8]])]
)
@pytest.mark.parametrize("command", ["infer", "batch"])
def test_the_options(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, option: str, expected: Any
) -> None:
    source, target = tmp_path / "x.csv", tmp_path / "y.jsonl"
    source.write_bytes(NUMBERS[0])
    arguments = (
        ["infer", "four", "--input", str(source)]
        if command == "infer"
        else ["batch", str(source), str(target), "--model", "four"]
    )
    assert main([*arguments, "--models", str(folder)]) == 1
    assert "Say --no-header" in capsys.readouterr().err
    assert main([*arguments, "--models", str(folder), option]) == 0
    lines = capsys.readouterr().out.splitlines() if command == "infer" else target.read_text().splitlines()
    assert [json.loads(line)["y"] for line in lines] == expected


def test_bytes_that_are_no_text_matter_where_they_are_read(predict: Predict) -> None:
    """Whether its line is looked at or not: a bad row beside them changes nothing."""
    good = b"x,name\n1,\xfc\n2,b\n"
    assert predict(good, "one", keep=("x",))[1] == []
    rows, errors = predict(good + b"bad,c\n", "one", keep=("x",))
    assert ([row["y"] for row in rows], [row for row, _ in errors]) == ([1.0, 2.0], [3])
    rows, errors = predict(good, "one", keep=("name",))
    assert rows == [{"name": "b", "y": 2.0}]
    assert errors == [(1, "the line is not CSV in UTF-8: column 'name' holds other bytes")]


def test_escaped_quotes_are_no_csv(
    predict: Predict, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Spark writes them unless it is told otherwise."""
    content = b'x\n"a, \\"b\\""\n"c:\\"\n"a, ""b"""\n'
    rows, errors = predict(content, "word")
    assert [row["y"] for row in rows] == ["c:\\", 'a, "b"']
    assert [(row, said.rpartition("; ")[2]) for row, said in errors] == [
        (1, 'a quote in a cell is written twice, not as \\"')
    ]
    (tmp_path / "y.csv").write_bytes(content)
    assert main(["infer", "word", "--input", f"{tmp_path}/y.csv", "--models", str(folder)]) == 1
    assert "the line is not CSV" in capsys.readouterr().err
