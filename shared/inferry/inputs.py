"""Files of rows for `inferry infer`: NPY, JSON and CSV in, a JSON line per row out."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from inferry import protocol, rows
from inferry.document import load
from inferry.errors import InvalidRequest
from inferry.jsontensors import Nesting, to_array
from inferry.model import Model
from inferry.protocol import InferRequest
from inferry.service import Service
from inferry.settings import Settings
from inferry.signature import TensorSpec
from inferry.tensors import Tensor
from inferry.verdicts import NONE


async def predict(settings: Settings, name: str, version: str | None, source: str) -> list[str]:
    """The predictions for the rows in `source` (a path, or - for JSON on stdin), one JSON object per row.

    InvalidRequest when the file can't be read or doesn't fit the model.
    """
    service = Service.from_settings(settings)
    try:
        model = await service.model(service.default_model(name or None), version)
        request = _request(source, model)
        if _has_rows(request, model):
            responses = await service.infer_rows(model, request)
            count, outputs = request.batch_size, model.row_proof.verdict.outputs
        else:
            responses, count, outputs = [await service.infer(model, request)], 1, frozenset[str]()
    finally:
        service.close()
    return [
        orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        for row in rows.from_responses(responses, count, outputs)
    ]


def _has_rows(request: InferRequest, model: Model) -> bool:
    """Whether a request is one of rows; a whole one, with a state, say, has none to split."""
    lengths = {tensor.array.shape[:1] for tensor in request.inputs.values()}
    return len(lengths) == 1 and model.row_proof.verdict.rows != NONE


def _request(source: str, model: Model) -> InferRequest:
    if source == "-":
        return _from_json(sys.stdin.buffer.read(), model)
    path = Path(source)
    readers = {".npy": _from_npy, ".json": lambda p, m: _from_json(p.read_bytes(), m), ".csv": _from_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidRequest(
            f"can't tell the format of {source}: give a .npy, .json or .csv file, or - for JSON on stdin"
        )
    try:
        return reader(path, model)
    except OSError as exc:
        raise InvalidRequest(f"can't read {source}: {exc.strerror or exc}") from exc


def _from_npy(path: Path, model: Model) -> InferRequest:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as exc:
        raise InvalidRequest(f"{path} is not an NPY file of plain values: {exc}") from exc
    required = sorted(model.session.signature.required)
    if len(required) != 1:
        raise InvalidRequest(f"model '{model.name}' takes {len(required)} inputs; give them as JSON or CSV")
    spec = model.session.signature.inputs[required[0]]
    if array.dtype.kind not in "biufU":
        raise InvalidRequest(f"{path} holds {array.dtype}, but model '{model.name}' expects {spec.datatype.name}")
    shape = (1, *array.shape) if array.ndim == len(spec.shape) - 1 else array.shape
    what = f"input '{spec.name}' for model '{model.name}'"
    # The values are checked as those of JSON are: none is wrapped or cut to make it fit.
    values = to_array(array.reshape(-1).tolist(), spec.datatype, shape, Nesting(), what)
    return InferRequest({spec.name: Tensor(spec.name, spec.datatype, values)})


def _from_json(text: bytes, model: Model) -> InferRequest:
    """A protocol request, {"features": ...}, {"instances": [...]}, or rows by themselves."""
    value = load(text)
    if isinstance(value, dict) and "inputs" in value:
        return protocol.decode(text, None, model.name)
    if isinstance(value, dict):
        value = value.get("features", value.get("instances", value))
    return rows.to_request(rows.as_rows(value, model), model)


def _from_csv(path: Path, model: Model) -> InferRequest:
    """A header line, then a row per line: named inputs by their columns, else all columns as one row of values."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header is None:
                raise InvalidRequest(f"{path} is empty; its first line must name the columns")
            lines = list(_cells(reader, len(header), path))
    except (csv.Error, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{path} is not a CSV file in UTF-8: {exc}") from exc
    inputs = model.session.signature.inputs
    if set(header) <= inputs.keys():
        named = [dict(zip(header, line, strict=True)) for line in lines]
        return rows.to_request([{n: _value(v, inputs[n], path) for n, v in row.items()} for row in named], model)
    spec = next(iter(inputs.values()))
    return rows.to_request([[_value(cell, spec, path) for cell in line] for line in lines], model)


def _cells(reader: Any, width: int, path: Path) -> Iterator[list[str]]:
    for number, line in enumerate(reader, 2):
        if line and len(line) != width:
            raise InvalidRequest(f"line {number} of {path} has {len(line)} cells, its header {width}")
        if line:
            yield line


def _value(cell: str, spec: TensorSpec, path: Path) -> Any:
    try:
        return rows.from_text(cell, spec.datatype)
    except InvalidRequest as exc:
        raise InvalidRequest(
            f"{path} holds {cell[:40]!r} where {spec.datatype.name} is expected for '{spec.name}'"
        ) from exc
