"""Tables as tools write them: files/ holds what tests/tables/small_files.py wrote with each of them."""

import bz2
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
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
from inferry.cli.main import main
from inferry.errors import InvalidFile, InvalidRequest
from inferry.jobs import part_writer, runner
from inferry.jobs.formats import formats, json_array
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Cursor, Pace
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
            runner.run(replace(job, part=part), service)
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


class TestColumns:
    @pytest.mark.parametrize("file", ["pandas_index.csv", "pandas_index.parquet"])
    def test_the_index_is_no_input(self, predict: Predict, file: str) -> None:
        for options in ({}, {"columns": ("*",)}):
            assert ys(predict(file, "pair", drop=("id",), **options)[1]) == ROWS

    def test_what_is_dropped_is_neither_an_input_nor_kept(self, predict: Predict) -> None:
        rows = predict("pandas_index.csv", "pair", drop=("id",), keep=("*",))[1]
        assert rows[0] == {"": "r1", "a": 1.0, "b": 2.0, "y": [1.0, 2.0]}
        with pytest.raises(InvalidFile, match="no column 'idd' to keep or to drop"):
            predict("pandas_index.csv", "pair", drop=("idd",))

    @pytest.mark.parametrize(
        ("file", "first"),
        [
            ("pandas_wide.jsonl", {"id": 7}),
            ("pandas_index.csv", {"": "r1", "id": 7}),
            ("pandas_index.parquet", {"id": 7, "__index_level_0__": "r1"}),
        ],
    )
    def test_all_are_kept_under_their_names(self, predict: Predict, file: str, first: dict[str, Any]) -> None:
        rows = predict(file, "pair", keep=("*", "a=first"), columns=("a", "b"))[1]
        assert len(rows) == 3
        assert rows[0] == first | {"first": 1.0, "b": 2.0, "y": [1.0, 2.0]}

    def test_an_output_of_the_same_name_is_refused(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("y,a,b\nt,1,2\n")
        with pytest.raises(InvalidRequest, match="'y' to keep has the name of an output"):
            predict(tmp_path / "x.csv", "pair", keep=("*",), columns=("a", "b"))
        rows = predict(tmp_path / "x.csv", "pair", keep=("*", "y=truth"), columns=("a", "b"))[1]
        assert rows == [{"a": 1, "b": 2, "truth": "t", "y": [1, 2]}]

    @pytest.mark.parametrize("file", ["x.npy", "x.npz"])
    def test_arrays(self, predict: Predict, tmp_path: Path, file: str) -> None:
        if file == "x.npy":
            np.save(tmp_path / file, np.array([(1.0, 7)], [("x", "f8"), ("id", "i4")]))
        else:
            np.savez(tmp_path / file, x=np.array([1.0]), id=np.array([7]))
        assert predict(tmp_path / file, "one", keep=("*", "x="))[1] == [{"id": 7, "x": 1.0, "y": 1.0}]

    def test_numbers_of_csv_are_those_that_are_printed_so(self, predict: Predict, tmp_path: Path) -> None:
        cells = [
            "12",
            "007",
            "-0",
            "1.5",
            "1.50",
            "1e3",
            "1e+16",
            "9223372036854775807",
            "9223372036854775808",
            "",
            "nan",
        ]
        (tmp_path / "x.csv").write_text("x,k\n" + "".join(f"1,{cell}\n" for cell in cells))
        expected = [12, "007", "-0", 1.5, "1.50", "1e3", 1e16, 2**63 - 1, str(2**63), "", "nan"]
        rows = predict(tmp_path / "x.csv", "one", keep=("k",))[1]
        assert repr([row["k"] for row in rows]) == repr(expected)

    @pytest.mark.parametrize(
        ("cells", "held"),
        [
            (["1", "-2", "30"], pa.int64()),
            (["1.5", "100.0", "1e+16"], pa.float64()),
            (["1", "2.5"], pa.string()),
            (["1", "007"], pa.string()),
            (["1", ""], pa.string()),
            (["1.50", "1.5"], pa.string()),
            (["nan", "1.5"], pa.string()),
        ],
    )
    def test_a_column_of_csv_in_parquet(
        self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str], held: pa.DataType
    ) -> None:
        """Of one type in the whole file, whatever parts it is made in."""
        monkeypatch.setattr(part_writer, "PART_BYTES", 1)
        (tmp_path / "x.csv").write_text("x,k\n" + "".join(f"1,{cell}\n" for cell in cells))
        job = Job(
            input=f"{tmp_path}/x.csv", output=f"{tmp_path}/out/", model="one", to="parquet", keep=("k",), batch_size=1
        )
        column = pq.read_table(runner.run(job, service).output)["k"]
        assert column.type == held
        assert [str(value) for value in column.to_pylist()] == cells

    def test_an_input_of_csv_that_is_kept_is_text_as_it_was(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("x\n1.50\n2\nbad\n")
        report, rows = predict(tmp_path / "x.csv", "one", keep=("x",), columns=("x",))
        assert rows == [{"x": "1.50", "y": 1.5}, {"x": 2, "y": 2.0}]
        assert report.errors == 1

    def test_partition_keys(self, predict: Predict) -> None:
        keep = ("day", "kind=sort")
        _, rows = predict("hive/day=5/kind=x%3D1/data_0.parquet", "pair", keep=keep)
        assert rows == [{"day": 5, "sort": "x=1", "y": [1, 2]}]
        _, rows = predict("hive/day=6/kind=__HIVE_DEFAULT_PARTITION__/data_0.parquet", "pair", keep=keep)
        assert rows == [{"day": 6, "sort": None, "y": [3, 4]}]
        _, rows = predict("hive/day=5/kind=x%3D1/data_0.parquet", "pair", keep=("*",))
        assert rows == [{"a": "1.0", "b": "2.0", "day": 5, "kind": "x=1", "y": [1, 2]}]

    def test_partition_keys_in_parquet(self, service: Service, tmp_path: Path) -> None:
        file = str(FILES / "hive/day=5/kind=x%3D1/data_0.parquet")
        job = Job(input=file, output=f"{tmp_path}/out/", model="pair", keep=("day", "kind"))
        table = pq.read_table(runner.run(job, service).output, partitioning=None)
        assert table.to_pylist() == [{"day": 5, "kind": "x=1", "y": [1, 2]}]

    def test_a_folder_that_is_no_column(self, predict: Predict) -> None:
        with pytest.raises(InvalidFile, match="no column 'month' to keep"):
            predict("hive/day=5/kind=x%3D1/data_0.parquet", "pair", keep=("month",))


class TestPlaces:
    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("in/*.csv", ["a.csv", "b.csv"]),
            ("in/?.csv", ["a.csv", "b.csv"]),
            ("in/[!b].csv", ["a.csv"]),
            ("in/**/*.csv", ["a.csv", "b.csv", "sub/c.csv"]),
            ("in/*/c.csv", ["sub/c.csv"]),
            ("in/**", ["a.csv", "b.csv", "sub/c.csv", "sub/x[1].csv", "z.jsonl"]),
            ("in/sub/x[1].csv", ["x[1].csv"]),
        ],
    )
    def test_patterns(
        self, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, found: list[str]
    ) -> None:
        for name in ("a.csv", "b.csv", "z.jsonl", "sub/c.csv", "sub/x[1].csv"):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_text('{"x":1}\n' if name == "z.jsonl" else "x\n1\n")
        monkeypatch.chdir(tmp_path)
        if pattern == "in/**/*.csv":
            (tmp_path / "in/sub/x[1].csv").unlink()
        assert main(["batch", pattern, "out/", "--model", "one", "--models", str(models)]) == 0
        reports = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.report.json"))
        assert [name.removesuffix(".report.json") for name in reports] == found

    def test_a_pattern_that_finds_nothing(
        self, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "x.csv").write_text("x\n")
        asked = ["batch", f"{tmp_path}/*.parquet", f"{tmp_path}/../out/", "--model", "one", "--models", str(models)]
        assert main(asked) == 1
        assert "none of the 1 below" in capsys.readouterr().err

    def stream(self, models: Path, content: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "inferry", "batch", *options, "--model", "one", "--models", str(models)]
        env = {"PATH": os.environ["PATH"], "ORT_DISABLE_TELEMETRY": "1"}
        return subprocess.run(command, input=content, capture_output=True, check=False, env=env)

    def test_standard_input_and_output(self, models: Path) -> None:
        done = self.stream(
            models, b"x,id\n1,7\nbad,8\n3,9\n", "-", "-", "--format", "csv", "--to", "jsonl", "--keep", "id"
        )
        assert done.stdout == b'{"id":7,"y":1.0}\n{"id":9,"y":3.0}\n'
        error, summary = map(json.loads, done.stderr.splitlines())
        assert (error["row"], error["column"], summary["rows"], summary["errors"]) == (2, "x", 2, 1)
        assert done.returncode == 0

    def test_a_file_to_standard_output(self, models: Path) -> None:
        done = self.stream(models, b"", str(FILES / "pandas_whole.csv"), "-", "--to", "parquet")
        assert pq.read_table(BytesIO(done.stdout))["y"].to_pylist()[:2] == [1, 3]

    @pytest.mark.parametrize(
        ("content", "options", "said", "status"),
        [
            (b"x\nbad\n", ["-", "-", "--format", "csv"], b'"rows": 0, "errors": 1', 1),
            (b"x\nbad\nbad\n", ["-", "-", "--format", "csv", "--max-errors", "1"], b"2 of 2 rows have no result", 1),
            (b"x\n1\n", ["-", "-"], b"give --format", 1),
            (b"x\n1\n", ["-", "out.csv", "--format", "csv"], b"give - twice", 1),
            (b"a,b\n1,2\n", ["-", "-", "--format", "csv"], b"inferry: standard input has 2 columns", 1),
        ],
    )
    def test_streams_that_fail(
        self, models: Path, content: bytes, options: list[str], said: bytes, status: int
    ) -> None:
        done = self.stream(models, content, *options)
        assert said in done.stderr
        assert (done.stdout, done.returncode) == (b"", status)


class TestFormats:
    @pytest.mark.parametrize(
        "file",
        [
            "pandas_records.json",
            "pandas_wide.jsonl.bz2",
            "pandas_wide.jsonl.xz",
            "duckdb_wide.json",
            "pandas.csv.bz2",
            "pandas.csv.xz",
            "pandas.tsv",
            "pandas.feather",
            "pandas.orc",
        ],
    )
    def test_read(self, predict: Predict, file: str) -> None:
        rows = predict(file, "pair", columns=("a", "b"), keep=("id",))[1]
        assert ys(rows) == ROWS
        assert [row["id"] for row in rows] == [7, 8, 12]
        assert ys(predict(file, "pair", columns=("a", "b"), batch_size=2)[1]) == ROWS

    def test_streams_of_arrow(self, predict: Predict, tmp_path: Path) -> None:
        """As Hugging Face's datasets keep their tables."""
        table = pa.table({"x": [float(number) for number in range(10)]})
        with pa.ipc.new_stream(tmp_path / "x.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
        assert ys(predict(tmp_path / "x.arrow", "one", batch_size=2)[1]) == table["x"].to_pylist()
        assert ys(predict("polars_views.arrow", "text")[1]) == ["first", "second"]

    @pytest.mark.parametrize("name", ["x.feather", "x.orc"])
    @pytest.mark.parametrize(("start", "stop"), [(0, None), (1, None), (6, 13), (7, 8), (19, None), (20, None)])
    def test_from_any_row(self, service: Service, tmp_path: Path, name: str, start: int, stop: int | None) -> None:
        """Runs that go on begin at any row of any batch."""
        table = pa.table({"x": [float(number) for number in range(20)]})
        if name.endswith("orc"):
            orc.write_table(table, tmp_path / name)
        else:
            feather.write_feather(table, tmp_path / name, chunksize=6)
        options = ReadOptions(service.repository.get("one"), (), Pace(4), name)
        with (tmp_path / name).open("rb") as file:
            reader = formats.open_reader(formats.named(name.partition(".")[2]), file, options)
            blocks = [block for chunk in reader.chunks(Cursor(start, start), stop) for block in chunk()]
        assert [value for block in blocks for value in block.groups[0].feed["x"].ravel()] == [*range(start, stop or 20)]
        assert [row for block in blocks for row in block.rows] == [*range(start + 1, (stop or 20) + 1)]
        assert [block.start.row for block in blocks[1:]] == [block.end.row for block in blocks[:-1]]

    def test_kept_categories_in_orc(self, service: Service, tmp_path: Path) -> None:
        """ORC has none: their values are written."""
        kept = pa.array(["a", None, "a"]).dictionary_encode()
        pq.write_table(pa.table({"id": kept, "x": [1.0, 2.0, 3.0]}), tmp_path / "x.parquet")
        output = tmp_path / "x.orc"
        job = Job(input=f"{tmp_path}/x.parquet", output=str(output), model="one", to="orc", keep=("id",))
        assert runner.run(job, service).errors == 0
        assert orc.read_table(output).column("id").to_pylist() == ["a", None, "a"]

    @pytest.mark.parametrize("to", ["tsv", "feather", "orc", "jsonl.bz2", "csv.xz", "tsv.gz"])
    def test_written(self, predict: Predict, service: Service, tmp_path: Path, to: str) -> None:
        """What is written is read again, and says the same."""
        job = Job(input=str(FILES / "pandas_index.csv"), output=f"{tmp_path}/1/", model="pair", keep=("id",), to=to)
        again = runner.run(job, service).output
        columns = ("y_0", "y_1") if "sv" in to else ("y",)
        _, rows = predict(again, "pair", columns=columns, keep=("id",))
        assert rows == [{"id": number, "y": row} for number, row in zip([7, 8, 12], ROWS, strict=True)]

    def test_a_tab_is_a_tab(self, service: Service, tmp_path: Path) -> None:
        job = Job(input=str(FILES / "pandas.tsv"), output=f"{tmp_path}/", model="pair", columns=("a", "b"))
        assert Path(runner.run(job, service).output).read_text() == "y_0\ty_1\n1.0\t2.0\n3.0\t4.0\n5.5\t-1.0\n"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[{"x":1},{"x":2}', "ends in the middle of its array, behind element 2"),
            ('[{"x":1} {"x":2}]', "stands behind element 1 where ',' was expected"),
            ('[{"x":1},{"x":2}] []', "more behind the end"),
            ('[{"x":1},{"x":nope}]', "element 2 of .* is not JSON"),
            ('[{"x":1},]', "element 2 of .* is not JSON"),
            ("[" * 100_000, "nested too deep"),
            ("[", "ends in the middle"),
        ],
    )
    def test_arrays_of_json_that_are_none(self, predict: Predict, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(InvalidFile, match=said):
            predict(tmp_path / "x.json", "one")

    def test_pieces_of_arrays(self, predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever is between the bytes that are read at a time; an element that is no object is one row's error."""
        monkeypatch.setattr(json_array, "BLOCK", 7)
        (tmp_path / "x.json").write_text('\ufeff [\n{"x":1.5,\n"t":"ü]},[{"},{"x" : -2}\r\n, 12345678 ,{"x":3}]\n')
        report, rows = predict(tmp_path / "x.json", "one", keep=("t",))
        assert rows == [{"t": "ü]},[{", "y": 1.5}, {"t": None, "y": -2}, {"t": None, "y": 3}]
        assert report.errors == 1

    @pytest.mark.parametrize("name", ["x.jsonl.bz2", "x.jsonl.xz", "x.csv.bz2", "x.csv.xz"])
    def test_damaged_files(self, predict: Predict, tmp_path: Path, name: str) -> None:
        compress = bz2.compress if name.endswith("bz2") else lzma.compress
        content = compress(b'{"x":1}\n' * 1000 if "jsonl" in name else b"x\n" + b"1\n" * 1000)
        (tmp_path / name).write_bytes(content[:-10])
        with pytest.raises(InvalidFile, match="ends in the middle of its compressed data"):
            predict(tmp_path / name, "one")
        (tmp_path / name).write_bytes(content[:20] + bytes(len(content) - 20))
        with pytest.raises(InvalidFile, match="can't be read"):
            predict(tmp_path / name, "one")
        (tmp_path / name).write_bytes(content * 2)
        if "jsonl" in name:
            assert predict(tmp_path / name, "one")[0].rows == 2000

    @pytest.mark.parametrize("name", ["x.feather", "x.orc", "x.arrow"])
    def test_what_is_no_table(self, predict: Predict, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"nothing of the kind, and a little more")
        with pytest.raises(InvalidFile, match=r"can't be read as an (Arrow|ORC) file"):
            predict(tmp_path / name, "one")


class TestDialects:
    def test_semicolons_and_decimal_commas(self, predict: Predict) -> None:
        with pytest.raises(InvalidFile, match="--delimiter ';'"):
            predict("pandas_semicolons.csv", "pair", columns=("a", "b"))
        options = {"columns": ("a", "b"), "delimiter": ";", "decimal": ","}
        assert ys(predict("pandas_semicolons.csv", "pair", **options)[1]) == ROWS

    def test_a_bad_row_among_decimal_commas(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("x\n1,5\n1.5\n1.234,5\n2,5e1\n,5\n")
        report, rows = predict(tmp_path / "x.csv", "one", delimiter=";", decimal=",")
        assert ys(rows) == [1.5, 25, 0.5]
        assert report.errors == 2

    def test_escaped_quotes(self, predict: Predict, tmp_path: Path) -> None:
        expected = ['say "a"; b', "back\\slash", "it's"]
        options = {"delimiter": ";", "escape": "\\"}
        assert ys(predict("pandas_escaped.csv", "text", **options)[1]) == expected
        (tmp_path / "x.csv").write_text('x\n"a \\" \n b"\n"c\\\\"\nd\n')
        for size in (1, 0):
            assert ys(predict(tmp_path / "x.csv", "text", escape="\\", batch_size=size)[1]) == ['a " \n b', "c\\", "d"]

    def test_another_quote(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("x\n'a,\nb'\n'it''s \"so\"'\n")
        assert ys(predict(tmp_path / "x.csv", "text", quote="'")[1]) == ["a,\nb", 'it\'s "so"']

    def test_nulls(self, predict: Predict, tmp_path: Path) -> None:
        assert ys(predict("duckdb_null.csv", "pair", null="\\N")[1]) == [[1, 2], [None, 4]]
        (tmp_path / "x.csv").write_text("x,k\na,#N/A\n#N/A,1\nc,2\n")
        report, rows = predict(tmp_path / "x.csv", "text", columns=("x",), keep=("k",), null="#N/A")
        assert rows == [{"k": None, "y": "a"}, {"k": 2, "y": "c"}]
        assert report.errors == 1

    def test_on_the_command_line(self, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "x.csv").write_text("1\t2\n3\t4\n")
        file = f"{tmp_path}/x.csv"
        asked = ["infer", "pair", "--input", file, "--models", str(models), "--no-header"]
        assert main([*asked, "--delimiter", "\\t"]) == 0
        assert ys([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == [[1, 2], [3, 4]]
        assert main([*asked, "--delimiter", "::"]) == 1
        assert "--delimiter is one character" in capsys.readouterr().err
        assert main([*asked, "--delimiter", ";", "--decimal", ";"]) == 1
        assert "must differ" in capsys.readouterr().err


class TestDryRun:
    def test_how_files_would_be_read(self, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.csv").write_text("id,a,b,more\n7,1,2,x\n8,bad,4,y\n9,5,6,z\n")
        (tmp_path / "in/b.jsonl").write_text('{"c":1}\n')
        (tmp_path / "in/c.npy").write_bytes((FILES / "numpy_frame.npy").read_bytes())
        asked = [
            "batch",
            f"{tmp_path}/in",
            f"{tmp_path}/out",
            "--models",
            str(models),
            "--model",
            "listed",
            "--dry-run",
        ]
        assert main([*asked, "--keep", "id=key"]) == 1
        said = capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()
        assert said[:6] == [
            "in/a.csv",
            "  b, a -> x (FP64, rows have the shape [2])",
            "  kept: id -> key",
            "  left out: more",
            "  row 1: x = [2.0, 1.0]",
            "  row 2: refused: column 'a': 'bad' is found where FP64 is expected",
        ]
        assert said[6] == "in/b.jsonl"
        assert said[7].startswith("  refused: the lines of in/b.jsonl have the members c")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "file",
        [
            "numpy_frame.npy",
            "numpy_frames.npz",
            "pandas.orc",
            "pandas.feather",
            "pandas_index.parquet",
            "pandas_wide.jsonl",
        ],
    )
    def test_every_format(self, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
        asked = [
            "batch",
            str(FILES / file),
            f"{tmp_path}/out",
            "--models",
            str(models),
            "--model",
            "listed",
            "--dry-run",
        ]
        assert main(asked) == 0
        first, second = ("[1.0, 2.0]", "[3.0, 4.0]") if file.startswith("numpy") else ("[2.0, 1.0]", "[4.0, 3.0]")
        said = capsys.readouterr().out.splitlines()
        assert said[-2:] == [f"  row 1: x = {first}", f"  row 2: x = {second}"]
        assert "-> x (FP64" in said[1]


def test_who_stops_a_run_reads_that_the_next_goes_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", stopped)
    asked = ["batch", str(FILES / "pandas_whole.csv"), f"{tmp_path}/out/", "--models", str(models), "--model", "one"]
    assert main(asked) == 130
    assert "the same command goes on from what is done" in capsys.readouterr().err
