"""The names of a row's values, those of `columns` in config.json: one meaning at every door."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.cli.main import main
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage.files import open_files
from servers import Server, serving

MODELS = {
    "listed/1/model.onnx": onnx_models.scaled(2, 3),
    "listed/config.json": b'{"columns": ["c", "a", "b"]}',
    "table/1/model.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n", 1))}),
    "table/config.json": b'{"columns": ["b", "a"]}',
    "other/1/model.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n", 1))}),
    "other/config.json": b'{"columns": ["a", "b", "more"]}',
    "pair.onnx": onnx_models.echo({"a": ("BYTES", ("n", 1)), "b": ("FP32", ("n", 1)), "c": ("FP32", ("n", 2))}),
    "row.onnx": onnx_models.scaled(2, 3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), MODELS)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    service = Service.from_settings(Settings(model_path=str(folder), intra_op_threads=1))
    yield service
    service.close()


Rows = Sequence[Any]
Door = Callable[[str, Rows], list[Any]]


def table(rows: Rows) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def as_csv(rows: Rows) -> bytes:
    text = StringIO()
    writer = csv.writer(text)
    writer.writerows([rows[0].keys(), *(row.values() for row in rows)] if isinstance(rows[0], dict) else rows)
    return text.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    file = BytesIO()
    pq.write_table(pa.table(table(rows)), file)
    return file.getvalue()


def as_jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps(row if isinstance(row, dict) else {"features": row}).encode() + b"\n" for row in rows)


@pytest.fixture(
    params=["predict", "one by one", "v1", "infer csv", "infer json", "csv", "parquet", "jsonl", "features"]
)
def door(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    """The outputs of `listed`, or of `table`, for rows that are lists or objects."""

    def post(path: str, body: Any) -> Any:
        answer = request.getfixturevalue("server").post(path, body)
        assert answer.status == 200, answer
        return answer.json["predictions"]

    def infer(model: str, name: str, content: bytes, *options: str) -> list[Any]:
        (tmp_path / name).write_bytes(content)
        capture = request.getfixturevalue("capsys")
        models = str(request.getfixturevalue("folder"))
        assert main(["infer", model, "--input", str(tmp_path / name), "--models", models, *options]) == 0
        return [json.loads(line) for line in capture.readouterr().out.splitlines()]

    def job(model: str, name: str, content: bytes, header: bool | None = None) -> list[Any]:
        (tmp_path / name).write_bytes(content)
        job = Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/out/", model=model, to="jsonl", header=header)
        report = run(job, request.getfixturevalue("service"))
        assert report.errors == 0
        return [json.loads(line) for line in Path(report.output).read_bytes().splitlines()]

    def no_header(rows: Rows) -> bool:
        return not isinstance(rows[0], dict)

    doors: dict[str, Door] = {
        "predict": lambda model, rows: post("/predict", {"model_name": model, "features": rows}),
        "one by one": lambda model, rows: [post("/predict", {"model_name": model, "features": row})[0] for row in rows],
        "v1": lambda model, rows: [
            row if isinstance(row, dict) else {"y": row}
            for row in post(f"/v1/models/{model}:predict", {"instances": rows})
        ],
        "infer csv": lambda model, rows: infer(
            model, "x.csv", as_csv(rows), *(["--no-header"] if no_header(rows) else [])
        ),
        "infer json": lambda model, rows: infer(model, "x.json", json.dumps(rows).encode()),
        "csv": lambda model, rows: job(model, "x.csv", as_csv(rows), False if no_header(rows) else None),
        "parquet": lambda model, rows: job(
            model,
            "x.parquet",
            as_parquet([dict(zip("cab" if model == "listed" else "ba", row, strict=True)) for row in rows])
            if no_header(rows)
            else as_parquet(rows),
        ),
        "jsonl": lambda model, rows: job(model, "x.jsonl", as_jsonl(rows)),
        "features": lambda model, rows: job(
            model, "x.jsonl", b"".join(json.dumps({"features": row}).encode() + b"\n" for row in rows)
        ),
    }
    return doors[request.param]


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}],
        [{"c": 3, "b": 2, "a": 1}, {"c": 6, "b": 5, "a": 4}],
        [[3, 1, 2], [6, 4, 5]],
    ],
    ids=["names", "names in another order", "lists"],
)
def test_one_input(door: Door, rows: Rows) -> None:
    assert door("listed", rows) == [{"y": [6.0, 2.0, 4.0]}, {"y": [12.0, 8.0, 10.0]}]


@pytest.mark.parametrize(
    "rows",
    [[{"a": 1.5, "b": 2}, {"a": 2.5, "b": 3}], [{"b": 2, "a": 1.5}, {"b": 3, "a": 2.5}], [[2, 1.5], [3, 2.5]]],
    ids=["names", "names in another order", "lists"],
)
def test_several_inputs(door: Door, rows: Rows) -> None:
    assert door("table", rows) == [{"a_out": 1.5, "b_out": 2}, {"a_out": 2.5, "b_out": 3}]


@pytest.mark.parametrize("path", ["/predict", "/v1/models/listed:predict"])
@pytest.mark.parametrize(
    ("row", "got"), [({"a": 1, "b": 2}, "a, b"), ({"a": 1, "b": 2, "c": 3, "d": 4}, "a, b, c, d"), ({"d": 4}, "d")]
)
def test_names_that_are_missing_or_unknown(server: Server, path: str, row: Any, got: str) -> None:
    answer = server.post(path, {"model_name": "listed", "features": row, "instances": [row]})
    said = f"each row for model 'listed' must name its values c, a, b, got {got}"
    assert (answer.status, answer.json) == (400, {"error": said})


def test_the_input_and_an_optional_one_by_name(server: Server) -> None:
    for row in ({"x": [3, 1, 2], "factor": 3}, {"c": 3, "b": 2, "a": 1, "factor": 3}):
        answer = server.post("/predict", {"model_name": "listed", "features": row})
        assert answer.json["predictions"] == [{"y": [9.0, 3.0, 6.0]}]


def job(
    service: Service, model: str, content: bytes, name: str = "x.jsonl", **options: Any
) -> tuple[list[Any], list[Any]]:
    """The results and the errors: row, column and reason."""
    place = f"memory://{id(content)}"
    files = open_files(place)
    with files.write(name) as file:
        file.write(content)
    report = run(Job(input=f"{place}/{name}", output=f"{place}/out/", model=model, to="jsonl", **options), service)
    results, errors = (
        files.read(f"out/{name}" + ("" if name == "x.jsonl" else ".jsonl")),
        files.read(f"{report.output.removeprefix(place + '/')}.errors.jsonl"),
    )
    lines = [json.loads(line) for line in (results or b"").splitlines()]
    found = [json.loads(line) for line in (errors or b"").splitlines()]
    return lines, [(item["row"], item["column"], item["reason"]) for item in found]


NONE = "the row has none of the names that model 'pair' takes, a, b, c; its own are d"


@pytest.mark.parametrize("rows", [1, 40], ids=["few", "many"])
def test_a_member_that_is_left_out_is_null(service: Service, rows: int) -> None:
    """Row by row: it doesn't matter what the first line has, or those beside it."""
    lines = [
        {"a": "p", "b": 1, "c": [1, 2]},
        {"a": "q", "c": [3, 4]},
        {"b": 2, "c": [5, 6]},
        {"a": "r", "b": 3},
        {"d": 4},
        {"a": "s", "b": None, "c": [7, 8]},
    ]
    results, errors = job(service, "pair", as_jsonl(lines * rows))
    assert (
        results
        == [
            {"a_out": "p", "b_out": 1.0, "c_out": [1.0, 2.0]},
            {"a_out": "q", "b_out": None, "c_out": [3.0, 4.0]},
            {"a_out": "s", "b_out": None, "c_out": [7.0, 8.0]},
        ]
        * rows
    )
    text = "input 'a' for model 'pair' must hold strings for BYTES, got null"
    expected = [(3, "a", text), (4, "c", "the value is missing"), (5, None, NONE)]
    assert errors == [(row + 6 * number, column, said) for number in range(rows) for row, column, said in expected]


@pytest.mark.parametrize("first", [{"a": 1, "b": 2, "c": 3}, {"a": 1}, {"d": 1}, {"x": [1, 2, 3]}], ids=str)
def test_a_wide_line_may_leave_members_out(service: Service, first: Any) -> None:
    lines = [first, {"b": 5, "a": 4, "c": 6}, {"c": 6}, {"x": [1, 2, 3], "a": 7}, {"id": 7}, {"features": [1, 2, 3]}]
    results, errors = job(service, "listed", as_jsonl(lines * 30))
    of_first = {"a": [None, 2.0, None], "d": None, "x": [2.0, 4.0, 6.0]}.get(next(iter(first)))
    if len(first) == 3:
        of_first = [6.0, 2.0, 4.0]
    others = [[12.0, 8.0, 10.0], [12.0, None, None], [2.0, 4.0, 6.0], [2.0, 4.0, 6.0]]
    assert results == [{"y": y} for y in ([of_first] if of_first else []) + others] * 30
    said = "the row has none of the names that model 'listed' takes, c, a, b; its own are "
    bad = [] if of_first else [(1, said + "d")]
    expected = [(row + 6 * number, "x", why) for number in range(30) for row, why in [*bad, (5, said + "id")]]
    assert errors == expected


def test_an_optional_input_counts_in_every_line(service: Service) -> None:
    """Also in a block of lines that hold nothing but numbers."""
    results, errors = job(service, "row", as_jsonl([{"x": [1, 2, 3]}, {"x": [1, 2, 3], "factor": [5]}] * 40))
    assert (results, errors) == ([{"y": [2.0, 4.0, 6.0]}, {"y": [5.0, 10.0, 15.0]}] * 40, [])


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_table_without_a_column(service: Service, tmp_path: Path, name: str) -> None:
    rows = [{"a": 1.0, "c": 2.0, "d": 3.0}]
    (tmp_path / name).write_bytes(as_csv(rows) if name == "x.csv" else as_parquet(rows))
    job = Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/out/", model="listed")
    with pytest.raises(
        Exception, match=r"has no column 'b' that config.json of model 'listed' names; its columns are a, c, d"
    ):
        run(job, service)


def test_columns_that_are_no_inputs(service: Service) -> None:
    """What a config names wrongly is said of each row."""
    results, errors = job(service, "other", as_jsonl([[1, 2, 3]]))
    assert (results, errors) == ([], [(1, None, "unknown column 'more'; model 'other' takes a, b")])
