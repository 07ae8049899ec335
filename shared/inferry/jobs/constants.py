"""Inputs that have one value for all rows of a job: the model as it is with these, which takes the others only."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from inferry.errors import InvalidRequest
from inferry.jobs.formats.casting import cast
from inferry.protocol.signature import Feed, Signature, TensorSpec, unexpected
from inferry.protocol.tensors import Array, Shape, aligned, empty
from inferry.runtime.cancellation import Cancellation
from inferry.runtime.model import Model
from inferry.runtime.row_proof import RowProof
from inferry.runtime.session import Session


class BoundSession(Session):
    """A session whose signature leaves out the inputs that it adds to each run itself."""

    def __init__(self, session: Session, constants: Feed) -> None:
        """A constant of an input whose first axis is of any length is a row's value, of others all of the input."""
        self.__dict__.update(session.__dict__)
        whole = session.signature
        inputs = {name: spec for name, spec in whole.inputs.items() if name not in constants}
        self.signature = Signature(whole.model, inputs, whole.outputs, whole.max_batch_size)
        self._of_rows = {name: array for name, array in constants.items() if _has_rows(whole.inputs[name])}
        self._of_runs = {name: array for name, array in constants.items() if name not in self._of_rows}

    def run(
        self, feed: Feed, outputs: Sequence[str], deadline: float, cancellation: Cancellation | None = None
    ) -> list[Array]:
        """As that of the session, whose other inputs are in `feed`."""
        first = next(iter(feed.values()))
        rows = len(first) if first.ndim else 1
        repeated = {name: _repeated(array, rows) for name, array in self._of_rows.items()}
        return super().run(feed | repeated | self._of_runs, outputs, deadline, cancellation)


def bind(model: Model, given: Sequence[str]) -> Model:
    """The model with constants, NAME=VALUE with a value of JSON each; itself without any. InvalidRequest.

    Its rows have to prove anew that they may run together: with other constants they may not.
    """
    if not given:
        return model
    constants: Feed = {}
    for item in given:
        name, is_pair, text = item.partition("=")
        if not is_pair:
            raise InvalidRequest(f"--set takes NAME=VALUE, got {item[:40]!r}")
        if name in constants:
            raise InvalidRequest(f"--set gives input '{name}' twice")
        if name not in model.signature.inputs:
            raise unexpected("input", name, model.name, model.signature.inputs)
        constants[name] = _constant(text, model.signature.inputs[name], model.name)
    if model.signature.required <= constants.keys():
        raise InvalidRequest(f"--set leaves no input of model '{model.name}' that rows could give")
    session = BoundSession(model.session, constants)
    dynamic = session.file.numerics.dynamic
    proof = RowProof(session, model.digest, model.config.rows == "joined", dynamic=dynamic)
    return replace(model, session=session, row_proof=proof, warm_run=None)


def names(given: Sequence[str]) -> list[str]:
    """The inputs that are given."""
    return [item.partition("=")[0] for item in given]


def _has_rows(spec: TensorSpec) -> bool:
    return bool(spec.shape) and spec.shape is not None and spec.shape[0] == -1


def _repeated(row: Array, rows: int) -> Array:
    array = empty((rows, *row.shape), row.dtype)
    array[:] = row
    return array


def _constant(text: str, spec: TensorSpec, model: str) -> Array:
    """The value of an input, or that of each row of one. InvalidRequest when it isn't one exactly."""
    what = f"--set {spec.name} of model '{model}'"
    values = _parsed(text, spec, what)
    found, lost = cast(values, spec.datatype, what)
    if lost is not None:
        raise InvalidRequest(f"{what}: {text[:40]} is out of range for {spec.datatype.name}")
    shape = spec.fitted(found.shape) if _has_rows(spec) else _whole(spec, found)
    if shape is None:
        wanted = f"rows have {spec.rows}" if _has_rows(spec) else f"the input has the shape {spec.stated}"
        raise InvalidRequest(f"{what} has the shape {list(found.shape)}, but {wanted}")
    return aligned(found.reshape(shape))


def _whole(spec: TensorSpec, values: Array) -> Shape | None:
    """The shape of all of an input that has no rows: a single value may stand for one of one value."""
    if spec.shape is None or spec.shape == values.shape:
        return tuple(values.shape)
    return spec.shape if values.size == 1 and all(length == 1 for length in spec.shape) else None


def _parsed(text: str, spec: TensorSpec, what: str) -> Array:
    value: Any = text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        if spec.datatype.kind != "string":
            raise InvalidRequest(f"{what} is {text[:40]!r}, but {spec.datatype.name} in JSON is expected") from exc
    if spec.datatype.kind == "string" and not isinstance(value, str | list):
        value = text
    try:
        array = np.array(value, object if spec.datatype.kind == "string" else None)
    except ValueError as exc:
        raise InvalidRequest(f"{what}: the lists in it have different lengths") from exc
    if spec.datatype.kind == "string" and not all(isinstance(each, str) for each in array.reshape(-1).tolist()):
        raise InvalidRequest(f"{what} is {text[:40]!r}, but only texts are expected")
    return array
