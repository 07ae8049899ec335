"""Answers as tables, CSV and Parquet: the columns that are kept, and those of the outputs behind them."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, groupby
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from inferry.errors import NotSupported
from inferry.jobs.formats.blocks import PredictedBlock, Values, other_shape
from inferry.jobs.formats.kept_columns import (
    CELLS,
    check_parquet,
    converted,
    known_type,
    of_cells,
    text,
    text_type,
    to_array,
    to_text,
    unified,
)
from inferry.jobs.formats.texts import Texts, of_numbers
from inferry.jobs.formats.texts import lines as text_lines
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import Array, readable
from inferry.runtime.model import Model


class _Tables:
    """What both share: answers as Arrow's record batches."""

    _format: str

    def __init__(self, model: Model, keep: Sequence[str], requests: bool, kept: Mapping[str, Any]) -> None:
        if requests:
            raise NotSupported("answers to requests of the protocol can't be a table: write them as jsonl")
        self._model = model
        self._specs = model.row_outputs()
        self._keep = keep
        self._kept_types = {name: known_type(held, name, self._format) for name, held in kept.items()}

    def _kept(self, predicted: PredictedBlock) -> dict[str, pa.Array]:
        columns = {}
        for name in self._keep:
            column = to_array(predicted.block.kept[name])
            some = len(column) != len(predicted.positions)
            columns[name] = column.take(pa.array(predicted.positions)) if some else column
        return columns


_SEVERAL = (
    "an output has rows that share no type of Parquet, single values and lists, or lists of other depths: write jsonl"
)


class ParquetWriter(_Tables):
    """Lists in the columns of outputs that have more than one value in a row. A part is a stream of Arrow's IPC."""

    _format = "parquet"

    def __init__(self, model: Model, keep: Sequence[str], requests: bool, kept: Mapping[str, Any]) -> None:
        """NotSupported for columns to keep that Parquet can't hold."""
        super().__init__(model, keep, requests, kept)
        self._check()
        self._cells = [name for name, held in kept.items() if held == CELLS]

    def _check(self) -> None:
        for name, held in self._kept_types.items():
            check_parquet(held, name)

    def encode(self, predicted: PredictedBlock) -> pa.RecordBatch | None:
        """The rows of a block."""
        if not len(predicted.positions):
            return None
        columns = self._kept(predicted)
        for name, values in predicted.outputs.items():
            columns[name] = _lists(values, self._specs[name])
        return pa.RecordBatch.from_pydict(columns)

    def seal(self, blocks: Sequence[pa.RecordBatch | None]) -> Sequence[bytes]:
        """A part of the file: streams behind each other, one for blocks whose columns have the same types."""
        batches = [batch for batch in blocks if batch is not None]
        return (
            [b"".join(_stream(alike) for _, alike in groupby(batches, lambda batch: batch.schema))] if batches else []
        )

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """The file, a row group for each part; of all of them it is seen first what type a kept column has."""
        schema = self._schema(parts)
        tables = (self._table(part, schema) for part in parts if part)
        first = next(tables, None) or self._nothing()
        with self._writer(target, first.schema) as write:
            for table in chain((first,), tables):
                if table.schema != first.schema:
                    raise NotSupported(_SEVERAL)
                write(table)

    def header(self) -> bytes:
        """Nothing: there is no line of names."""
        return b""

    @contextmanager
    def _writer(self, target: BinaryIO, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
        with pq.ParquetWriter(target, schema, use_dictionary=False) as writer:
            yield writer.write_table

    def _schema(self, parts: Iterable[bytes]) -> Mapping[str, pa.DataType]:
        """The types of kept columns that aren't known before all parts are there."""
        names = [name for name in self._keep if name not in self._kept_types]
        found: dict[str, list[pa.DataType]] = {name: [] for name in names}
        for batch in _batches(parts if names else ()):
            for name in names:
                if (held := batch.schema.field(name).type) not in found[name]:
                    found[name].append(held)
        types = {name: unified(found[name]) for name in names} | self._numbers_of_cells(parts)
        doubtful = [name for name in names if {*found[name]} - {types[name], pa.null()}]
        for batch in _batches(parts if doubtful else ()):
            for name in doubtful:
                if not _fits(batch.column(name), types[name]):
                    types[name] = pa.string()
        return types

    def _numbers_of_cells(self, parts: Iterable[bytes]) -> dict[str, pa.DataType]:
        """The types of cells that are all of them numbers; text has the type that it has."""
        types = {name: [pa.int64(), pa.float64()] for name in self._cells}
        for batch in _batches(parts if types else ()):
            for name, held in types.items():
                held[:] = [each for each in held if of_cells(batch.column(name), each)]
            types = {name: held for name, held in types.items() if held}
        return {name: held[0] for name, held in types.items()}

    def _table(self, part: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
        batches = []
        for batch in _batches([part]):
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns |= {name: converted(columns[name], held) for name, held in types.items()}
            batches.append(pa.RecordBatch.from_pydict(columns))
        try:
            return pa.Table.from_batches(batches)
        except pa.ArrowException as exc:
            raise NotSupported(_SEVERAL) from exc

    def _nothing(self) -> pa.Table:
        """A file without rows has its columns too."""
        columns = {name: pa.array([], self._kept_types.get(name, pa.string())) for name in self._keep}
        return pa.table(columns | {name: _lists(_no_rows(spec), spec) for name, spec in self._specs.items()})


class ArrowWriter(ParquetWriter):
    """The same in a file of Arrow's IPC, which can hold every type."""

    _format = "feather"

    def _check(self) -> None:
        pass

    @contextmanager
    def _writer(self, target: BinaryIO, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
        with pa.ipc.new_file(target, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            yield writer.write_table


class OrcWriter(ParquetWriter):
    """The same in ORC."""

    _format = "orc"

    def _check(self) -> None:
        pass

    @contextmanager
    def _writer(self, target: BinaryIO, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
        from pyarrow import orc

        try:
            with orc.ORCWriter(target) as writer:
                yield lambda table: writer.write(_without_categories(table))
        except pa.ArrowException as exc:
            raise NotSupported(f"the results hold what ORC has no form for: {exc}; write parquet") from exc


def _without_categories(table: pa.Table) -> pa.Table:
    """The table with the values of categories, which ORC doesn't have."""
    for at, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if pa.types.is_dictionary(column.type):
            values = [chunk.dictionary_decode() for chunk in column.chunks]
            table = table.set_column(at, name, pa.chunked_array(values, column.type.value_type))
    return table


def _stream(batches: Iterable[pa.RecordBatch]) -> bytes:
    first, *others = batches
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, first.schema) as writer:
        for batch in (first, *others):
            writer.write_batch(batch)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _batches(parts: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
    """The blocks in parts, each of which is streams behind each other."""
    for part in parts:
        source = pa.BufferReader(part)
        while source.tell() < len(part):
            yield from pa.ipc.open_stream(source)


def _fits(column: pa.Array, held: pa.DataType) -> bool:
    try:
        converted(column, held)
    except pa.ArrowException:
        return False
    return True


class CsvWriter(_Tables):
    """An output of several values has a column for each, NAME_0 and so on; one of any shape is JSON in a cell."""

    _format = "csv"
    _delimiter = ","

    def __init__(self, model: Model, keep: Sequence[str], requests: bool, kept: Mapping[str, Any]) -> None:
        """NotSupported for columns to keep that CSV can't hold."""
        super().__init__(model, keep, requests, kept)
        self._types = {name: text_type(held, name, self._format) for name, held in self._kept_types.items()}
        self._write = arrow_csv.WriteOptions(include_header=False, delimiter=self._delimiter)
        taken = set(self._specs)
        self._wide = {name for name, spec in self._specs.items() if taken.isdisjoint(_parts(spec))}

    def encode(self, predicted: PredictedBlock) -> bytes:
        """The lines of a block's rows, without a header."""
        if not len(predicted.positions):
            return b""
        if not self._keep and (numbers := self._numbers(predicted)):
            columns = [Texts(_cells_of_numbers(values)) for values in numbers]
            lines = text_lines(b"", columns, [b","] * (len(columns) - 1), b"\n")
            return lines if self._delimiter == "," else lines.replace(b",", self._delimiter.encode())
        kept = {
            name: to_text(column, self._types.get(name, column.type)) for name, column in self._kept(predicted).items()
        }
        cells = _text_only(kept)
        for name, values in predicted.outputs.items():
            cells |= self._cells(values, self._specs[name])
        sink = pa.BufferOutputStream()
        arrow_csv.write_csv(pa.table(cells), sink, self._write)
        text: bytes = sink.getvalue().to_pybytes()
        return text

    def _numbers(self, predicted: PredictedBlock) -> list[Array] | None:
        """The rows of all outputs when they are numbers, all of which JSON and CSV write alike that are finite."""
        found = []
        for name, values in predicted.outputs.items():
            spec = self._specs[name]
            if not isinstance(values, np.ndarray) or values.dtype.hasobject or not self._has_columns(spec):
                return None
            flat = _flat(values, spec)
            if not flat.size:
                return None
            found.append(flat)
        return found

    def _has_columns(self, spec: TensorSpec) -> bool:
        """Whether an output has a column for each value; of any shape, or without names, they are JSON in a cell."""
        return spec.is_fixed and (_is_single(spec) or spec.name in self._wide)

    def _cells(self, values: Values, spec: TensorSpec) -> dict[str, pa.Array]:
        """An output as columns."""
        if not self._has_columns(spec):
            texts = [_cell(readable(np.asarray(row), spec.datatype)) for row in values]
            return {spec.name: pa.array(texts, pa.string())}
        if not isinstance(values, np.ndarray):
            raise NotSupported(other_shape(values[0], spec, "jsonl or parquet"))
        flat = _flat(values, spec)
        if _is_single(spec):
            return {spec.name: _column(flat[:, 0])}
        return {name: _column(flat[:, index]) for index, name in enumerate(_parts(spec))}

    def seal(self, blocks: Sequence[bytes]) -> Sequence[bytes]:
        """A part of the file."""
        return blocks

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """The file: a line of the columns' names, and all parts."""
        target.write(self.header())
        for part in parts:
            target.write(part)

    def header(self) -> bytes:
        """The line of the columns' names."""
        names = [*self._keep]
        for spec in self._specs.values():
            names += self._cells(_no_rows(spec), spec)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n", delimiter=self._delimiter).writerow(names)
        return text.getvalue().encode()


class TsvWriter(CsvWriter):
    """The same with tabs."""

    _format = "tsv"
    _delimiter = "\t"


def _cells_of_numbers(values: Array) -> list[bytes]:
    """The cells of each row."""
    rows, finite = of_numbers(values).rows, np.isfinite(values)
    if finite.all():  # along an axis it takes forty times as long
        return rows
    for at in np.flatnonzero(~finite.all(axis=1)).tolist():
        cells = zip(values[at].tolist(), rows[at].split(b","), strict=True)
        rows[at] = b",".join([text if math.isfinite(value) else str(value).encode() for value, text in cells])
    return rows


def _text_only(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """CSV has no lists: those of kept columns become JSON."""
    return {
        name: pa.array([text(value) for value in column.to_pylist()], pa.string())
        if pa.types.is_nested(column.type)
        else column
        for name, column in columns.items()
    }


def _no_rows(spec: TensorSpec) -> Array:
    return np.empty((0, *(max(length, 0) for length in spec.row or ())), spec.datatype.dtype)


def _lists(values: Values, spec: TensorSpec) -> pa.Array:
    """An output as a column: of plain values, or of lists as deep as its rows.

    NotSupported for rows that are deeper, or less deep, than the model declares, or where it declares none than others.
    """
    if not isinstance(values, np.ndarray):
        if len(ranks := {np.ndim(row) for row in values}) > 1:
            raise NotSupported(
                f"rows of output '{spec.name}' have {' and '.join(map(str, sorted(ranks)))} axes; {_SEVERAL}"
            )
        return pa.concat_arrays([_lists(row[np.newaxis], spec) for row in values])
    if spec.shape and (values.ndim != len(spec.shape) or (_is_single(spec) and values[:1].size > 1)):
        raise NotSupported(other_shape(values, spec, "jsonl"))
    values = readable(values, spec.datatype)
    if spec.row and _is_single(spec):
        values = values.reshape(len(values))
    column = pa.array(values.reshape(-1), pa.string() if values.dtype.hasobject else None)
    for axis in range(values.ndim - 1, 0, -1):
        width, count = values.shape[axis], math.prod(values.shape[:axis])
        column = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * width, column)
    return column


def _cell(row: Array) -> str:
    """A row as JSON in a cell: numbers with their own digits."""
    value = row.tolist() if row.dtype.hasobject else np.ascontiguousarray(row)
    return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode() if row.ndim else str(row[()])


def _is_single(spec: TensorSpec) -> bool:
    return spec.row is not None and all(length == 1 for length in spec.row)


def _parts(spec: TensorSpec) -> list[str]:
    """The columns of CSV that an output of several values has."""
    if not spec.is_fixed or _is_single(spec):
        return []
    return [f"{spec.name}_{index}" for index in range(math.prod(spec.row or ()))]


def _flat(values: Array, spec: TensorSpec) -> Array:
    """The rows' values behind each other. NotSupported for rows of another shape than the model declares."""
    if values.shape[1:] != spec.row:
        raise NotSupported(other_shape(values, spec, "jsonl or parquet"))
    flat = readable(values, spec.datatype).reshape(len(values), math.prod(spec.row or ()))
    return flat.astype(np.float32) if flat.dtype == np.float16 else flat


def _column(values: Array) -> pa.Array:
    return pa.array(values, pa.string() if values.dtype.hasobject else None)
