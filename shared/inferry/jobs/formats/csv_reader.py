"""CSV files: their columns as a model's inputs."""

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from inferry.errors import InvalidFile, InvalidRequest
from inferry.jobs.formats.block_builder import EXACT, BlockBuilder, ReadOptions
from inferry.jobs.formats.blocks import Block, Chunk, Cursor, Pace
from inferry.jobs.formats.kept_columns import CELLS
from inferry.jobs.formats.lines import (
    FEW,
    Lines,
    borders,
    halves,
    head,
    how_many,
    opened,
    read_lines,
    records,
    start_of,
)
from inferry.jobs.formats.row_counter import RowCounter
from inferry.jobs.formats.tables import check_width, to_block
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import readable
from inferry.runtime import rows
from inferry.runtime.columns import NULLS, Assigned, assign, by_position, is_header

# A number beyond the largest has an exponent of three digits, or over 200 digits.
_NUMBER = re.compile(r"[+-]?[0-9]*d?[0-9]*([eE][+-]?[0-9]+)?")
_BEYOND = re.compile(rb"[0-9.,][eE]\+?[0-9]{3}|[0-9]{200}")
# Wider than the datatypes, so that it is `casting` that says what doesn't fit.
_ARROW = {"float": pa.float64(), "integer": pa.int64(), "bool": pa.bool_(), "string": pa.string()}


class CsvRows:
    """The rows of a CSV file in UTF-8, whose first line names the columns unless the user says that it is a row.

    An empty line of a file of one column is a row, whose value is missing.
    """

    total = None
    has_requests = False
    _delimiter = ","

    def __init__(self, file: BinaryIO, compression: str, options: ReadOptions) -> None:
        """InvalidFile when it isn't text, or when its columns don't make the model's inputs."""
        self._options = options
        self._dialect = options.dialect._replace(
            delimiter=options.dialect.delimiter or self._delimiter,
            decimal=options.dialect.decimal or ".",
            quote=options.dialect.quote or '"',
        )
        self._quoted = (self._dialect.quote + self._dialect.escape).encode()
        self._text = opened(file, compression, options.file)
        self._names, self._start = self._header()
        self.names = tuple(self._names)
        self.kept = dict.fromkeys(options.keep, CELLS)
        self._is_narrow = len(self._names) == 1
        with self._hinted():
            self._assigned = assign(self._names, options.taking(self._names), options.keep, options.apart, options.file)
            for item in self._assigned:
                if not item.is_array:
                    check_width(item, options)
        self.inputs = [(item.columns, item.spec) for item in self._assigned]
        self._nulls = [*NULLS, *[self._dialect.null] * bool(self._dialect.null)]
        read = {name for item in self._assigned for name in item.columns}
        # Arrow has a column once: as text, to carry it over as it is, or as the input's values.
        self._is_kept_apart = not read.isdisjoint(options.keep)
        self._is_slow = any(item.is_array for item in self._assigned)
        first = self._first()
        self._kept_types = dict.fromkeys(options.keep, pa.string())
        self._types = dict(self._kept_types)
        for item in self._assigned:
            for name in item.columns:
                self._types[name] = _arrow(item.spec, self._pointed(first.get(name, "")))

        self._whole = [
            name
            for item in self._assigned
            for name in item.columns
            if item.spec.datatype.is_integer and pa.types.is_floating(self._types[name])
        ]

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        counter, offset = RowCounter(start.row, stop), start.offset or self._start
        for lines in read_lines(self._text, offset, self._options.pace, self._options.file, quoted=self._quoted):
            yield counter.chunk(partial(self._table, lines), partial(self._numbered, lines, stop))
            if counter.is_over:
                return

    def _numbered(self, lines: Lines, stop: int | None, table: pa.Table | None, row: int) -> list[Block]:
        if stop is not None and (table is None or row + len(table) > stop):
            lines = head(lines, stop - row, quoted=self._quoted, blank=self._is_narrow)
            table = self._table(lines)
        return list(self._blocks(lines, table, row))

    def borders(self, rows: int) -> Iterator[Cursor]:
        return borders(self._text, self._start, rows, self._options.file, quoted=self._quoted, blank=self._is_narrow)

    def _header(self) -> tuple[list[str], int]:
        start = start_of(self._text)
        first = next(read_lines(self._text, start, Pace(1), self._options.file, quoted=self._quoted), Lines(b"", start))
        try:
            cells = next(self._csv([first.data.decode().rstrip("\r\n")]), [])
            if not cells and first.data and self._options.header is False:
                cells = [""]  # the missing value of a lone column
        except (UnicodeDecodeError, csv.Error) as exc:
            raise InvalidFile(f"the first line of {self._options.file} can't be read: {_wrong(exc)}") from exc
        if not cells or first.oversize:
            raise InvalidFile(f"the first line of {self._options.file} must name the columns: it is empty or too long")
        named = is_header([self._pointed(cell) for cell in cells], self._options.header, self._options.file)
        names = cells if named else self._by_position(len(cells))
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidFile(
                f"the first line of {self._options.file} must name the columns: it names column '{twice[0]}' twice"
            )
        return names, first.end if named else start

    def _first(self) -> dict[str, str]:
        """The cells of the first row; none when it isn't like others."""
        lines = next(read_lines(self._text, self._start, Pace(1), self._options.file, quoted=self._quoted), None)
        try:
            cells = next(self._csv([lines.data.decode()]), []) if lines else []
        except (UnicodeDecodeError, csv.Error):
            cells = []
        return dict(zip(self._names, cells, strict=True)) if len(cells) == len(self._names) else {}

    def _by_position(self, count: int) -> list[str]:
        model = self._options.taking(map(str, range(count)))
        return by_position(count, model, self._options.apart, self._options.file)

    def _blocks(self, lines: Lines, table: pa.Table | None, row: int) -> Iterator[Block]:
        if table is not None:
            kept = self._parsed(lines, self._kept_types) if self._is_kept_apart else None
            block = to_block(table, self._assigned, self._options, Cursor(row, lines.offset), lines.end, kept)
            # Arrow takes a number beyond all others for infinity.
            if not (self._has_infinity(block) and _BEYOND.search(lines.data)):
                yield block
                return
        if lines.oversize or how_many(lines.data, b"\n") <= FEW:
            yield self._careful(lines, row)
        else:
            for half in halves(lines, quoted=self._quoted):
                for block in self._blocks(half, self._table(half), row):
                    yield block
                    row = block.end.row

    def _table(self, lines: Lines) -> pa.Table | None:
        """The lines' columns; None when one of the lines doesn't fit."""
        # To Arrow a lone carriage return ends a line; to everything else it is a part of one. And it takes Spark's
        # escaped quotes, which are no CSV, for a part of a text.
        if lines.oversize or self._is_slow:
            return None
        if b"\r" in lines.data and lines.data.count(b"\r") != lines.data.count(b"\r\n"):
            return None
        if not self._dialect.escape and b'\\"' in lines.data:
            return None
        try:
            table = self._parsed(lines, self._types)
        except pa.ArrowInvalid:
            return None
        # Arrow has no whole number beyond the exact.
        return None if any(_is_inexact(table.column(name)) for name in self._whole) else table

    def _has_infinity(self, block: Block) -> bool:
        """Whether an input has it. Asked of the inputs, and not of each column, of which there may be thousands."""
        floats = [item.spec for item in self._assigned if item.spec.datatype.is_float]
        feeds = [group.feed for group in block.groups]
        return any(np.isinf(readable(feed[spec.name], spec.datatype)).any() for spec in floats for feed in feeds)

    def _parsed(self, lines: Lines, types: Mapping[str, pa.DataType]) -> pa.Table:
        """ArrowInvalid where a line has too few or too many cells, or a cell another type."""
        dialect = self._dialect
        table = arrow_csv.read_csv(
            pa.py_buffer(lines.data),
            arrow_csv.ReadOptions(column_names=self._names, block_size=len(lines.data) + 1, use_threads=False),
            arrow_csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote,
                escape_char=dialect.escape or False,
                newlines_in_values=self._quoted[:1] in lines.data,
                ignore_empty_lines=not self._is_narrow,
            ),
            arrow_csv.ConvertOptions(
                include_columns=list(types),
                column_types=types,
                null_values=self._nulls,
                decimal_point=dialect.decimal,
            ),
            # Arrow's own pool gives what was freed back to the system, which clears it for the next block.
            pa.system_memory_pool(),
        )
        if not dialect.null:
            return table
        # To Arrow a text is missing in all of these cells, or in none.
        missing = pa.scalar(None, pa.string())
        columns = {
            name: pc.if_else(pc.equal(column, dialect.null), missing, column)
            if pa.types.is_string(column.type)
            else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        return pa.table(columns)

    def _careful(self, lines: Lines, row: int) -> Block:
        """The block of lines that have to be looked at one by one."""
        builder = BlockBuilder(self._options, Cursor(row, lines.offset))
        if lines.oversize:
            builder.reject(f"the line has {lines.oversize} bytes, more than are read of a row", lines.data)
            return builder.block(lines.end)
        for line in records(lines.data, quoted=self._quoted, blank=self._is_narrow):
            try:
                cells = self._cells(line)
            except InvalidRequest as exc:
                builder.reject(str(exc), line)
                continue
            self._add(builder, cells, line)
        return builder.block(lines.end)

    def _cells(self, line: bytes) -> dict[str, str]:
        try:
            cells = next(self._csv([line.decode(errors="surrogateescape")], strict=True)) or [""]
        except csv.Error as exc:
            hint = '; a quote in a cell is written twice, not as \\"' if b'\\"' in line else ""
            raise InvalidRequest(f"the line is not CSV: {_wrong(exc)}{hint}") from exc
        if len(cells) != len(self._names):
            raise InvalidRequest(
                f"the line has {len(cells)} cell{'s' * (len(cells) != 1)}, the header {len(self._names)}"
            )
        found = dict(zip(self._names, cells, strict=True))
        foreign = [name for name in self._types if not _is_text(found[name])]
        if foreign:
            raise InvalidRequest(f"the line is not CSV in UTF-8: column '{foreign[0]}' holds other bytes")
        return found

    def _add(self, builder: BlockBuilder, cells: dict[str, str], line: bytes) -> None:
        values = {}
        for item in self._assigned:
            parsed: list[Any] = []
            for name in item.columns:
                try:
                    parsed.append(self._value(cells[name], item))
                except InvalidRequest as exc:
                    builder.reject(str(exc), cells, name)
                    return
            values[item.spec.name] = parsed[0] if len(parsed) == 1 else parsed
        null = self._dialect.null
        kept = [None if null and cells[name] == null else cells[name] for name in self._options.keep]
        builder.add(values, line, kept)

    def _value(self, cell: str, item: Assigned) -> Any:
        datatype = item.spec.datatype
        if self._dialect.null and cell == self._dialect.null:
            if datatype.is_float and not item.is_array:
                return None
            raise InvalidRequest("the value is missing")
        if self._dialect.decimal != "." and "." in cell and datatype.is_number and not item.is_array:
            raise InvalidRequest(f"{cell[:40]!r} has a point, but fractions are behind a {self._dialect.decimal!r}")
        return rows.from_cell(self._pointed(cell) if datatype.is_number and not item.is_array else cell, item)

    def _pointed(self, cell: str) -> str:
        """A number with a point before its fraction. One that has a point where it is written with a comma is none."""
        decimal = self._dialect.decimal
        if decimal == "." or not _NUMBER.fullmatch(cell.replace(decimal, "d")):
            return cell
        return cell.replace(decimal, ".")

    def _csv(self, lines: list[str], *, strict: bool = False) -> Iterator[list[str]]:
        dialect = self._dialect
        return csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            escapechar=dialect.escape or None,
            strict=strict,
        )

    @contextmanager
    def _hinted(self) -> Iterator[None]:
        """Says which delimiter a file seems to have whose columns aren't found."""
        try:
            yield
        except InvalidFile as exc:
            seen = [each for each in ";\t|" if len(self._names) == 1 and each in self._names[0]]
            if not seen or self._options.dialect.delimiter:
                raise
            shown = "\\t" if seen[0] == "\t" else seen[0]
            raise InvalidFile(f"{exc}. Its cells seem to be apart by that: --delimiter '{shown}'") from exc


class TsvRows(CsvRows):
    """As `CsvRows`, with tabs between the cells."""

    _delimiter = "\t"


def _wrong(exc: Exception) -> str:
    """What is wrong with a line, of an error of the csv module, which speaks of Python's ways to open files."""
    if isinstance(exc, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return next((said for start, said in _WRONG.items() if str(exc).startswith(start)), str(exc))


_WRONG = {
    "unexpected end of data": "the quote around a cell has no end",
    "new-line character seen in unquoted field": "there is a carriage return in a cell without quotes",
    "field larger than field limit": "a cell has over 131072 characters",
}


def _is_text(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_inexact(column: pa.ChunkedArray) -> bool:
    """Whether a float in it may be another number than the text was."""
    return bool(pc.any(pc.greater_equal(pc.abs(column), float(EXACT))).as_py())


def _arrow(spec: TensorSpec, first: str) -> pa.DataType:
    """The type to read a column in whose first cell is this: others that fit the input are quick to read too."""
    if spec.datatype.is_number and first.lower() in ("true", "false"):
        return pa.bool_()
    if spec.datatype.is_integer and "." in first:
        return pa.float64()
    return pa.uint64() if spec.datatype.name == "UINT64" else _ARROW[spec.datatype.kind]
