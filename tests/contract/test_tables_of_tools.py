"""Tables as tools write them: files/ holds what tests/tables/small_files.py wrote with each of them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from inferry.cli.main import main
from inferry.errors import InvalidFile, InvalidRequest
from inferry.jobs import runner
from inferry.jobs.report import Report
from inferry.jobs.runner import Job
from inferry.service import Service
from inferry.settings import Settings

FILES = Path(__file__).parent / "files"
MODELS = {
    "pair.onnx": onnx_models.identity("FP64", ("n", 2)),
    "table.onnx": onnx_models.echo({"a": ("FP64", ("n", 1)), "b": ("FP64", ("n", 1))}),
    "listed/1/model.onnx": onnx_models.identity("FP64", ("n", 2)),
    "listed/config.json": b'{"columns": ["b", "a"]}',
    "one.onnx": onnx_models.identity("FP64", ("n", 1)),
    "four.onnx": onnx_models.identity("FP32", ("n", 5)),
    "count.onnx": onnx_models.identity("INT64", ("n", 1)),
    "text.onnx": onnx_models.identity("BYTES", ("n", 1)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), MODELS)


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[Service]:
    service = Service.from_settings(Settings(model_path=str(models), intra_op_threads=1))
    yield service
    service.close()


Predict = Callable[..., tuple[Report, list[Any]]]


@pytest.fixture
def predict(service: Service, tmp_path: Path) -> Predict:
    """`predict("pandas.csv", "pair")`: the report, and the rows of the results."""

    def go(file: Path | str, model: str, **options: Any) -> tuple[Report, list[Any]]:
        job = Job(input=str(FILES / file), output=f"{tmp_path}/out/", model=model, to="jsonl", **options)
        report = runner.run(job, service)
        return report, [json.loads(line) for line in Path(report.output).read_bytes().splitlines()]

    return go


def ys(rows: list[Any]) -> list[Any]:
    return [row["y"] for row in rows]


ROWS = [[1.0, 2.0], [3.0, 4.0], [5.5, -1.0]]


class TestWideLines:
    @pytest.mark.parametrize("file", ["pandas_wide.jsonl", "polars_wide.jsonl", "duckdb_wide.json"])
    @pytest.mark.parametrize(
        ("model", "options"),
        [
            ("listed", {}),
            ("pair", {"columns": ("b", "a")}),
            ("listed", {"columns": ("b", "a")}),
        ],
    )
    def test_named(self, predict: Predict, file: str, model: str, options: dict[str, Any]) -> None:
        report, rows = predict(file, model, format="jsonl", keep=("id",), **options)
        assert (report.rows, report.errors) == (3, 0)
        assert rows == [
            {"id": 7, "y": [2.0, 1.0]},
            {"id": 8, "y": [4.0, 3.0]},
            {"id": 12, "y": [-1.0, 5.5]},
        ]

    def test_all(self, predict: Predict) -> None:
        """In the order of the first line, less what is kept, whatever the order of other lines is."""
        assert ys(predict("pandas_wide.jsonl", "pair", keep=("id",), columns=("*",))[1]) == ROWS

    def test_another_order_and_a_member_that_is_left_out(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text('{"a":1,"b":2}\n{"b":4,"a":3}\n{"b":6,"more":"x"}\n')
        assert ys(predict(tmp_path / "x.jsonl", "pair", columns=("*",))[1]) == [[1, 2], [3, 4], [None, 6]]

    def test_slices_take_the_members_of_the_first_line(self, service: Service, tmp_path: Path) -> None:
        lines = ['{"a":0,"b":1}', *(f'{{"b":{number + 1},"a":{number}}}' for number in range(1, 400))]
        (tmp_path / "x.jsonl").write_text("\n".join(lines))
        job = Job(input=f"{tmp_path}/x.jsonl", output=f"{tmp_path}/out/", model="pair", columns=("*",))
        parts = runner.borders(job, service, 150)
        assert len(parts) > 1
        for part in parts:
            runner.run(runner.replace(job, part=part), service)
        report = runner.run(job, service)
        rows = [json.loads(line) for line in Path(report.output).read_bytes().splitlines()]
        assert ys(rows) == [[number, number + 1] for number in range(400)]

    def test_columns_come_before_the_input_of_the_same_name(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text('{"x":[7,7],"a":1,"b":2,"features":[8,8]}\n')
        assert ys(predict(tmp_path / "x.jsonl", "pair", columns=("a", "b"))[1]) == [[1, 2]]

    def test_a_list_under_another_name(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text('{"pixels":[1,2]}\n{"pixels":[3,4]}\n')
        (tmp_path / "x.csv").write_text('pixels,id\n"[1,2]",5\n"[3,4]",6\n')
        for file in ("x.jsonl", "x.csv"):
            assert ys(predict(tmp_path / file, "pair", columns=("pixels",))[1]) == [[1, 2], [3, 4]]

    def test_without_them_the_file_fails_once(self, predict: Predict) -> None:
        with pytest.raises(InvalidFile, match=r"members id, a, b, but none .* x\..* --columns id,a,b, or .*'\*'"):
            predict("pandas_wide.jsonl", "pair")

    def test_of_a_model_with_several_inputs(self, predict: Predict) -> None:
        with pytest.raises(InvalidRequest, match=r"only input, but model 'table' takes 2.*: a, b"):
            predict("pandas_wide.jsonl", "table", columns=("*",))

    def test_on_the_command_line(self, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = str(FILES / "pandas_wide.jsonl")
        assert main(["infer", "pair", "--input", file, "--models", str(models), "--columns", "a, b"]) == 0
        assert ys([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == ROWS
        asked = ["batch", file, f"{tmp_path}/out/", "--models", str(models), "--model", "pair"]
        assert main([*asked, "--columns", "*", "--keep", "id"]) == 0


def test_the_model_is_wrong_before_the_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a b.onnx").write_bytes(b"x")
    assert main(["infer", f"{tmp_path}/a b.onnx", "--input", "/dev/null"]) == 1
    assert "'a b' must consist of letters" in capsys.readouterr().err
