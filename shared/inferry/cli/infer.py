"""Files of rows for `inferry infer`: NPY, JSON and CSV in, a JSON line per row out."""

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from inferry.errors import InvalidRequest
from inferry.protocol import decoder, npy
from inferry.protocol.json_documents import load
from inferry.protocol.json_tensors import Nesting, to_array
from inferry.protocol.signature import TensorSpec, fits
from inferry.protocol.tensors import Shape, Tensor
from inferry.protocol.types import InferRequest
from inferry.runtime import columns, rows
from inferry.runtime.columns import Assigned
from inferry.runtime.model import Model
from inferry.runtime.verdicts import NONE
from inferry.service import Service
from inferry.settings import Settings


async def predict(
    settings: Settings, name: str, version: str | None, source: str, header: bool | None = None
) -> list[str]:
    """The predictions for the rows in `source` (a path, or - for JSON on stdin), one JSON object per row.

    `header`: whether the first line of CSV names the columns, where the user says it.
    InvalidRequest when the file can't be read or doesn't fit the model.
    """
    service = Service.from_settings(settings)
    try:
        model = await service.model(service.default_model(name or None), version)
        request = read_request(source, model, header)
        count = _rows(request, model)
        if count:
            responses = await service.infer_rows(model, request, count)
            outputs = model.row_proof.verdict.outputs
        else:
            responses, count, outputs = [await service.infer(model, request)], 1, frozenset[str]()
    finally:
        service.close()
    return [
        orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        for row in rows.from_responses(responses, count, outputs)
    ]


def _rows(request: InferRequest, model: Model) -> int:
    """How many rows a request has; 0 for a whole one, with a state, say, which has none to split."""
    if model.row_proof.verdict.rows == NONE or not request.inputs.keys() <= model.session.signature.inputs.keys():
        return 0
    lengths = {tensor.array.shape[:1] or (1,) for tensor in request.inputs.values()}
    return int(lengths.pop()[0]) if len(lengths) == 1 else 0


def read_request(source: str, model: Model, header: bool | None) -> InferRequest:
    if source == "-":
        return _from_json(sys.stdin.buffer.read(), model)
    path = Path(source)
    readers: dict[str, Callable[[Path, Model], InferRequest]] = {
        ".npy": _from_npy,
        ".json": lambda p, m: _from_json(p.read_bytes(), m),
        ".csv": lambda p, m: _from_csv(p, m, header),
    }
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
    array = npy.read_array(path.read_bytes(), str(path))
    required = sorted(model.session.signature.required)
    if len(required) != 1:
        raise InvalidRequest(f"model '{model.name}' takes {len(required)} inputs; give them as JSON or CSV")
    spec = model.session.signature.inputs[required[0]]
    if array.dtype.kind not in "biufU":
        raise InvalidRequest(f"{path} holds {array.dtype}, but model '{model.name}' expects {spec.datatype.name}")
    shape = _rows_of(array.shape, spec)
    what = f"input '{spec.name}' for model '{model.name}'"
    # The values are checked as those of JSON are: none is wrapped or cut to make it fit.
    values = to_array(array.reshape(-1).tolist(), spec.datatype, shape, Nesting(), what)
    return InferRequest({spec.name: Tensor(spec.name, spec.datatype, values)})


def _rows_of(shape: Shape, spec: TensorSpec) -> Shape:
    """The input's shape for an array: of rows, or one row. Of what fits neither way the signature says why."""
    if spec.shape is None:
        return shape
    if len(shape) == len(spec.shape) - 1 and fits(shape, spec.row):
        return (1, *shape)
    row = spec.fitted(shape[1:]) if shape else None
    return shape if row is None else (shape[0], *row)


def _from_json(text: bytes, model: Model) -> InferRequest:
    """A protocol request, {"features": ...}, {"instances": [...]}, or rows by themselves."""
    value = load(text)
    if isinstance(value, dict) and "inputs" in value:
        return decoder.decode(text, None, model.session.signature.known[True])
    if isinstance(value, dict):
        value = value.get("features", value.get("instances", value))
    return rows.to_request(rows.as_rows(value, model), model)


def _from_csv(path: Path, model: Model, header: bool | None) -> InferRequest:
    """A row per line, as a job reads it."""
    file = str(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            lines = list(_cells(csv.reader(text, strict=True), path))
    except (csv.Error, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{path} is not a CSV file in UTF-8: {exc}") from exc
    if not lines:
        raise InvalidRequest(f"{path} is empty; its first line must name the columns")
    first = lines[0]
    if columns.is_header(first, header, file):
        names, lines = first, lines[1:]
    else:
        names = columns.by_position(len(first), model, (), file)
    assigned = columns.assign(names, model, (), file)
    found = [dict(zip(names, line, strict=True)) for line in lines]
    return rows.to_request([{item.spec.name: _value(row, item, path) for item in assigned} for row in found], model)


def _cells(reader: Any, path: Path) -> Iterator[list[str]]:
    """The cells of each line: an empty one is a row in a file of one column alone."""
    width = 0
    for number, line in enumerate(reader, 1):
        width = width or max(len(line), 1)
        cells = line or ([""] if width == 1 else [])
        if cells and len(cells) != width:
            raise InvalidRequest(f"line {number} of {path} has {len(cells)} cells, its header {width}")
        if cells:
            yield cells


def _value(row: dict[str, str], item: Assigned, path: Path) -> Any:
    values = []
    for name in item.columns:
        try:
            values.append(rows.from_cell(row[name], item))
        except InvalidRequest as exc:
            raise InvalidRequest(
                f"{path} holds {row[name][:40]!r} where {item.spec.datatype.name} is expected for '{item.spec.name}'"
            ) from exc
    return values[0] if item.columns == (item.spec.name,) else values
