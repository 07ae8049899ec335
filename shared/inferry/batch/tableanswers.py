"""Answers as tables, CSV and Parquet: the columns that are kept, and those of the outputs behind them."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from inferry.batch.blocks import Answer, Values
from inferry.batch.texts import Texts, of_numbers
from inferry.batch.texts import lines as text_lines
from inferry.errors import NotSupported
from inferry.model import Model
from inferry.signature import TensorSpec
from inferry.tensors import Array, float32_from_bfloat16


class _Tables:
    """What both share: answers as Arrow's record batches."""

    def __init__(self, model: Model, keep: Sequence[str], requests: bool) -> None:
        if requests:
            raise NotSupported("answers to requests of the protocol can't be a table: write them as jsonl")
        self._model = model
        self._specs = model.session.signature.outputs
        self._keep = keep

    def _kept(self, answer: Answer) -> dict[str, pa.Array]:
        columns = {}
        for name in self._keep:
            values = answer.block.kept[name]
            column = values if isinstance(values, pa.ChunkedArray) else _array(values)
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            some = len(column) != len(answer.positions)
            columns[name] = column.take(pa.array(answer.positions)) if some else column
        return columns


class ParquetAnswers(_Tables):
    """Lists in the columns of outputs that have more than one value in a row. A part is a stream of Arrow's IPC."""

    def encode(self, answer: Answer) -> pa.RecordBatch | None:
        """The rows of a block."""
        if not len(answer.positions):
            return None
        columns = self._kept(answer)
        for name, values in answer.outputs.items():
            columns[name] = _lists(values, self._specs[name])
        return pa.RecordBatch.from_pydict(columns)

    def seal(self, pieces: Sequence[pa.RecordBatch | None]) -> Sequence[bytes]:
        """A part of the file."""
        batches = [piece for piece in pieces if piece is not None]
        if not batches:
            return []
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return [sink.getvalue().to_pybytes()]

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """The file, a row group for each part."""
        tables = (pa.ipc.open_stream(part).read_all() for part in parts if part)
        first = next(tables, None) or self._nothing()
        with pq.ParquetWriter(target, first.schema, use_dictionary=False) as writer:
            for table in chain((first,), tables):
                writer.write_table(table)

    def _nothing(self) -> pa.Table:
        """A file without rows has its columns too."""
        columns = dict.fromkeys(self._keep, pa.array([], pa.string()))
        return pa.table(columns | {name: _lists(_no_rows(spec), spec) for name, spec in self._specs.items()})


class CsvAnswers(_Tables):
    """An output of several values has a column for each, NAME_0 and so on; one of any shape is JSON in a cell."""

    def encode(self, answer: Answer) -> bytes:
        """The lines of a block's rows, without a header."""
        if not len(answer.positions):
            return b""
        if not self._keep and (numbers := self._numbers(answer)):
            columns = [Texts(_cells_of_numbers(values)) for values in numbers]
            return text_lines(b"", columns, [b","] * (len(columns) - 1), b"\n")
        cells = self._kept(answer)
        for name, values in answer.outputs.items():
            cells |= _cells(values, self._specs[name])
        sink = pa.BufferOutputStream()
        arrow_csv.write_csv(pa.table(_text_only(cells)), sink, _WRITE)
        text: bytes = sink.getvalue().to_pybytes()
        return text

    def _numbers(self, answer: Answer) -> list[Array] | None:
        """The rows of all outputs when they are numbers, all of which JSON and CSV write alike that are finite."""
        found = []
        for name, values in answer.outputs.items():
            spec = self._specs[name]
            if not isinstance(values, np.ndarray) or values.dtype.hasobject or not spec.is_fixed:
                return None
            flat = _flat(values, spec)
            if not flat.size:
                return None
            found.append(flat)
        return found

    def seal(self, pieces: Sequence[bytes]) -> Sequence[bytes]:
        """A part of the file."""
        return pieces

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """The file: a line of the columns' names, and all parts."""
        target.write(self.header())
        for part in parts:
            target.write(part)

    def header(self) -> bytes:
        """The line of the columns' names."""
        names = [*self._keep]
        for spec in self._specs.values():
            names += _cells(_no_rows(spec), spec)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(names)
        return text.getvalue().encode()


_WRITE = arrow_csv.WriteOptions(include_header=False)


def _cells_of_numbers(values: Array) -> list[bytes]:
    """The cells of each row."""
    rows, finite = of_numbers(values).rows, np.isfinite(values)
    if finite.all():  # along an axis it takes forty times as long
        return rows
    for at in np.flatnonzero(~finite.all(axis=1)).tolist():
        cells = zip(values[at].tolist(), rows[at].split(b","), strict=True)
        rows[at] = b",".join([text if math.isfinite(value) else str(value).encode() for value, text in cells])
    return rows


def _array(values: Any) -> pa.Array:
    """Kept values that come from another format than Arrow's."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return pa.array(values)
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    try:
        return pa.array(plain)
    except (pa.ArrowException, OverflowError):
        return pa.array([_text(value) for value in plain], pa.string())


def _text(value: Any) -> str | None:
    """A value that shares its column with others of another kind."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _text_only(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """CSV has no lists: those of kept columns become JSON."""
    return {
        name: pa.array([_text(value) for value in column.to_pylist()], pa.string())
        if pa.types.is_nested(column.type)
        else column
        for name, column in columns.items()
    }


def _no_rows(spec: TensorSpec) -> Array:
    return np.empty((0, *(max(length, 0) for length in spec.row or ())), spec.datatype.dtype)


def _readable(values: Array, spec: TensorSpec) -> Array:
    """The values in a type that Arrow has: BF16 is only bits here."""
    return float32_from_bfloat16(values) if spec.datatype.name == "BF16" else values


def _lists(values: Values, spec: TensorSpec) -> pa.Array:
    """An output as a column: of plain values, or of lists as deep as its rows."""
    if not isinstance(values, np.ndarray):
        return pa.concat_arrays([_lists(row[np.newaxis], spec) for row in values])
    values = _readable(values, spec)
    if spec.row and _is_single(spec):
        values = values.reshape(len(values))
    column = pa.array(values.reshape(-1), pa.string() if values.dtype.hasobject else None)
    for axis in range(values.ndim - 1, 0, -1):
        width, count = values.shape[axis], math.prod(values.shape[:axis])
        column = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * width, column)
    return column


def _is_single(spec: TensorSpec) -> bool:
    return spec.row is not None and all(length == 1 for length in spec.row)


def _cells(values: Values, spec: TensorSpec) -> dict[str, pa.Array]:
    """An output as columns of CSV."""
    if not isinstance(values, np.ndarray) or not spec.is_fixed:
        texts = [_text(_readable(np.asarray(row), spec).tolist()) for row in values]
        return {spec.name: pa.array(texts, pa.string())}
    flat = _flat(values, spec)
    if _is_single(spec):
        return {spec.name: _column(flat[:, 0])}
    return {f"{spec.name}_{index}": _column(flat[:, index]) for index in range(flat.shape[1])}


def _flat(values: Array, spec: TensorSpec) -> Array:
    """The rows' values behind each other."""
    flat = _readable(values, spec).reshape(len(values), math.prod(spec.row or ()))
    return flat.astype(np.float32) if flat.dtype == np.float16 else flat


def _column(values: Array) -> pa.Array:
    return pa.array(values, pa.string() if values.dtype.hasobject else None)
