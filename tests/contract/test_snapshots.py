"""Tables that deltalake and pyiceberg write, at a version or a time: what they hold then is predicted, nothing else."""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import deltalake
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.cli.main import main
from inferry.jobs.formats import snapshots
from pyiceberg.catalog.memory import InMemoryCatalog


class Lake(NamedTuple):
    """A table with three versions: rows of id 0 to 4, these twice, and without those whose id is 1."""

    kind: str
    folder: Path
    versions: Sequence[int]
    moments: Sequence[float]
    """Of each version a time, in seconds, at which it is the latest."""


FIRST = [{"id": n, "x": [float(n), 0.5]} for n in range(5)]
ROWS = [FIRST, FIRST * 2, [row for row in FIRST * 2 if row["id"] != 1]]
TABLE = pa.Table.from_pylist(FIRST, pa.schema([("id", pa.int64()), ("x", pa.list_(pa.float64()))]))


def waited() -> float:
    """A time between two commits, whose own times are whole milliseconds."""
    time.sleep(0.005)
    now = time.time()
    time.sleep(0.005)
    return now


def delta(folder: Path) -> Lake:
    moments = []
    for step in range(3):
        if step < 2:
            deltalake.write_deltalake(folder, TABLE, mode="append")
        else:
            deltalake.DeltaTable(folder).delete("id = 1")
        moments.append(waited())
    return Lake("Delta", folder, [0, 1, 2], moments)


def iceberg(folder: Path) -> Lake:
    with closing(InMemoryCatalog("c", warehouse=str(folder.parent))) as catalog:
        catalog.create_namespace("n")
        table, moments = catalog.create_table("n.t", TABLE.schema, str(folder)), []
        for step in range(3):
            if step < 2:
                table.append(TABLE)
            else:
                table.delete("id = 1")
            moments.append(waited())
    return Lake("Iceberg", folder, [each.snapshot_id for each in table.snapshots()], moments)


@pytest.fixture(scope="module", params=[delta, iceberg], ids=["delta", "iceberg"])
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made: Lake = request.param(tmp_path_factory.mktemp("lake") / "t")
    return made


Batch = Callable[..., int]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    models = onnx_models.write(tmp_path / "models", {"m.onnx": onnx_models.scaled(2.0, 2)})

    def go(source: object, target: str, *flags: str) -> int:
        return main(["batch", str(source), f"{tmp_path}/{target}", "--models", str(models), *flags])

    return go


def expected(rows: Sequence[Any]) -> list[tuple[int, list[float]]]:
    return sorted((row["id"], [value * 2 for value in row["x"]]) for row in rows)


def found(path: Path) -> list[tuple[int, list[float]]]:
    return sorted((row["id"], row["y"]) for row in pq.read_table(path).to_pylist())


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("by", ["version", "time"])
def test_a_version(lake: Lake, step: int, by: str, batch: Batch, tmp_path: Path) -> None:
    wanted = str(lake.versions[step])
    if by == "time":
        wanted = datetime.fromtimestamp(lake.moments[step], UTC).isoformat()
    assert batch(lake.folder, "out/", "--keep", "id", "--snapshot", wanted) == 0
    assert found(tmp_path / "out" / f"t-v{lake.versions[step]}.parquet") == expected(ROWS[step])


def test_the_latest(lake: Lake, batch: Batch, tmp_path: Path) -> None:
    """The output may be a file, and the results of another format."""
    assert batch(lake.folder, "out.jsonl", "--keep", "id") == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert sorted((row["id"], row["y"]) for row in rows) == expected(ROWS[2])


def test_it_is_read_once(lake: Lake, batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again goes on from the file that it has written, whose rows are in the order of the results."""
    assert batch(lake.folder, "out/", "--keep", "*") == 0
    name = f"t-v{lake.versions[2]}.parquet"
    copy = tmp_path / "out" / ".inferry" / "snapshots" / name
    results = pq.read_table(tmp_path / "out" / name)
    assert results.drop_columns(["y"]).to_pylist() == pq.read_table(copy).to_pylist()
    times = copy.stat(), (tmp_path / "out" / name).stat()
    assert batch(lake.folder, "out/", "--keep", "*") == 0
    assert (copy.stat().st_mtime_ns, copy.stat().st_ino) == (times[0].st_mtime_ns, times[0].st_ino)
    assert (tmp_path / "out" / name).stat().st_mtime_ns == times[1].st_mtime_ns


REFUSALS = {
    "version": (["--snapshot", "77"], "has no (version|snapshot) 77: its (latest is|last ones are) "),
    "before": (["--snapshot", "2001-01-31T12:00:00Z"], "was not there at 2001-.*: its first version is of 20"),
    "no time": (["--snapshot", "yesterday"], "is a version or a time as 2026-01-31T12:00:00Z, got 'yesterday'"),
    "no zone": (["--snapshot", "2026-01-31"], "2026-01-31 has no time zone"),
    "elsewhere": (["--snapshot", "0", "--on", "aws"], "--snapshot is for a table that is predicted here"),
    "column": (["--keep", "ID"], "no column 'ID' to keep; did you mean 'id'"),
}


@pytest.mark.parametrize(("flags", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(
    flags: Sequence[str], reason: str, lake: Lake, batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(lake.folder, "out/", *flags) == 1
    said = capsys.readouterr().err
    assert re.search(reason, said)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_no_table(batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    assert batch(tmp_path / "t.parquet", "out/", "--snapshot", "1") == 1
    assert "--snapshot is for tables of Delta and Iceberg in folders here" in capsys.readouterr().err


def test_the_output_is_outside(lake: Lake, tmp_path: Path, batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    models = onnx_models.write(tmp_path / "m", {"m.onnx": onnx_models.scaled(2.0, 2)})
    assert main(["batch", str(lake.folder), f"{lake.folder}/out/", "--models", str(models)]) == 1
    assert "is inside of the input" in capsys.readouterr().err


def test_without_the_extra(
    lake: Lake, batch: Batch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("deltalake", "pyiceberg", "pyiceberg.table"):
        monkeypatch.setitem(sys.modules, name, None)
    assert batch(lake.folder, "out/") == 1
    said = capsys.readouterr().err
    assert f"{lake.folder}/ is a{'n' * (lake.kind == 'Iceberg')} {lake.kind} table: there are files of rows" in said
    assert "install the extra 'tables'" in said


def test_deletion_vectors_are_refused(batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without them, rows that were removed would be predicted."""
    deltalake.write_deltalake(tmp_path / "t", TABLE, configuration={"delta.enableDeletionVectors": "true"})
    assert batch(tmp_path / "t", "out/") == 1
    assert "uses what deltalake can't hand over, such as deletion vectors" in capsys.readouterr().err


def test_metadata_that_only_a_catalog_knows(batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two writers one has failed behind its file of metadata."""
    lake = iceberg(tmp_path / "t")
    newest = max((lake.folder / "metadata").glob("*.metadata.json"))
    newest.with_name(f"{newest.name[:6]}ffff.metadata.json").write_bytes(newest.read_bytes())
    assert batch(lake.folder, "out/") == 1
    assert "has 2 files of metadata with the number 3: only the table's catalog knows" in capsys.readouterr().err


def test_a_broken_table(lake: Lake, batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(lake.folder, tmp_path / "t")
    for path in [*copy.glob("_delta_log/*.json"), *copy.glob("metadata/*.metadata.json")]:
        path.write_text("{")
    assert batch(copy, "out/") == 1
    assert f"{copy}/ can't be read as a table of {lake.kind}: " in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["Delta", "Iceberg"])
def test_large_tables_become_several_row_groups(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "GROUP", 4)
    lake = {"Delta": delta, "Iceberg": iceberg}[kind](tmp_path / "t")
    snapshot = snapshots.open_snapshot(kind, str(lake.folder), str(lake.versions[1]))
    with (tmp_path / "x.parquet").open("wb") as file:
        snapshots.write(snapshot, file, str(lake.folder), kind)
    written = pq.ParquetFile(tmp_path / "x.parquet")
    assert written.num_row_groups == 2
    assert expected(written.read().to_pylist()) == expected(ROWS[1])
