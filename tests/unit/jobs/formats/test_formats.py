"""Formats by extension and by name."""

import sys
from typing import Any

import pytest
from inferry.errors import InvalidRequest, InvalidSettings
from inferry.jobs.formats.formats import FORMATS, Format, named, of_file, open_writer


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x.jsonl", Format("jsonl")),
        ("a.b/X.NDJSON", Format("jsonl")),
        ("x.csv.gz", Format("csv", "gzip")),
        ("x.jsonl.zst", Format("jsonl", "zstd")),
        ("x.pq", Format("parquet")),
        ("x.parquet.gz", None),
        ("x.npy", Format("npy")),
        ("x.npz", Format("npz")),
        ("x.json", Format("jsonl")),
        ("x.tsv.xz", Format("tsv", "xz")),
        ("x.csv.bz2", Format("csv", "bz2")),
        ("x.arrow", Format("feather")),
        ("x.orc", Format("orc")),
        ("x.orc.gz", None),
        ("x.gz", None),
        ("csv", None),
        ("x", None),
        ("", None),
    ],
)
def test_extensions(path: str, expected: Format | None) -> None:
    assert of_file(path) == expected


@pytest.mark.parametrize("name", [*FORMATS, "csv.gz", "jsonl.zst"])
def test_names(name: str) -> None:
    assert named(name) == named(f".{name}") == of_file(f"x.{name}")
    assert named(name).extension == f".{name}"


@pytest.mark.parametrize("name", ["xml", "", "npy.gz", "gz"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"unknown format .* there are jsonl, csv, parquet, tsv, feather, orc, npy, npz"
    ):
        named(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *dict.fromkeys(["jsonl", "csv", "tsv", "parquet", "npy"], True).items(),
        *dict.fromkeys(["feather", "orc", "npz", "jsonl.gz", "csv.zst", "tsv.xz"], False).items(),
    ],
)
def test_several_workers_share_files_whose_rows_can_be_read_from_the_middle(name: str, expected: bool) -> None:
    assert named(name).is_sliced is expected


def test_a_format_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = None
    monkeypatch.delitem(sys.modules, "inferry.jobs.formats.csv_writer", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidSettings, match="writing CSV needs pyarrow: install the extra 'batch': "):
        open_writer(Format("csv"), model, (), False, {})


def test_no_other_module_that_is_missing_is_said_to_be_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = None
    monkeypatch.setitem(sys.modules, "inferry.jobs.formats.csv_writer", None)
    with pytest.raises(ModuleNotFoundError, match=r"csv_writer"):
        open_writer(Format("csv"), model, (), False, {})
