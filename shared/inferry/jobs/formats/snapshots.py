"""Snapshots of tables of Delta Lake and Iceberg, as the libraries of these read them, and as a file of Parquet."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from inferry.errors import InvalidFile, InvalidRequest, NotSupported

# Rows of a batch that is read, and rows and bytes of a row group that is written.
BATCH, GROUP, GROUP_BYTES = 1 << 14, 1 << 17, 32 << 20
# What Iceberg's writers call the metadata of a version: 00003-UUID, and v3 where a folder is the catalog.
_METADATA = re.compile(r"v?(\d+)(?:-.*)?\.metadata\.json", re.S)
_HINT = "version-hint.text"


class Snapshot(NamedTuple):
    """The rows of a table as they were: `version` names them among all that it has had."""

    version: int
    schema: pa.Schema
    batches: Callable[[], Iterable[pa.RecordBatch]]


def open_snapshot(kind: str, folder: str, wanted: str) -> Snapshot:
    """The snapshot of a table, "Delta" or "Iceberg", at a version or a time; the latest where `wanted` is empty.

    ImportError without the table's library; InvalidRequest for a version that it hasn't, InvalidFile when it can't be
    read, NotSupported for what the library can't read.
    """
    with _readable(folder, kind):
        return (_delta if kind == "Delta" else _iceberg)(folder, wanted)


def write(snapshot: Snapshot, target: BinaryIO, folder: str, kind: str) -> None:
    """All of its rows as Parquet; some of them are in memory at a time."""
    with pq.ParquetWriter(target, snapshot.schema) as writer, _readable(folder, kind):
        for group in _groups(snapshot.batches()):
            writer.write_table(pa.Table.from_batches(group, snapshot.schema))


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(map(len, group)) >= GROUP or sum(each.nbytes for each in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _delta(folder: str, wanted: str) -> Snapshot:
    import deltalake
    from deltalake.exceptions import DeltaProtocolError

    version = int(wanted) if wanted.isdecimal() else None
    if wanted and version is None:
        commits = deltalake.DeltaTable(folder).history()
        version = _until(wanted, [(commit.get("timestamp"), commit["version"]) for commit in commits], folder)
    elif version is not None and version > (latest := deltalake.DeltaTable(folder).version()):
        raise InvalidRequest(f"{folder} has no version {version}: its latest is {latest}")
    table = deltalake.DeltaTable(folder, version=version)
    try:
        dataset = table.to_pyarrow_dataset()
    except DeltaProtocolError as exc:
        raise NotSupported(f"{folder} uses what deltalake can't hand over, such as deletion vectors: {exc}") from exc
    # Nothing is read far ahead: the rows of a few files at a time would be many.
    scanner = dataset.scanner(batch_size=BATCH, batch_readahead=1, fragment_readahead=1)
    return Snapshot(table.version(), dataset.schema, scanner.to_batches)


def _iceberg(folder: str, wanted: str) -> Snapshot:
    from pyiceberg.table import StaticTable

    table = StaticTable.from_metadata(str(_metadata(Path(folder) / "metadata")))
    known = [(each.timestamp_ms, each.snapshot_id) for each in table.snapshots()]
    if wanted.isdecimal():
        version = int(wanted)
        if version not in [number for _, number in known]:
            said = ", ".join(str(number) for _, number in known[-5:]) or "none"
            raise InvalidRequest(f"{folder} has no snapshot {version}: its last ones are {said}")
    elif wanted:
        version = _until(wanted, [(entry.timestamp_ms, entry.snapshot_id) for entry in table.history()], folder)
    else:
        current = table.current_snapshot()
        version = current.snapshot_id if current else 0
    scan = table.scan(snapshot_id=version or None)
    return Snapshot(version, scan.to_arrow_batch_reader().schema, scan.to_arrow_batch_reader)


def _metadata(folder: Path) -> Path:
    """The newest metadata: the one that the hint names, else the one with the highest number.

    InvalidFile where two have it, of which only a catalog knows which one counts.
    """
    hint = folder / _HINT
    named = folder / f"v{hint.read_text().strip()}.metadata.json" if hint.exists() else None
    if named and named.exists():
        return named
    numbered = [(int(match[1]), path) for path in folder.iterdir() if (match := _METADATA.fullmatch(path.name))]
    highest = max(number for number, _ in numbered)
    newest = [path for number, path in numbered if number == highest]
    if len(newest) > 1:
        raise InvalidFile(
            f"{folder} has {len(newest)} files of metadata with the number {highest}: only the table's catalog knows "
            "which one counts"
        )
    return newest[0]


def _until(wanted: str, known: Iterable[tuple[int | None, int]], folder: str) -> int:
    """The last version whose time, in milliseconds, is not behind the `wanted` one."""
    try:
        moment = datetime.fromisoformat(wanted)
    except ValueError as exc:
        raise InvalidRequest(f"--snapshot is a version or a time as 2026-01-31T12:00:00Z, got {wanted[:40]!r}") from exc
    if moment.tzinfo is None:
        raise InvalidRequest(f"--snapshot {wanted} has no time zone: write {wanted}Z for UTC")
    found = sorted((time, version) for time, version in known if time is not None)
    before = [version for time, version in found if time <= moment.timestamp() * 1000]
    if not before:
        first = datetime.fromtimestamp(found[0][0] / 1000, moment.tzinfo).isoformat() if found else "unknown"
        raise InvalidRequest(f"{folder} was not there at {wanted}: its first version is of {first}")
    return before[-1]


@contextmanager
def _readable(folder: str, kind: str) -> Iterator[None]:
    """What the libraries raise, as ours: they have no class of errors in common."""
    from inferry.errors import InferryError

    try:
        yield
    except (InferryError, ImportError, MemoryError):
        raise
    except Exception as exc:
        raise InvalidFile(f"{folder} can't be read as a table of {kind}: {type(exc).__name__}: {exc}") from exc
