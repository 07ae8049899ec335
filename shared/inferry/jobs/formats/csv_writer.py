"""The outputs as CSV and TSV: the columns that are kept, and behind them those of the outputs."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as arrow_csv

from inferry.errors import NotSupported
from inferry.jobs.formats.blocks import PredictedBlock, Values, other_shape
from inferry.jobs.formats.kept_columns import text, text_type, to_text
from inferry.jobs.formats.table_writer import TableWriter, is_single, no_rows
from inferry.jobs.formats.texts import Texts, of_numbers
from inferry.jobs.formats.texts import lines as text_lines
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import Array, readable
from inferry.runtime.model import Model


class CsvWriter(TableWriter):
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
        return spec.is_fixed and (is_single(spec) or spec.name in self._wide)

    def _cells(self, values: Values, spec: TensorSpec) -> dict[str, pa.Array]:
        """An output as columns of text or numbers, by their names."""
        if not self._has_columns(spec):
            texts = [_cell(readable(np.asarray(row), spec.datatype)) for row in values]
            return {spec.name: pa.array(texts, pa.string())}
        if not isinstance(values, np.ndarray):
            raise NotSupported(other_shape(values[0], spec, "jsonl or parquet"))
        flat = _flat(values, spec)
        if is_single(spec):
            return {spec.name: _column(flat[:, 0])}
        return {name: _column(flat[:, index]) for index, name in enumerate(_parts(spec))}

    def seal(self, blocks: Sequence[bytes]) -> Sequence[bytes]:
        """A part of the file: the lines of its blocks."""
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
            names += self._cells(no_rows(spec), spec)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n", delimiter=self._delimiter).writerow(names)
        return text.getvalue().encode()


class TsvWriter(CsvWriter):
    """As `CsvWriter`, with tabs between the cells."""

    _format = "tsv"
    _delimiter = "\t"


def _cells_of_numbers(values: Array) -> list[bytes]:
    """The cells of each row, behind each other with commas."""
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


def _cell(row: Array) -> str:
    """A row as JSON in a cell: numbers with their own digits."""
    value = row.tolist() if row.dtype.hasobject else np.ascontiguousarray(row)
    return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode() if row.ndim else str(row[()])


def _parts(spec: TensorSpec) -> list[str]:
    """The columns of CSV that an output of several values has."""
    if not spec.is_fixed or is_single(spec):
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
