"""What files' names say: marks of other tools, files of tables, and those that inferry itself writes beside results."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from inferry.errors import InvalidFile, InvalidRequest, StoreError
from inferry.jobs.formats.formats import Format, of_file
from inferry.storage.files import open_files, split
from inferry.storage.stored import StoredFile

# Files of Spark, Hadoop, Glue and EMR that have no rows, or none that count yet.
_MARKS = re.compile(r"_SUCCESS|_(committed|started)_.*|_(common_)?metadata|.*_\$folder\$|.*\.crc|.*\._COPYING_", re.S)
_MARK_FOLDERS = ("_temporary", "_spark_metadata")

# What inferry writes beside results ends so, and begins so: an input may have none of these names.
_OWN = {
    ".errors.jsonl": re.compile(rb'\{"row":\d+,"column":'),
    ".report.json": re.compile(rb'\{\n  "state": "[a-z]+",\n  "input": "'),
    ".run.json": re.compile(rb'\{"rows":\d+,"errors":\d+,"seconds":'),
}
_BEGINNING = 200

_DELTA_LOG = "_delta_log"
_ICEBERG = re.compile(r"((?:.*/)?)metadata/[^/]+\.metadata\.json(?:\.gz)?", re.S)
_ICEBERG_DATA = "data"
_IN_DATA = re.compile(rf"(?:(?<=/)|^){_ICEBERG_DATA}/")
# A file group's id, the token of what wrote it and the time of its commit.
_HUDI = re.compile(r"[0-9a-f-]{36}(-\d+)?_\d+-\d+-\d+_\d{14,17}\.parquet")
# Folders that tables make for their files: of partitions, of changes, of data (below which is more), and of hashes.
_INSIDE = re.compile(r".*=.*|_change_data|[\w-]{1,8}", re.S)
_EXPORTS = {
    "Delta": "for example with DuckDB: COPY (FROM delta_scan('{}')) TO 'rows.parquet'",
    "Iceberg": "for example with DuckDB: COPY (FROM iceberg_scan('{}')) TO 'rows.parquet'",
    "Hudi": "for example with Spark: spark.read.format('hudi').load('{}').write.parquet('rows')",
}


class Table(NamedTuple):
    """A table of many files, of which only its own log knows which ones count."""

    kind: str
    folder: str

    def refuse(self) -> InvalidRequest:
        """The error for a name that results may not have, with what to do instead."""
        return InvalidRequest(
            f"{self.folder} is {'an' if self.kind == 'Iceberg' else 'a'} {self.kind} table: there are files of rows in "
            "it that were removed or replaced, and only the table's log says which ones count. Export what it holds "
            f"and predict that, {_EXPORTS[self.kind].format(self.folder)}"
        )


def is_mark(path: str) -> bool:
    """Whether other tools leave files of this name beside those that have rows."""
    *folders, name = path.split("/")
    return _MARKS.fullmatch(name) is not None or not set(_MARK_FOLDERS).isdisjoint(folders)


def reserved(path: str) -> str:
    """How the name of a file ends that only inferry writes, "" for all others."""
    return next((ending for ending in _OWN if path.endswith(ending)), "")


def is_own(url: str) -> bool:
    """Whether inferry has written this file beside results. StoreError; the store is asked only if the name says so."""
    ending = reserved(url)
    if not ending:
        return False
    folder, name = split(url)
    files = open_files(folder)
    found = files.stat(name)
    if found is None:
        return False
    with files.open(found) as file:
        return _OWN[ending].match(file.read(_BEGINNING)) is not None


def check_input(url: str) -> None:
    """InvalidRequest for what has no rows that could be predicted by themselves."""
    is_folder = url.endswith("/")
    if table := tables(open_files(url).list(), url).get("") if is_folder else table_of(url):
        raise table.refuse()
    if is_folder:
        raise InvalidFile(f"{url} is a folder: a job has one file")
    check_not_reserved(url)


def check_not_reserved(url: str) -> None:
    """InvalidRequest for the name of an input, or of results, that only inferry's own files may have."""
    if ending := reserved(url):
        raise InvalidRequest(
            f"{url} can't be predicted or hold results: names that end in {ending} are those of files that inferry "
            "writes beside results; rename it"
        )


def neighbour(path: str, to: Format) -> str:
    """Of x.jsonl.csv x.jsonl, whose results have that name too when all are written `to` CSV; "" of all others."""
    other = path.removesuffix(to.extension)
    return "" if other == path or of_file(other) in (None, to) else other


def tables(listing: Iterable[StoredFile], url: str) -> dict[str, Table]:
    """The tables in a listing of the folder at `url`, by their folders: "" or a path that ends with "/"."""
    found: dict[str, Table] = {}
    icebergs, with_data = set[str](), set[str]()
    for file in listing:
        if f"{_DELTA_LOG}/" in file.path and _DELTA_LOG in file.path.split("/"):
            folder = file.path[: f"/{file.path}".index(f"/{_DELTA_LOG}/")]
            found[folder] = Table("Delta", f"{url}{folder}")
        elif match := _ICEBERG.fullmatch(file.path):
            icebergs.add(match[1])
        with_data.update(file.path[: inside.start()] for inside in _IN_DATA.finditer(file.path))
    found |= {folder: Table("Iceberg", f"{url}{folder}") for folder in icebergs & with_data}
    return dict(sorted(found.items()))


def table_of(url: str) -> Table | None:
    """The table that a file, or a folder whose URL ends with "/", belongs to. Without the right to look, none."""
    is_relative = "://" not in url and not url.startswith("/")
    folder, name = split(f"{Path(url).absolute()}{'/' * url.endswith('/')}" if is_relative else url)
    if f"/{_DELTA_LOG}/" in folder:
        return Table("Delta", folder.partition(f"{_DELTA_LOG}/")[0])
    if _HUDI.fullmatch(name):
        return Table("Hudi", folder)
    if name and not name.endswith(".parquet"):
        return None
    with suppress(StoreError):
        return _above(folder.rstrip("/"))
    return None


def _above(folder: str) -> Table | None:
    """The table whose folder this is, or is inside of."""
    while folder and not folder.endswith(":/"):
        if open_files(folder).below(_DELTA_LOG):
            return Table("Delta", f"{folder}/")
        above, name = split(folder)
        if above.endswith("://"):
            return None
        if name == _ICEBERG_DATA and any(_ICEBERG.fullmatch(path) for path in open_files(above).below("metadata")):
            return Table("Iceberg", above)
        if not _INSIDE.fullmatch(name):
            return None
        folder = above.rstrip("/")
    return None
