"""Parquet files: their columns, of values or of lists, as a model's inputs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import SEEK_END
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from inferry.errors import InvalidFile
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Chunk, Cursor, chunk
from inferry.jobs.formats.kept_columns import without_views
from inferry.jobs.formats.lines import damage
from inferry.jobs.formats.tables import opened_object, to_block, without_object
from inferry.runtime.columns import assign

# Bytes of each column that are read at a time, and of all columns together.
COLUMN_BUFFER, BUFFERS = 1 << 20, 64 << 20
# Rows and bytes of a batch.
BATCH, BATCH_BYTES = 1 << 14, 8 << 20

# Behind a footer that is signed, as that of a file with encrypted columns is: a nonce and a tag of AES-GCM.
_SIGNATURE = 28
_ENCRYPTED = "{} is encrypted, which inferry can't read: write it without encryption"


class ParquetRows:
    """The rows of a Parquet file."""

    has_requests = False

    def __init__(self, file: BinaryIO, compression: str, options: ReadOptions) -> None:
        """InvalidFile when it isn't Parquet, or when its columns don't make the model's inputs."""
        self._options = options
        try:
            self._metadata = pq.read_metadata(pa.PythonFile(file, "r"))
            schema = self._metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as exc:
            if _magic(file) == b"PARE":
                raise InvalidFile(_ENCRYPTED.format(options.file)) from exc
            raise InvalidFile(f"{options.file} is not a Parquet file: {damage(exc)}") from exc
        _check_encryption(file, self._metadata, options.file)
        self._object, schema = opened_object(schema, options)
        self.names = tuple(schema.names)
        self._assigned = assign(schema.names, options.taking(schema.names), options.keep, options.apart, options.file)
        self.inputs = [(item.columns, item.spec) for item in self._assigned]
        self._types = {field.name: without_views(field.type) for field in schema}
        # Arrow's own readers take UUIDs for bytes unless they are told otherwise, which the oldest can't be.
        self._types |= dict.fromkeys(_uuids(self._metadata), pa.uuid())
        self.kept = {name: self._types[name] for name in options.keep}
        columns = dict.fromkeys((*(name for item in self._assigned for name in item.columns), *options.keep))
        self._columns = list(columns)
        if self._object:
            inside = {field.name for field in self._object.type} - set(self._metadata.schema.to_arrow_schema().names)
            self._columns = [*(name for name in columns if name not in inside), self._object.name]
        self._indices = [
            index
            for index in range(self._metadata.num_columns)
            if self._metadata.schema.column(index).path.split(".")[0] in self._columns
        ]
        buffer = min(COLUMN_BUFFER, max(BUFFERS // len(columns), 1 << 12))
        # Small groups are read in one piece.
        self._files = [
            pq.ParquetFile(pa.PythonFile(file, "r"), metadata=self._metadata, buffer_size=buffer, pre_buffer=at_once)
            for at_once in (False, True)
        ]
        self.total: int = self._metadata.num_rows

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        row = start.row
        end = self.total if stop is None else min(stop, self.total)
        for batch in ahead(self._batches(row, end)):
            for rows in self._pieces(batch.slice(0, end - row)):
                yield chunk(to_block, rows, self._assigned, self._options, Cursor(row, row), row + len(rows))
                row += len(rows)

    def borders(self, rows: int) -> Iterator[Cursor]:
        return (Cursor(row, row) for row in range(rows, self.total, rows))

    def _pieces(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        start = 0
        while start < len(batch):
            rows = batch.slice(start, self._options.pace.rows)
            yield self._plain(without_object(pa.Table.from_batches([rows]), self._object))
            start += len(rows)

    def _plain(self, table: pa.Table) -> pa.Table:
        """The same in types that rows can be taken from."""
        plain = pa.schema([field.with_type(self._types[field.name]) for field in table.schema])
        return table if plain == table.schema else table.cast(plain)

    def _batches(self, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """The rows from `start` on; the last batch may have others behind `end`."""
        try:
            for first, groups, step in self._together(start, end):
                skip = max(start - first, 0)
                file = self._files[len(groups) > 1]
                for batch in file.iter_batches(step, row_groups=groups, columns=self._columns, use_threads=False):
                    if skip < len(batch):
                        yield batch.slice(skip)
                    skip = max(skip - len(batch), 0)
        except (pa.ArrowException, OSError) as exc:
            raise InvalidFile(f"{self._options.file} can't be read: {damage(exc)}") from exc

    def _together(self, start: int, end: int) -> Iterator[tuple[int, list[int], int]]:
        """Row groups with rows between `start` and `end`, small ones together: to begin with one takes a millisecond.

        With the rows before them, and the rows of a batch.
        """
        before = first = size = 0
        groups: list[int] = []
        for group in range(self._metadata.num_row_groups):
            rows, bytes_ = self._size(group)
            if before >= end:
                break
            if groups and (before + rows - first > BATCH or size + bytes_ > BATCH_BYTES):
                yield first, groups, self._step(before - first, size)
                groups, size = [], 0
            before += rows
            if before > start:
                first = first if groups else before - rows
                groups.append(group)
                size += bytes_
        if groups:
            yield first, groups, self._step(before - first, size)

    def _size(self, group: int) -> tuple[int, int]:
        """Rows, and bytes of the columns that are read. Encodings may make values smaller than they are in memory."""
        metadata, size = self._metadata.row_group(group), 0
        for index in self._indices:
            column = metadata.column(index)
            size += max(column.total_uncompressed_size, column.num_values * 8)
        return metadata.num_rows, size

    def _step(self, rows: int, size: int) -> int:
        return max(min(BATCH, BATCH_BYTES * rows // max(size, 1)), 1)


def _uuids(metadata: pq.FileMetaData) -> list[str]:
    columns = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    return [column.path for column in columns if column.logical_type.type == "UUID"]


def _magic(file: BinaryIO) -> bytes:
    file.seek(0, SEEK_END)
    file.seek(max(file.tell() - 4, 0))
    return file.read(4)


def _check_encryption(file: BinaryIO, metadata: pq.FileMetaData, name: str) -> None:
    """InvalidFile when columns are encrypted: Arrow ends the process when it is asked for the size of one.

    What says so is the signature behind the footer.
    """
    file.seek(-8, SEEK_END)
    if int.from_bytes(file.read(4), "little") - metadata.serialized_size == _SIGNATURE:
        raise InvalidFile(_ENCRYPTED.format(name))


def ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same, each read while what is before it is worked on: reading takes longer than a quick model does."""
    with ThreadPoolExecutor(1, "inferry-parse") as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch
