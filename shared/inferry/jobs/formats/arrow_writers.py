"""The outputs as Parquet, Feather and ORC: the columns that are kept, and behind them those of the outputs."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, groupby
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inferry.errors import NotSupported
from inferry.jobs.formats.blocks import PredictedBlock, Values, other_shape
from inferry.jobs.formats.kept_columns import (
    CELLS,
    check_parquet,
    converted,
    of_cells,
    unified,
)
from inferry.jobs.formats.table_writer import TableWriter, is_single, no_rows
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import readable
from inferry.runtime.model import Model

SEVERAL = (
    "an output has rows that share no type of Parquet, single values and lists, or lists of other depths: write jsonl"
)


class ParquetWriter(TableWriter):
    """Outputs with several values in a row are columns of lists. A part is a stream of Arrow's IPC, not yet Parquet."""

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
        """The rows of a block as a record batch; None for a block without any."""
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
                    raise NotSupported(SEVERAL)
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
            raise NotSupported(SEVERAL) from exc

    def _nothing(self) -> pa.Table:
        """The table of a file without rows, which has its columns all the same."""
        columns = {name: pa.array([], self._kept_types.get(name, pa.string())) for name in self._keep}
        return pa.table(columns | {name: _lists(no_rows(spec), spec) for name, spec in self._specs.items()})


class ArrowWriter(ParquetWriter):
    """As `ParquetWriter`, to a Feather file (Arrow's IPC), which can hold every type."""

    _format = "feather"

    def _check(self) -> None:
        pass

    @contextmanager
    def _writer(self, target: BinaryIO, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
        with pa.ipc.new_file(target, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            yield writer.write_table


class OrcWriter(ParquetWriter):
    """As `ParquetWriter`, to ORC."""

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


def _lists(values: Values, spec: TensorSpec) -> pa.Array:
    """An output as a column: of plain values, or of lists as deep as its rows.

    NotSupported for rows that are deeper, or less deep, than the model declares, or where it declares none than others.
    """
    if not isinstance(values, np.ndarray):
        if len(ranks := {np.ndim(row) for row in values}) > 1:
            raise NotSupported(
                f"rows of output '{spec.name}' have {' and '.join(map(str, sorted(ranks)))} axes; {SEVERAL}"
            )
        return pa.concat_arrays([_lists(row[np.newaxis], spec) for row in values])
    if spec.shape and (values.ndim != len(spec.shape) or (is_single(spec) and values[:1].size > 1)):
        raise NotSupported(other_shape(values, spec, "jsonl"))
    values = readable(values, spec.datatype)
    if spec.row and is_single(spec):
        values = values.reshape(len(values))
    column = pa.array(values.reshape(-1), pa.string() if values.dtype.hasobject else None)
    for axis in range(values.ndim - 1, 0, -1):
        width, count = values.shape[axis], math.prod(values.shape[:axis])
        column = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * width, column)
    return column
