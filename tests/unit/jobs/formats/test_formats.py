"""Formats by extension and by name."""

import pytest
from inferry.errors import InvalidRequest
from inferry.jobs.formats.formats import FORMATS, Format, named, of_file


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
