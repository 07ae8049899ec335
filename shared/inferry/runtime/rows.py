"""Rows of plain values, as people write them, to an inference request, and its response back to rows."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.protocol.json_documents import load
from inferry.protocol.json_tensors import Nesting, to_array
from inferry.protocol.signature import TensorSpec, fits
from inferry.protocol.tensors import Array, Datatype, Shape, Tensor, aligned, joined, readable, to_list
from inferry.protocol.types import InferRequest, InferResponse
from inferry.runtime import columns as naming
from inferry.runtime.columns import NULLS, Assigned, TakesRows

if TYPE_CHECKING:
    from inferry.runtime.preprocess import Preprocess

# Responses at a time that become one.
_TOGETHER = 1024

_BOOLS = {"true": True, "false": False, "1": True, "0": False}
_WORDS = ("true", "false")
# What a program with floats alone may write for an integer.
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")


def to_request(rows: Sequence[Any], model: TakesRows) -> InferRequest:
    """One request for `rows`: each the values of the model's input, a list of its columns, or an object of named ones.

    Values may be flat or nested as the input's shape without its first axis, or images as `tensor` has them.
    InvalidRequest names what doesn't fit.
    """
    if not rows:
        raise InvalidRequest(f"there are no rows for model '{model.name}'")
    inputs = model.signature.inputs
    named = columns(rows, model)
    return InferRequest(
        {name: tensor(inputs[name], values, model.name, model.preprocess.get(name)) for name, values in named.items()}
    )


def as_rows(features: Any, model: TakesRows) -> list[Any]:
    """`features`, one row or a list of rows, as a list of rows: a row is as long as the model's input says."""
    if not isinstance(features, list):
        return [features]
    if not features or isinstance(features[0], dict):
        return features
    required = model.signature.required
    if len(required) != 1:
        return features if isinstance(features[0], list) else [features]
    name = next(iter(required))
    if isinstance(features[0], str) and name in model.preprocess:  # images in base64
        return features
    row = model.signature.inputs[name].row
    shape = _shape_of(features)
    if len(shape) == 1:
        return features if row is not None and math.prod(row) == 1 else [features]
    return [features] if row is not None and len(row) > 1 and fits(shape, row) else features


def from_text(cell: str, datatype: Datatype) -> Any:
    """The value that a cell of a table is. InvalidRequest when the datatype has no such value."""
    if datatype.kind == "string":
        return cell
    if datatype.kind == "bool" and cell.lower() in _BOOLS:
        return _BOOLS[cell.lower()]
    if datatype.is_number and cell.lower() in _WORDS:
        return int(_BOOLS[cell.lower()])
    if datatype.is_integer and _FLOAT.fullmatch(cell):
        from decimal import Decimal  # for few: servers don't need it

        if (whole := Decimal(cell)) != whole.to_integral_value():
            raise InvalidRequest(f"{cell[:40]} is no whole number, as {datatype.name} is")
        return int(whole)
    try:
        # Python's own numbers may have underscores in them.
        number = float(cell.replace("_", "?")) if datatype.is_float else int(cell.replace("_", "?"))
    except ValueError as exc:
        raise InvalidRequest(f"{cell[:40]!r} is found where {datatype.name} is expected") from exc
    if number in (math.inf, -math.inf) and any(character.isdigit() for character in cell):
        raise InvalidRequest(f"{cell[:40]} is out of range for {datatype.name}; infinity is written inf")
    return number


def from_cell(cell: str, item: Assigned) -> Any:
    """The value that a cell of CSV is to an input, None for a missing float. InvalidRequest when it can't be one."""
    datatype = item.spec.datatype
    if item.is_array:
        try:
            return load(cell.encode())
        except InvalidRequest as exc:
            raise InvalidRequest(f"{cell[:40]!r} is not a JSON array of {datatype.name}") from exc
    if cell.strip() in NULLS and not datatype.dtype.hasobject:
        if datatype.is_float:
            return None
        raise InvalidRequest("the value is missing")
    return from_text(cell, datatype)


def split(request: InferRequest, model: TakesRows, count: int) -> Iterator[InferRequest]:
    """A request for each of the `count` rows of one that `to_request` made."""
    specs = model.signature.inputs
    for row in range(count):
        inputs = {}
        for name, tensor in request.inputs.items():
            array = tensor.array[row : row + 1] if tensor.array.ndim else tensor.array
            array = aligned(array.reshape(()) if specs[name].shape == () else array)
            inputs[name] = Tensor(name, tensor.datatype, array)
        yield InferRequest(inputs)


class Gathered:
    """Responses to one row each, which become one to all as they come, where that has the same values: a response to a
    row takes a hundred times the memory of a number.
    """

    def __init__(self, outputs: frozenset[str]) -> None:
        """`outputs`: those that have a row per row."""
        self._outputs = outputs
        self._single: list[InferResponse] = []
        self._joined: list[InferResponse] = []

    def add(self, response: InferResponse) -> None:
        """Adds the response to the next row."""
        self._single.append(response)
        if len(self._single) == _TOGETHER:
            self._join()

    def all(self) -> list[InferResponse]:
        """The responses: a single one to all rows, or one to each."""
        if not self._joined:
            return self._single
        self._join()
        if self._single:  # differ from the others, or from each other
            return [*(part for response in self._joined for part in _apart(response)), *self._single]
        return [_as_one(self._joined)]

    def _join(self) -> None:
        shapes = [[tensor.array.shape for tensor in response.outputs] for response in self._single]
        first = self._joined[0] if self._joined else None
        alike = bool(shapes) and all(shape == shapes[0] for shape in shapes) and all(s[:1] == (1,) for s in shapes[0])
        if first is not None:
            alike = alike and [s[1:] for s in shapes[0]] == [tensor.array.shape[1:] for tensor in first.outputs]
        if alike and {tensor.name for tensor in self._single[0].outputs} <= self._outputs:
            self._joined.append(_as_one(self._single))
            self._single = []


def _as_one(responses: Sequence[InferResponse]) -> InferResponse:
    first = responses[0]
    whole = joined([{tensor.name: tensor.array for tensor in response.outputs} for response in responses])
    outputs = [Tensor(tensor.name, tensor.datatype, whole[tensor.name]) for tensor in first.outputs]
    return InferResponse(first.model_name, first.model_version, outputs)


def _apart(response: InferResponse) -> Iterator[InferResponse]:
    for row in range(len(response.outputs[0].array)):
        outputs = [Tensor(tensor.name, tensor.datatype, tensor.array[row : row + 1]) for tensor in response.outputs]
        yield InferResponse(response.model_name, response.model_version, outputs)


def from_responses(responses: Sequence[InferResponse], count: int, outputs: frozenset[str]) -> list[dict[str, Any]]:
    """One object of output names and values per row, of one response to all rows or of one to each.

    `outputs` have a row per row; of the others, a row's response has the row's whole.
    """
    if len(responses) == count:
        return [
            {tensor.name: _plain(_single(_own(_values(tensor), tensor.name in outputs))) for tensor in response.outputs}
            for response in responses
        ]
    values = {tensor.name: _values(tensor) for tensor in responses[0].outputs}
    return [{name: _plain(_single(array[index])) for name, array in values.items()} for index in range(count)]


def _own(array: Array, has_rows: bool) -> Any:
    return array[0] if has_rows and array.shape[:1] == (1,) else array


def _values(tensor: Tensor) -> Array:
    """The tensor in a form that orjson writes: FP32 with its own digits, not those of the double beside it."""
    if tensor.datatype.dtype.hasobject:
        to_list(tensor)  # text that JSON can't hold is an error with a reason
    return readable(tensor.array, tensor.datatype)


def _single(value: Any) -> Any:
    return value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        return value.tolist() if value.dtype.hasobject else np.ascontiguousarray(value)
    if isinstance(value, np.ndarray):
        value = value[()]
    # ONNX Runtime's int64 is NumPy's longlong, which orjson knows only in arrays.
    return value.item() if isinstance(value, np.integer) else value


def columns(rows: Sequence[Any], model: TakesRows) -> Mapping[str, list[Any]]:
    """The values of each input, row by row. InvalidRequest when a row has too few or too many, or others' names."""
    inputs, named = model.signature.inputs, _columns(rows, model)
    unknown = [name for name in named if name not in inputs]
    if unknown:
        raise InvalidRequest(f"unknown column '{unknown[0]}'; model '{model.name}' takes {', '.join(inputs)}")
    return named


def _columns(rows: Sequence[Any], model: TakesRows) -> Mapping[str, list[Any]]:
    if isinstance(rows[0], dict):
        return _named_columns(rows, model)
    required = naming.required(model)
    if len(required) == 1:
        return {required[0].name: list(rows)}
    names = naming.names(model)
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            got = f"{len(row)} values" if isinstance(row, list) else "a single value"
            raise InvalidRequest(
                f"row {number} for model '{model.name}' must hold {len(names)} values ({', '.join(names)}), got {got}"
            )
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _named_columns(rows: Sequence[Any], model: TakesRows) -> Mapping[str, list[Any]]:
    members = rows[0].keys()
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != members:
            raise InvalidRequest(f"row {number} must be an object with the members of the first: {', '.join(members)}")
    inputs = model.signature.inputs
    names = [name for name in members if not _is_left_out(name, rows, inputs)]
    listed = naming.listed(model, names)
    if not listed:
        return {name: [row[name] for row in rows] for name in names}
    others = [name for name in names if name not in listed]
    if not {*listed} <= {*names} or not inputs.keys() >= {*others}:
        raise InvalidRequest(
            f"each row for model '{model.name}' must name its values {naming.some(listed)}, got {naming.some([*names])}"
        )
    values = {name: [row[name] for row in rows] for name in others}
    return {naming.required(model)[0].name: [[row[name] for name in listed] for row in rows]} | values


def _is_left_out(name: str, rows: Sequence[Any], inputs: Mapping[str, TensorSpec]) -> bool:
    """Whether an optional input is null in all rows. InvalidRequest when it is in some: they need runs of two kinds."""
    if name not in inputs or not inputs[name].optional:
        return False
    nulls = [row[name] is None for row in rows]
    if any(nulls) and not all(nulls):
        raise InvalidRequest(
            f"the optional input '{name}' is null in row {nulls.index(True)} and given in row {nulls.index(False)}: "
            "send rows with it and rows without it in two requests"
        )
    return nulls[0]


def tensor(spec: TensorSpec, values: list[Any], model: str, how: "Preprocess | None" = None) -> Tensor:
    """The input `spec` with a value for each row, flat or nested. InvalidRequest when they don't fit it.

    `how`: says how values are read that are images: bytes of JPEG and PNG files, or texts with them in base64.
    """
    what = f"input '{spec.name}' for model '{model}'"
    if how is not None and isinstance(values[0], bytes | str):
        from inferry.runtime import images

        return Tensor(spec.name, spec.datatype, images.rows(values, how, spec, what))
    if isinstance(values[0], bytes):
        raise InvalidRequest(f"{what} takes no images: the model's config.json has no 'preprocess' for it")
    shape = _shape_of(values)
    array = to_array(values, spec.datatype, shape, Nesting(), what)
    return Tensor(spec.name, spec.datatype, array.reshape(_fitted(shape, spec, what)))


def _fitted(shape: Shape, spec: TensorSpec, what: str) -> Shape:
    """The input's shape for rows of this nesting."""
    if spec.shape == () and shape == (1,):
        return ()
    row = spec.fitted(shape[1:])
    if row is None:
        raise InvalidRequest(f"each row of {what} must have {spec.rows}, got {list(shape[1:])}")
    return (shape[0], *row)


def _shape_of(values: Any) -> Shape:
    """The shape that the first elements suggest; `to_array` proves it."""
    shape: list[int] = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return tuple(shape)
