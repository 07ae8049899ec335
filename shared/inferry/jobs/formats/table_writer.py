"""What writers of tables share: the model's outputs, and the kept columns as Arrow's arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from inferry.errors import NotSupported
from inferry.jobs.formats.blocks import PredictedBlock
from inferry.jobs.formats.kept_columns import known_type, to_array
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import Array
from inferry.runtime.model import Model


class TableWriter:
    """The base of writers of tables. `_format`, the format's name, is for messages about columns it can't hold."""

    _format: str

    def __init__(self, model: Model, keep: Sequence[str], requests: bool, kept: Mapping[str, Any]) -> None:
        """As `open_writer` has them. NotSupported for requests of the protocol."""
        if requests:
            raise NotSupported("responses to requests of the protocol can't be a table: write them as jsonl")
        self._model = model
        self._specs = model.row_outputs()
        self._keep = keep
        self._kept_types = {name: known_type(held, name, self._format) for name, held in kept.items()}

    def _kept(self, predicted: PredictedBlock) -> dict[str, pa.Array]:
        """The kept columns of those rows that have outputs."""
        columns = {}
        for name in self._keep:
            column = to_array(predicted.block.kept[name])
            some = len(column) != len(predicted.positions)
            columns[name] = column.take(pa.array(predicted.positions)) if some else column
        return columns


def no_rows(spec: TensorSpec) -> Array:
    """An output of no rows, whose other axes are as the model declares them; those of any length have none."""
    return np.empty((0, *(max(length, 0) for length in spec.row or ())), spec.datatype.dtype)


def is_single(spec: TensorSpec) -> bool:
    """Whether a row of this output is one value."""
    return spec.row is not None and all(length == 1 for length in spec.row)
