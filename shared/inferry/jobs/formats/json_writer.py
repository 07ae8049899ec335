"""The outputs as JSON Lines: an object of the kept columns and the outputs for each row, or a response."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import orjson

from inferry.errors import NotSupported
from inferry.jobs.formats.blocks import PredictedBlock
from inferry.jobs.formats.texts import Texts, lines, of_numbers, of_plain, of_values
from inferry.protocol import classification, text_bodies, types
from inferry.protocol.tensors import Array, Datatype, Tensor, readable
from inferry.protocol.types import InferResponse
from inferry.runtime.model import Model


class JsonLinesWriter:
    """Writes the outputs of `model`; to requests of the protocol, responses."""

    def __init__(self, model: Model, keep: Sequence[str], requests: bool, kept: Mapping[str, Any]) -> None:
        """NotSupported for columns to keep that JSON can't hold."""
        self._model = model
        self._specs = model.session.signature.outputs
        self._keep = keep
        self._cells = {name for name, held in kept.items() if isinstance(held, str)}
        self._types = {name: _checked(name, held) for name, held in kept.items() if name not in self._cells}
        self._encode = self._responses if requests else self._rows

    def encode(self, predicted: PredictedBlock) -> bytes:
        """The lines of a block's rows."""
        return self._encode(predicted) if len(predicted.positions) else b""

    def seal(self, blocks: Sequence[bytes]) -> Sequence[bytes]:
        """A part of the file: the lines of its blocks."""
        return blocks

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """Writes the lines of all parts."""
        for part in parts:
            target.write(part)

    def header(self) -> bytes:
        """Nothing: there is no line of names."""
        return b""

    def _rows(self, predicted: PredictedBlock) -> bytes:
        kept = {name: _chosen(predicted.block.kept[name], self._types.get(name), predicted) for name in self._keep}
        columns = {name: self._texts(name, values) for name, values in kept.items()}
        for name, values in predicted.outputs.items():
            columns[name] = _output_texts(values, self._specs[name].datatype)
        first, *others = (orjson.dumps(name) + b":" for name in columns)
        return lines(b"{" + first, list(columns.values()), [b"," + name for name in others], b"}\n")

    def _texts(self, name: str, values: Sequence[Any]) -> Texts:
        if name not in self._cells:
            return of_plain(values)
        from inferry.jobs.formats.kept_columns import json_of_cell

        return Texts(list(map(json_of_cell, values)))

    def _responses(self, predicted: PredictedBlock) -> bytes:
        requests = predicted.block.requests
        found = zip(predicted.positions.tolist(), predicted.outputs[""], strict=True)
        return b"".join([self._response(requests[position], arrays) for position, arrays in found])

    def _response(self, request: types.InferRequest, arrays: Sequence[Array]) -> bytes:
        requested = self._model.session.signature.requested(request)
        found = dict(zip(self._specs, arrays, strict=True))
        tensors = [self._tensor(name, found[name], requested.classes.get(name, 0)) for name in requested.names]
        response = InferResponse(self._model.name, self._model.version, tensors, requested.binary, request.id)
        return text_bodies.of_response(response) + b"\n"

    def _tensor(self, name: str, array: Array, classes: int) -> Tensor:
        tensor = Tensor(name, self._specs[name].datatype, array)
        if not classes:
            return tensor
        batched = self._model.session.signature.max_batch_size > 0
        return classification.top(tensor, classes, batched, self._model.labels(name))


def _checked(name: str, held: Any) -> Any:
    """The type that a column of Arrow's becomes; NumPy's numbers and texts are JSON's."""
    if not isinstance(held, np.dtype):
        from inferry.jobs.formats.kept_columns import text_type

        return text_type(held, name, "jsonl")
    base = held.base
    if base.kind not in "biufU" or (base.kind != "U" and base.itemsize > 8):
        raise NotSupported(f"the column '{name}' holds {base}, which jsonl has no form for: save it as numbers or text")
    return None


def _chosen(values: Any, held: Any, predicted: PredictedBlock) -> Sequence[Any]:
    """A kept column's values in the rows that have outputs, as Python objects."""
    plain: Sequence[Any] = values
    if isinstance(values, np.ndarray):
        plain = values.tolist()
    elif hasattr(values, "to_pylist"):
        from inferry.jobs.formats.kept_columns import to_array, to_text

        plain = to_text(to_array(values), held or values.type).to_pylist()
    return plain if len(predicted.positions) == len(plain) else [plain[at] for at in predicted.positions.tolist()]


def _output_texts(values: Any, datatype: Datatype) -> Texts:
    """An output's rows as JSON; a row of a single value is that value."""
    if not isinstance(values, np.ndarray):
        rows = (_output_texts(row[np.newaxis], datatype) for row in values)
        return Texts([before + text + behind for texts, before, behind in rows for text in texts])
    values = readable(values, datatype)
    if values.ndim > 1 and values[:1].size == 1:
        values = values.reshape(-1)
    if values.dtype.hasobject:
        return of_plain(values.tolist())
    if values.ndim > 2 or not values.size:
        return Texts(of_values(map(np.ascontiguousarray, values)))
    return of_numbers(values)
