"""What files' names say: marks of other tools, tables, inferry's own files, and results that would share a place."""

from pathlib import Path

import pytest
from inferry.jobs.file_names import is_mark, is_own, neighbour, reserved, table_of, tables
from inferry.jobs.formats.formats import named
from inferry.storage.stored import StoredFile

HUDI = "3f2504e0-4f89-41d3-9a0c-0305e82c3301-0_0-27-25_20260102030405678.parquet"


@pytest.mark.parametrize(
    "path",
    [
        "_SUCCESS",
        "a/_SUCCESS",
        "s3://b/a/_committed_7891",
        "_started_7891",
        "_metadata",
        "_common_metadata",
        "x.parquet.crc",
        "year_$folder$",
        "x.csv._COPYING_",
        "a/_temporary/0/x.parquet",
        "_spark_metadata/0",
    ],
)
def test_marks_of_other_tools(path: str) -> None:
    assert is_mark(path)


@pytest.mark.parametrize(
    "path", ["x.csv", "_x.csv", "_SUCCESS.csv", "_successes", "_SUCCESS/x.csv", "x._metadata", "temporary/x", "crc"]
)
def test_files_of_rows(path: str) -> None:
    assert not is_mark(path)


@pytest.mark.parametrize(
    ("path", "ending"),
    [
        ("a.jsonl.errors.jsonl", ".errors.jsonl"),
        ("s3://b/x.report.json", ".report.json"),
        ("monday.run.json", ".run.json"),
        ("errors.jsonl", ""),
        ("a.errors.jsonl.gz", ""),
        ("report.json", ""),
    ],
)
def test_names_that_only_our_files_have(path: str, ending: str) -> None:
    assert reserved(path) == ending


OURS = {
    "x.errors.jsonl": b'{"row":2,"column":null,"reason":"no","data":"?"}\n',
    "x.report.json": b'{\n  "state": "finished",\n  "input": "x",\n',
    "x.run.json": b'{"rows":2,"errors":0,"seconds":0.1,"files":[',
}


@pytest.mark.parametrize("name", OURS)
def test_a_file_is_ours_by_its_name_and_how_it_begins(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert not is_own(str(path))
    path.write_bytes(OURS[name])
    assert is_own(str(path))
    path.rename(tmp_path / "x.jsonl")
    assert not is_own(f"{tmp_path}/x.jsonl")
    path.write_bytes(b'{"x": 1}\n')
    assert not is_own(str(path))


@pytest.mark.parametrize(
    ("path", "to", "other"),
    [
        ("a.jsonl.csv", "csv", "a.jsonl"),
        ("a.csv.jsonl.gz", "jsonl.gz", "a.csv"),
        ("a.csv", "csv", ""),
        ("a.csv.csv", "csv", ""),
        ("a.jsonl.csv", "jsonl", ""),
    ],
)
def test_neighbours_whose_results_share_a_name(path: str, to: str, other: str) -> None:
    assert neighbour(path, named(to)) == other


def listing(*paths: str) -> list[StoredFile]:
    return [StoredFile(path, 1, "") for path in sorted(paths)]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["_delta_log/0.json", "a.parquet"], {"": ("Delta", "s3://b/in/")}),
        (["t/_delta_log/0.json", "t/x=1/a.parquet", "b.csv"], {"t/": ("Delta", "s3://b/in/t/")}),
        (["d/t/metadata/v1.metadata.json", "d/t/data/a.parquet"], {"d/t/": ("Iceberg", "s3://b/in/d/t/")}),
        (["t/metadata/00000-1.gz.metadata.json", "t/data/x=1/a.parquet"], {"t/": ("Iceberg", "s3://b/in/t/")}),
        (["metadata/a.json", "data/a.parquet"], {}),
        (["metadata/v1.metadata.json", "database/a.parquet"], {}),
        (["x_delta_log/a.csv", "b.csv"], {}),
    ],
)
def test_tables_in_a_folder(paths: list[str], expected: dict[str, tuple[str, str]]) -> None:
    assert tables(listing(*paths), "s3://b/in/") == expected


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for path in (
        "delta/_delta_log/00000000000000000000.json",
        "delta/day=1/Az/a.parquet",
        "ice/metadata/v1.metadata.json",
        "ice/data/day=1/a.parquet",
        f"hudi/2026/{HUDI}",
        "delta/_change_data/a.parquet",
        "plain/metadata/notes.json",
        "plain/data/a.parquet",
        "a.parquet",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind", "folder"),
    [
        ("delta/day=1/Az/a.parquet", "Delta", "delta/"),
        ("delta/day=1/", "Delta", "delta/"),
        ("delta/_change_data/a.parquet", "Delta", "delta/"),
        ("delta/_delta_log/00000000000000000000.json", "Delta", "delta/"),
        ("ice/data/day=1/a.parquet", "Iceberg", "ice/"),
        ("ice/data/", "Iceberg", "ice/"),
        (f"hudi/2026/{HUDI}", "Hudi", "hudi/2026/"),
    ],
)
def test_the_table_of_a_file_or_a_folder(lake: Path, path: str, kind: str, folder: str) -> None:
    assert table_of(f"{lake}/{path}") == (kind, f"{lake}/{folder}")


@pytest.mark.parametrize("path", ["plain/data/a.parquet", "a.parquet", "delta/day=1/a.csv"])
def test_files_of_no_table(lake: Path, path: str) -> None:
    assert table_of(f"{lake}/{path}") is None
