"""Record batches that another program hands over: their rows, and theirs with the outputs behind the kept columns."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa

from inferry.errors import InvalidRequest, NotSupported
from inferry.jobs.formats.arrow_reader import ArrowRows
from inferry.jobs.formats.arrow_writers import SEVERAL, ArrowWriter
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Block, Cursor, PredictedBlock
from inferry.jobs.formats.tables import to_block
from inferry.runtime.model import Model


class BatchRows(ArrowRows):
    """The rows of record batches of one schema."""

    def __init__(self, schema: pa.Schema, options: ReadOptions) -> None:
        """InvalidFile when the columns don't make the model's inputs."""
        self._schema = schema
        super().__init__(BytesIO(), "", options)

    def _opened(self) -> pa.Schema:
        return self._schema

    def plain(self, batch: pa.RecordBatch) -> pa.Table:
        """The batch with types that rows can be taken from."""
        return self._plain(pa.Table.from_batches([batch]))

    def block(self, table: pa.Table, start: int) -> Block:
        """All rows of a plain batch, which has `start` rows before it."""
        return to_block(table, self._assigned, self._options, Cursor(start, start), start + len(table))


class BatchWriter(ArrowWriter):
    """The kept columns, the outputs and, with `reason`, a column of that name that says why a row has none."""

    def __init__(self, model: Model, kept: Mapping[str, str], reader: BatchRows, reason: str) -> None:
        """`kept`: the columns to carry over by the names that they get. InvalidRequest where `reason` is one of them.

        NotSupported for outputs that a table can't hold.
        """
        super().__init__(model, (), False, {})
        self._columns, self._reason = kept, reason
        self._outputs = self._nothing().schema
        if reason in (*kept, *self._outputs.names):
            raise InvalidRequest(f"the column of errors can't be '{reason}', which the results have already")
        fields = [*((name, reader.kept[column]) for name, column in kept.items()), *self._outputs]
        self.schema = pa.schema(fields + [(reason, pa.string())] * bool(reason))
        """Of all results, whatever the rows."""

    def rows(self, table: pa.Table, predicted: PredictedBlock) -> pa.RecordBatch:
        """Every row of the block's `table`, in order; one without a result has nulls for it. NotSupported."""
        columns: list[Any] = [table.column(column).combine_chunks() for column in self._columns.values()]
        outputs = self.encode(predicted) or self._no_outputs()
        if outputs.schema != self._outputs:
            raise NotSupported(SEVERAL)
        if len(outputs) < len(table):
            places = np.zeros(len(table), np.int64)
            good = predicted.block.rows[predicted.positions] - predicted.block.start.row - 1
            places[good] = np.arange(len(good))
            missing = np.ones(len(table), bool)
            missing[good] = False
            outputs = outputs.take(pa.array(places, mask=missing))
        columns += outputs.columns
        if self._reason:
            reasons: list[str | None] = [None] * len(table)
            for rejected in predicted.rejected:
                at = rejected.row - predicted.block.start.row - 1
                reasons[at] = f"column '{rejected.column}': {rejected.reason}" if rejected.column else rejected.reason
            columns.append(pa.array(reasons, pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _no_outputs(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in self._outputs], schema=self._outputs)


def as_table(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """The batches as one table, which has its columns without any too."""
    return pa.Table.from_batches(batches, schema)
