"""Rows that are read one by one, into a block: those that fit the model in groups of one shape, the others rejected."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson

from inferry.errors import InvalidRequest
from inferry.jobs.formats.blocks import Block, Cursor, Group, Pace, Rejected
from inferry.jobs.formats.lines import EXCERPT
from inferry.protocol.signature import TensorSpec, fits
from inferry.protocol.tensors import Array, Datatype, joined
from inferry.runtime import rows
from inferry.runtime.columns import Chosen, TakesRows, inputs_among
from inferry.runtime.model import Model

ALL = ("*",)
# The largest integer up to which floats have all.
EXACT = 1 << 53


class Dialect(NamedTuple):
    """How a CSV file is written, where it isn't as most are: one character each, and a text for missing values."""

    delimiter: str = ""
    decimal: str = ""
    quote: str = ""
    escape: str = ""
    null: str = ""

    def check(self) -> None:
        """InvalidRequest when an option is not one character, or two are the same."""
        for name, value in self._replace(null="")._asdict().items():
            if len(value) > 1 or not value.isascii() or {value} & {"\r", "\n", "\0"}:
                raise InvalidRequest(f"--{name} is one character of ASCII, got {value!r}")
        given = [value for value in self._replace(null="") if value]
        if len(set(given)) != len(given):
            raise InvalidRequest(f"--delimiter, --decimal, --quote and --escape must differ, got {' '.join(given)}")


USUAL = Dialect()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a reader must know: the model, the columns to carry over, how large blocks may be, the file's name.

    `header`: whether the first line of CSV names the columns, where the user has said it; `columns`: those of the
    model's only input, ALL for all that a file has; `apart`: those that are no inputs unless `columns` names them.
    """

    model: Model
    keep: tuple[str, ...]
    pace: Pace
    file: str
    header: bool | None = None
    columns: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    dialect: Dialect = USUAL

    def taking(self, found: Iterable[str]) -> TakesRows:
        """The model as the job's columns have it, of a file that has the columns `found`."""
        if not self.columns:
            return self.model
        chosen = self.columns
        if chosen == ALL:
            chosen = inputs_among(found, self.apart)
        return Chosen(self.model.name, self.model.signature, chosen, self.model.preprocess)


class BlockBuilder:
    """Makes a block of the rows behind `start`, which it is given one by one, in order."""

    def __init__(self, options: ReadOptions, start: Cursor) -> None:
        self._model = options.model
        self._keep = options.keep
        self._start = start
        self._numbers: list[int] = []
        self._raw: list[Any] = []
        self._kept: list[list[Any]] = [[] for _ in options.keep]
        self._rejected: list[Rejected] = []
        self._groups: dict[Any, tuple[list[int], list[Mapping[str, Array]]]] = {}

    def __len__(self) -> int:
        return len(self._numbers) + len(self._rejected)

    def add(self, values: Mapping[str, Any], raw: Any, kept: Sequence[Any]) -> None:
        """A row: for each input its value, plain or nested; `raw` is the row as the file has it."""
        arrays: dict[str, Array] = {}
        signature = self._model.session.signature
        for name in signature.required:
            if name not in values:
                self.reject(f"there is no value for input '{name}' of model '{self._model.name}'", raw, name)
                return
        for name, value in values.items():
            try:
                arrays[name] = self._array(signature.inputs[name], value)
            except InvalidRequest as exc:
                self.reject(str(exc), raw, name)
                return
        self.add_arrays(arrays, [raw], [[value] for value in kept])

    def _array(self, spec: TensorSpec, value: Any) -> Array:
        if value is None and (not spec.is_fixed or spec.fitted(()) is None):
            raise InvalidRequest("the value is missing")
        how = self._model.preprocess.get(spec.name)
        try:
            array = rows.tensor(spec, [value], self._model.name, how).array
        except InvalidRequest:
            other = _other(value, spec.datatype)
            if other == value and repr(other) == repr(value):
                raise
            array = rows.tensor(spec, [other], self._model.name).array
        if not fits(array.shape, spec.shape):
            raise InvalidRequest(
                f"each row of input '{spec.name}' for model '{self._model.name}' must have {spec.rows}, "
                f"got {list(array.shape[1:])}"
            )
        return array if array.ndim else array.reshape(1)  # rows of scalars lie behind each other too

    def add_arrays(self, arrays: Mapping[str, Array], raw: Sequence[Any], kept: Sequence[Sequence[Any]]) -> None:
        """Rows whose inputs are arrays of the model's datatypes, with a row for each; `kept` has columns of values."""
        key = tuple((name, array.shape[1:]) for name, array in arrays.items())
        positions, found = self._groups.setdefault(key, ([], []))
        positions += range(len(self._numbers), len(self._numbers) + len(raw))
        found.append(arrays)
        first = self._start.row + len(self) + 1
        self._numbers += range(first, first + len(raw))
        self._raw += raw
        for column, values in zip(self._kept, kept, strict=True):
            column += values

    def reject(self, reason: str, raw: Any, column: str | None = None) -> None:
        """Adds a row that can't be used, for the report of errors."""
        self._rejected.append(Rejected(self._start.row + len(self) + 1, column, reason, legible(raw)))

    def block(self, end_offset: int) -> Block:
        """The rows that were added and rejected, as a block that ends at `end_offset` of the file."""
        groups = [Group(joined(found), np.array(positions)) for positions, found in self._groups.values()]
        if len(groups) == 1:
            groups[0].positions = None
        return Block(
            self._start,
            Cursor(self._start.row + len(self), end_offset),
            np.array(self._numbers, np.int64),
            groups,
            dict(zip(self._keep, self._kept, strict=True)),
            self._rejected,
            raw=lambda position: legible(self._raw[position]),
        )


def _other(value: Any, datatype: Datatype) -> Any:
    """Booleans as numbers, and floats without a fraction as integers, where these are wanted."""
    if isinstance(value, list):
        return [_other(item, datatype) for item in value]
    if isinstance(value, bool):
        return int(value) if datatype.is_number else value
    if isinstance(value, float) and datatype.is_integer and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    return value


def legible(raw: Any) -> Any:
    """A row for an error's report: JSON as it is, text and what JSON can't hold as text, cut where it is long."""
    if not isinstance(raw, bytes):
        return raw
    if len(raw) <= EXCERPT:
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return raw[:EXCERPT].decode(errors="replace") + ("..." if len(raw) > EXCERPT else "")
