"""JSON Lines: a row or a request of the protocol on each line in, an answer on each line out."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import simdjson

from inferry import protocol, rows
from inferry.batch.blocks import Block, Cursor, Group, Pace, numbers, row_shape
from inferry.batch.casting import cast
from inferry.batch.gathering import Gathering, Wanted, legible
from inferry.batch.lines import FEW, Lines, borders, halves, head, opened, read_lines, records, start_of
from inferry.document import load, plain
from inferry.errors import InvalidRequest
from inferry.jsontensors import kind
from inferry.signature import TensorSpec
from inferry.tensors import DATATYPES, Array, aligned

# A line in which the fast way finds something else goes the careful way, which knows what to say.
_UNEXPECTED = (KeyError, ValueError, TypeError, RuntimeError, struct.error)
_QUICK = {name for name, datatype in DATATYPES.items() if datatype.is_number and name != "UINT64"}
_CODES = {"float": "d", "integer": "i"}
_PACK = {"d": struct.Struct("d").pack, "i": struct.Struct("q").pack}
_NUMBERS = {"float": np.dtype("f8"), "integer": np.dtype("i8")}
_FEATURES = "features"


class JsonLines:
    """The rows of a JSONL file; how the first line is made says what all are."""

    total = None

    def __init__(self, file: BinaryIO, compression: str, wanted: Wanted) -> None:
        """InvalidFile when it isn't text, or when its first line is no JSON object."""
        self._wanted = wanted
        self._text = opened(file, compression, wanted.file)
        self._start = start_of(self._text)
        first = self._first()
        self.has_requests = "inputs" in first and "inputs" not in wanted.model.session.signature.inputs
        self._blocks = self._requests if self.has_requests else self._rows
        self._inputs = self._members(first)
        self._simple = all(spec.datatype.name in _QUICK for _, spec in self._inputs)

    def _members(self, first: dict[str, Any]) -> list[tuple[str, TensorSpec]]:
        """The member of the first line that each input is in."""
        signature = self._wanted.model.session.signature
        required = [spec for name, spec in signature.inputs.items() if name in signature.required]
        alone = len(required) == 1 and _FEATURES in first and required[0].name not in first
        return [(_FEATURES if alone else spec.name, spec) for spec in required]

    def blocks(self, start: Cursor, stop: int | None = None) -> Iterator[Block]:
        row, offset = start.row, start.offset or self._start
        for lines in read_lines(self._text, offset, self._wanted.pace, self._wanted.file):
            if stop is not None:
                lines = head(lines, stop - row)
            for block in self._blocks(lines, row):
                yield block
                row = block.end.row
            if row == stop:
                return

    def borders(self, rows: int) -> Iterator[Cursor]:
        return borders(self._text, self._start, rows, self._wanted.file)

    def _first(self) -> dict[str, Any]:
        """The first line that is an object; what the lines are must not depend on a broken one."""
        for lines in read_lines(self._text, self._start, Pace(1000), self._wanted.file):
            for line in records(lines.data):
                with suppress(InvalidRequest):
                    return _object(line)
        return {}

    def _rows(self, lines: Lines, row: int) -> Iterator[Block]:
        if lines.oversize:
            yield self._oversize(lines, row)
            return
        block = self._quick(lines, row) if self._simple else None
        if block is not None:
            yield block
        elif lines.data.count(b"\n") <= FEW:
            yield self._careful(lines, row)
        else:
            for half in halves(lines):
                for block in self._rows(half, row):
                    yield block
                    row = block.end.row

    def _quick(self, lines: Lines, row: int) -> Block | None:
        """The block of lines that hold nothing but numbers of the right count; None when there are others."""
        found = records(lines.data)
        kept: list[list[Any]] = [[] for _ in self._wanted.keep]
        columns: list[list[bytes]] = [[] for _ in self._inputs]
        try:
            self._fill(found, columns, kept)
            groups = grouped([spec for _, spec in self._inputs], columns)
        except _UNEXPECTED:
            return None
        return Block(
            Cursor(row, lines.offset),
            Cursor(row + len(found), lines.end),
            numbers(row, len(found)),
            groups,
            dict(zip(self._wanted.keep, kept, strict=True)),
            raw=lambda position: legible(found[position]),
        )

    def _fill(self, found: list[bytes], columns: list[list[bytes]], kept: list[list[Any]]) -> None:
        """Appends the numbers of each line as bytes, and what is to be kept of it."""
        inputs = [
            (name, _CODES[spec.datatype.kind], column.append)
            for (name, spec), column in zip(self._inputs, columns, strict=True)
        ]
        keep = [(name, column.append) for name, column in zip(self._wanted.keep, kept, strict=True)]
        read = simdjson.Parser().parse
        document: Any
        for line in found:
            # A parser takes no next line while somebody looks at this one.
            value = document = None
            document = read(line)
            for name, code, add in inputs:
                value = document[name]
                add(_packed(value, code, line))
            for name, add in keep:
                value = document.get(name)
                add(plain(value))

    def _careful(self, lines: Lines, row: int) -> Block:
        """The same for lines that need a look each."""
        gathering = Gathering(self._wanted, Cursor(row, lines.offset))
        for line in records(lines.data):
            try:
                value = _object(line)
                gathering.add(self._values(value), line, [value.get(name) for name in self._wanted.keep])
            except InvalidRequest as exc:
                gathering.reject(str(exc), line)
        return gathering.block(lines.end)

    def _values(self, value: dict[str, Any]) -> dict[str, Any]:
        """The value of each input in a line's object."""
        inputs = self._wanted.model.session.signature.inputs
        if _FEATURES in value and _FEATURES not in inputs:
            features = value[_FEATURES]
            if not isinstance(features, dict):
                return {name: values[0] for name, values in rows.columns([features], self._wanted.model).items()}
            value = features
        return {name: value[name] for name in inputs if name in value}

    def _requests(self, lines: Lines, row: int) -> Iterator[Block]:
        if lines.oversize:
            yield self._oversize(lines, row)
            return
        gathering = Gathering(self._wanted, Cursor(row, lines.offset))
        requests = []
        for line in records(lines.data):
            try:
                requests.append(protocol.decode(line, None, self._wanted.model.name))
                gathering.add_arrays({}, line, [None] * len(self._wanted.keep))
            except InvalidRequest as exc:
                gathering.reject(str(exc), line)
        block = gathering.block(lines.end)
        block.groups, block.requests = [], requests
        yield block

    def _oversize(self, lines: Lines, row: int) -> Block:
        gathering = Gathering(self._wanted, Cursor(row, lines.offset))
        gathering.reject(f"the line has {lines.oversize} bytes, more than are read of a row", lines.data)
        return gathering.block(lines.end)


def grouped(specs: Sequence[TensorSpec], columns: Sequence[Sequence[bytes]]) -> list[Group]:
    """The rows by the shapes of their inputs. ValueError when a row's values can't be those of an input."""
    sizes = list(zip(*(map(len, column) for column in columns), strict=True))
    distinct = set(sizes)
    if len(distinct) == 1:
        return [Group(_feed(specs, columns, len(sizes)))]
    groups = []
    for key in distinct:
        positions = [position for position, size in enumerate(sizes) if size == key]
        chosen = [[column[position] for position in positions] for column in columns]
        groups.append(Group(_feed(specs, chosen, len(positions)), np.array(positions)))
    return groups


def _feed(specs: Sequence[TensorSpec], columns: Sequence[Sequence[bytes]], count: int) -> dict[str, Array]:
    feed = {}
    for spec, column in zip(specs, columns, strict=True):
        shape = row_shape(len(column[0]) // 8, spec.shape)
        flat = np.frombuffer(b"".join(column), _NUMBERS[spec.datatype.kind])
        values, lost = cast(flat, spec.datatype, spec.name)
        if shape is None or lost is not None:
            raise ValueError(spec.name)
        feed[spec.name] = aligned(values.reshape(count, *shape))
    return feed


def _packed(value: Any, code: str, line: bytes) -> bytes:
    """A number, or a flat array of numbers, as 8 bytes each. ValueError or TypeError when it is something else."""
    if type(value) is simdjson.Array:
        buffer = bytes(value.as_buffer(of_type=code))  # type: ignore[arg-type]
        # simdjson flattens nested arrays, and ragged ones too.
        if line.count(b"[") != 1 and (len(value) * 8 != len(buffer) or any(type(x) is simdjson.Array for x in value)):
            raise ValueError
        return buffer
    if type(value) is not float and (type(value) is not int):
        raise TypeError
    return _PACK[code](value)


def _object(line: bytes) -> dict[str, Any]:
    """A line's object; NaN and Infinity as bare tokens too, as the protocol's clients write them."""
    value = load(line)
    if not isinstance(value, dict):
        raise InvalidRequest(f"each line must be a JSON object, got {kind(value)}")
    return value
