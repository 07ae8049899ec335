"""Tables as tools write them: files/ holds what tests/tables/small_files.py wrote with each of them."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
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
    "words.onnx": onnx_models.echo({"gröẞe": ("FP32", ("n", 1))}, {"gröẞe": "y"}),
    "one.onnx": onnx_models.identity("FP64", ("n", 1)),
    "four.onnx": onnx_models.identity("FP32", ("n", 4)),
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


class TestTypes:
    @pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
    def test_booleans_for_floats(self, predict: Predict, tmp_path: Path, ending: str) -> None:
        """pandas.get_dummies; a column each of colour and size."""
        file: Path | str = f"pandas_dummies.{ending}"
        if ending == "jsonl":
            (tmp_path / file).write_text(
                "".join(json.dumps(row) + "\n" for row in pq.read_table(FILES / "pandas_dummies.parquet").to_pylist())
            )
            file = tmp_path / file
        expected = [[0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]
        assert ys(predict(file, "four", columns=("*",))[1]) == expected

    def test_words_of_r_and_a_number_among_them(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("x\nTRUE\nFALSE\n0.5\nNA\ntrue\nyes\n")
        report, rows = predict(tmp_path / "x.csv", "one")
        assert ys(rows) == [1, 0, 0.5, None, 1]
        assert "'yes'" in Path(f"{report.output}.errors.jsonl").read_text()

    @pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
    def test_whole_floats_for_integers(self, predict: Predict, tmp_path: Path, ending: str) -> None:
        file: Path | str = f"pandas_whole.{ending}"
        if ending == "jsonl":
            (tmp_path / file).write_text('{"x":1.0}\n{"x":3.0}\n{"x":null}\n')
            file = tmp_path / file
        report, rows = predict(file, "count")
        assert ys(rows) == [1, 3]
        assert report.errors == 1

    def test_numbers_that_are_not_whole_or_too_large(self, predict: Predict, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [1.5, float(2**63), 2.0**62, float("inf")]}), tmp_path / "x.parquet")
        report, rows = predict(tmp_path / "x.parquet", "count")
        assert ys(rows) == [2**62]
        said = [json.loads(line)["reason"] for line in Path(f"{report.output}.errors.jsonl").read_text().splitlines()]
        assert ["no whole" in said[0], "out of range" in said[1], "no whole" in said[2]] == [True] * 3

    def test_whole_numbers_of_csv_beyond_floats_are_exact(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("x\n1.0\n9007199254740993.0\n1e3\n1.5\n12345678901234567.00\n")
        report, rows = predict(tmp_path / "x.csv", "count")
        assert ys(rows) == [1, 2**53 + 1, 1000, 12345678901234567]
        assert report.errors == 1

    def test_decimals(self, predict: Predict, tmp_path: Path) -> None:
        assert ys(predict("duckdb_decimal.parquet", "pair")[1]) == [[1.5, 22.25]]
        assert ys(predict("duckdb_decimals.parquet", "pair")[1]) == [[1.5, 22.25]]

    @pytest.mark.parametrize(
        "held", [pa.decimal32(9, 2), pa.decimal64(18, 2), pa.decimal128(38, 2), pa.decimal256(50, 2)], ids=str
    )
    def test_decimals_are_the_floats_next_to_them(self, predict: Predict, tmp_path: Path, held: pa.DataType) -> None:
        values = [Decimal(number) / 100 for number in range(-500, 500)]
        pq.write_table(pa.table({"x": pa.array([*values, None], held)}), tmp_path / "x.parquet")
        assert ys(predict(tmp_path / "x.parquet", "one")[1]) == [*(float(str(value)) for value in values), None]

    def test_long_decimals(self, predict: Predict, tmp_path: Path) -> None:
        values = [Decimal("12345678901234567890.123456789"), Decimal("-0.000000001")]
        pq.write_table(pa.table({"x": pa.array(values, pa.decimal128(38, 9))}), tmp_path / "x.parquet")
        assert ys(predict(tmp_path / "x.parquet", "one")[1]) == [float(str(value)) for value in values]

    def test_decimals_for_integers(self, predict: Predict, tmp_path: Path) -> None:
        """Snowflake's NUMBER(38, 0), and one with a fraction."""
        for scale, values in ((0, [3, 2**62]), (1, [3, 4])):
            column = pa.array([*map(Decimal, values), None], pa.decimal128(38, scale))
            pq.write_table(pa.table({"x": column}), tmp_path / f"{scale}.parquet")
            report, rows = predict(tmp_path / f"{scale}.parquet", "count")
            assert (ys(rows), report.errors) == (values, 1)
        column = pa.array([Decimal("1.5"), Decimal(4), Decimal(10) ** 20], pa.decimal128(38, 1))
        pq.write_table(pa.table({"x": column}), tmp_path / "x.parquet")
        report, rows = predict(tmp_path / "x.parquet", "count")
        assert (ys(rows), report.errors) == ([4], 2)

    def test_categories(self, predict: Predict) -> None:
        assert ys(predict("pandas_category.parquet", "text")[1]) == ["b", "a", "b"]
        assert ys(predict("pandas_category_number.parquet", "one")[1]) == [3.5, 1.0, 3.5]

    def test_text_in_bytes(self, predict: Predict, tmp_path: Path) -> None:
        assert ys(predict("fastparquet_bytes.parquet", "text")[1]) == ["one", "zwölf"]
        pq.write_table(pa.table({"x": [b"good", b"\xff", None]}), tmp_path / "x.parquet")
        report, rows = predict(tmp_path / "x.parquet", "text")
        assert (ys(rows), report.errors) == (["good"], 2)

    def test_nulls_and_tensors(self, predict: Predict) -> None:
        assert ys(predict("pyarrow_null.parquet", "pair")[1]) == [[None, 1], [None, 2]]
        assert ys(predict("pyarrow_tensor.parquet", "pair")[1]) == [[0, 1], [2, 3], [4, 5], [6, 7]]

    @pytest.mark.parametrize("model", ["listed", "table"])
    def test_objects(self, predict: Predict, tmp_path: Path, model: str) -> None:
        """A column of objects with a member for each input, or for each of the columns."""
        expected = {"listed": [{"y": [2.0, 1.5]}], "table": [{"a_out": 1.5, "b_out": 2.0}]}[model]
        assert predict("duckdb_struct.parquet", model)[1] == expected
        objects = pa.array([{"a": 1.5, "b": 2.0}, None], pa.struct({"a": pa.float64(), "b": pa.float64()}))
        pq.write_table(pa.table({"id": ["p", "q"], "row": objects}), tmp_path / "x.parquet")
        rows = predict(tmp_path / "x.parquet", model, keep=("id",))[1]
        assert [row.pop("id") for row in rows] == ["p", "q"]
        assert rows[0] == expected[0]
        assert {value for row in rows[1:] for value in row.get("y", row.values())} == {None}

    def test_a_name_in_another_case(self, predict: Predict, tmp_path: Path) -> None:
        pq.write_table(pa.table({"A": [1.0], "b": [2.0]}), tmp_path / "x.parquet")
        with pytest.raises(InvalidFile, match=r"no column 'a' .*did you mean 'A'"):
            predict(tmp_path / "x.parquet", "table")
        (tmp_path / "x.jsonl").write_text('{"X":1}\n')
        with pytest.raises(InvalidFile, match="Rename 'X'"):
            predict(tmp_path / "x.jsonl", "one")

    def test_text_is_no_number(self, predict: Predict) -> None:
        with pytest.raises(InvalidFile, match=r"column 'x' of .* holds text \(.*\), but FP64 is expected"):
            predict("pandas_category.parquet", "one")


@pytest.mark.parametrize("file", ["numpy_frame.npy", "numpy_big_endian.npy", "numpy_half.npy", "numpy_frames.npz"])
def test_arrays(predict: Predict, file: str) -> None:
    """frame.to_numpy(), which is in Fortran order, in several types."""
    assert ys(predict(file, "pair")[1]) == ROWS
    assert ys(predict(file, "pair", batch_size=2)[1]) == ROWS


def test_names_of_fields_in_npy_3_0(predict: Predict) -> None:
    rows = predict("numpy_3_0.npy", "words", keep=("b",))[1]
    assert rows == [{"b": 2, "y": 1}, {"b": 4, "y": 3}]
