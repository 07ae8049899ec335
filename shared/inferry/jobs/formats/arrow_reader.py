"""Files of Arrow's IPC, which Feather is, in both of its forms, and ORC: columns as in Parquet, read from the start."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa

from inferry.errors import InvalidFile
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Chunk, Cursor, chunk
from inferry.jobs.formats.kept_columns import without_views
from inferry.jobs.formats.lines import damage
from inferry.jobs.formats.parquet_reader import ahead
from inferry.jobs.formats.tables import opened_object, to_block, without_object
from inferry.runtime.columns import assign

_FILE, _FEATHER_1 = b"ARROW1", b"FEA1"


class ArrowRows:
    """The rows of an IPC file or stream; never more in memory than one of its record batches, and the next."""

    total = None
    has_requests = False
    _kind = "an Arrow file"

    def __init__(self, file: BinaryIO, compression: str, options: ReadOptions) -> None:
        """InvalidFile when it is something else, or when its columns don't make the model's inputs."""
        self._options, self._source = options, file
        with self._readable():
            schema = self._opened()
        self._object, schema = opened_object(schema, options)
        self.names = tuple(schema.names)
        self._assigned = assign(schema.names, options.taking(schema.names), options.keep, options.apart, options.file)
        self.inputs = [(item.columns, item.spec) for item in self._assigned]
        self._types = {field.name: without_views(field.type) for field in schema}
        self.kept: Mapping[str, Any] = {name: self._types[name] for name in options.keep}

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        row = 0
        for batch in ahead(self._read()):
            skipped, row = min(max(start.row - row, 0), len(batch)), row + len(batch)
            at = row - len(batch) + skipped
            while at < row and (stop is None or at < stop):
                end = min(row, at + self._options.pace.rows, row if stop is None else stop)
                rows = self._plain(pa.Table.from_batches([batch.slice(len(batch) - (row - at), end - at)]))
                yield chunk(to_block, rows, self._assigned, self._options, Cursor(at, at), end)
                at = end
            if stop is not None and row >= stop:
                return

    def borders(self, rows: int) -> Iterator[Cursor]:
        return iter(())

    def _plain(self, table: pa.Table) -> pa.Table:
        table = without_object(table, self._object)
        plain = pa.schema([field.with_type(self._types[field.name]) for field in table.schema])
        return table if plain == table.schema else table.cast(plain)

    def _read(self) -> Iterator[pa.RecordBatch]:
        with self._readable():
            self._opened()
            yield from self._batches()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as exc:
            raise InvalidFile(f"{self._options.file} can't be read as {self._kind}: {damage(exc)}") from exc

    def _opened(self) -> pa.Schema:
        """The file's schema, from where its batches are next."""
        self._source.seek(0)
        magic = self._source.read(len(_FILE))
        self._source.seek(0)
        if magic.startswith(_FEATHER_1):
            raise InvalidFile(f"{self._options.file} is Feather of version 1: write version 2, which is Arrow's IPC")
        source = pa.PythonFile(self._source, "r")
        self._reader: Any = (pa.ipc.open_file if magic == _FILE else pa.ipc.open_stream)(source)
        return self._reader.schema

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if not hasattr(self._reader, "get_batch"):
            yield from self._reader
            return
        for number in range(self._reader.num_record_batches):
            yield self._reader.get_batch(number)


class OrcRows(ArrowRows):
    """The rows of an ORC file, a stripe at a time."""

    _kind = "an ORC file"

    def _opened(self) -> pa.Schema:
        from pyarrow import orc

        self._source.seek(0)
        self._reader = orc.ORCFile(pa.PythonFile(self._source, "r"))
        return self._reader.schema

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for number in range(self._reader.nstripes):
            yield self._reader.read_stripe(number)
