"""JSON Lines, or an array of them: a row or a request of the protocol on each line in, an answer on each line out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

import orjson

from inferry.errors import InvalidFile, InvalidRequest
from inferry.jobs.formats import json_array, number_lines
from inferry.jobs.formats.block_builder import BlockBuilder, ReadOptions, legible
from inferry.jobs.formats.blocks import Block, Chunk, Cursor, Pace, numbers
from inferry.jobs.formats.lines import (
    FEW,
    Lines,
    borders,
    halves,
    head,
    how_many,
    opened,
    read_lines,
    records,
    start_of,
)
from inferry.jobs.formats.plain_columns import PlainColumns
from inferry.protocol import text_bodies
from inferry.protocol.json_documents import CONTAINERS, load
from inferry.protocol.json_tensors import kind
from inferry.protocol.signature import TensorSpec
from inferry.protocol.types import InferRequest
from inferry.runtime import columns as named
from inferry.runtime import rows

_FEATURES = "features"
# Lines that are looked at before a file is refused for the names of their members.
LOOKED_AT = 100
# So many lines are looked at one by one where those of several together are not all alike.
ALONE = 4


class JsonLines:
    """The rows of a JSONL file; how the first line is made says what all are."""

    total = None
    kept: Mapping[str, Any] = {}

    def __init__(self, file: BinaryIO, compression: str, options: ReadOptions) -> None:
        """InvalidFile when it isn't text, or when its first line is no JSON object."""
        self._options = options
        self._text = opened(file, compression, options.file)
        self._is_array = json_array.begins(self._text, options.file)
        if self._is_array:
            self._text = json_array.as_lines(self._text, options.file)
        self._start = start_of(self._text)
        first = self._first()
        signature = options.model.session.signature
        self.has_requests = "inputs" in first and "inputs" not in signature.inputs and not options.columns
        self.names = tuple(first)
        self._model = options.taking(first)
        self._has_features = _FEATURES not in signature.inputs and not options.columns
        self._blocks = self._requests if self.has_requests else self._rows
        required = named.required(options.model)
        self.inputs = self._members(first, required)
        if not self.has_requests:
            self._check_names()
        self._only = required[0].name if len(required) == 1 else None
        read = {name for names, _ in self.inputs for name in names}
        # Members that would make another row of a line, which the quick way doesn't look at.
        others = {*signature.inputs, *[_FEATURES] * self._has_features} - read
        if _FEATURES in read and self._has_features:
            others = set()
        elif options.columns:
            others -= {spec.name for spec in required}
        self._others = [orjson.dumps(name) for name in others]
        self._columns = PlainColumns(self.inputs, others)
        self._arrays = [(names[0], spec) for names, spec in self.inputs] if self._has_arrays(first) else []

    def _members(
        self, first: dict[str, Any], required: Sequence[TensorSpec]
    ) -> list[tuple[tuple[str, ...], TensorSpec]]:
        """The members of the first line that each input is in."""
        if len(required) == 1 and _FEATURES in first and self._has_features:
            return [((_FEATURES,), required[0])]
        return [(named.listed(self._model, first) or (spec.name,), spec) for spec in required]

    def _has_arrays(self, first: dict[str, Any]) -> bool:
        """Whether the inputs are numbers, and arrays of them as far as the first line tells."""
        are_numbers = all(spec.datatype.name in number_lines.READABLE for _, spec in self.inputs)
        return are_numbers and any(
            len(names) == 1 and not isinstance(first.get(names[0]), int | float) for names, _ in self.inputs
        )

    def _check_names(self) -> None:
        """InvalidFile when the first lines have members, and none that the model takes: no other line will do."""
        takes = {*self._options.model.signature.inputs, *self._model.columns, *[_FEATURES] * self._has_features}
        members: dict[str, None] = {}
        for value in islice(self._objects(), LOOKED_AT):
            if not takes.isdisjoint(value):
                return
            members |= dict.fromkeys(value)
        if members:
            raise InvalidFile(named.none_of(tuple(members), self._model, self._options.file))

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        row, offset = start.row, start.offset or self._start
        for lines in read_lines(self._text, offset, self._options.pace, self._options.file):
            if stop is not None:
                lines = head(lines, stop - row)
            # Made at once: parsing JSON keeps other threads from running anyway.
            blocks = list(self._blocks(lines, row))
            yield partial(list, blocks)
            row = blocks[-1].end.row
            if row == stop:
                return

    def borders(self, rows: int) -> Iterator[Cursor]:
        if self._is_array:  # it is read from its start
            return iter(())
        return borders(self._text, self._start, rows, self._options.file)

    def _first(self) -> dict[str, Any]:
        """The first line that is an object; what the lines are must not depend on a broken one."""
        return next(self._objects(), {})

    def _objects(self) -> Iterator[dict[str, Any]]:
        for lines in read_lines(self._text, self._start, Pace(1000), self._options.file):
            for line in records(lines.data):
                with suppress(InvalidRequest):
                    yield _object(load(line))

    def _rows(self, lines: Lines, row: int) -> Iterator[Block]:
        if lines.oversize:
            yield self._oversize(lines, row)
            return
        block = self._quick(lines, row) if self._arrays else self._in_columns(lines, row)
        if block is not None:
            yield block
        elif how_many(lines.data, b"\n") <= FEW:
            yield self._in_columns(lines, row)
        else:
            for half in halves(lines):
                for block in self._rows(half, row):
                    yield block
                    row = block.end.row

    def _quick(self, lines: Lines, row: int) -> Block | None:
        """The block of lines whose inputs are nothing but arrays of numbers; None when there are others."""
        data = lines.data.removesuffix(b"\n")
        if any(name in data for name in self._others):
            return None
        found = number_lines.read(data, self._arrays, self._options.keep)
        if found is None and b"\n\n" in data:
            data = b"\n".join(records(data))
            found = number_lines.read(data, self._arrays, self._options.keep)
        if found is None:
            return None
        count = how_many(data, b"\n") + 1
        apart: list[bytes] = []

        def raw(position: int) -> Any:
            if not apart:
                apart.extend(records(data))
            return legible(apart[position])

        return Block(Cursor(row, lines.offset), Cursor(row + count, lines.end), numbers(row, count), *found, raw=raw)

    def _in_columns(self, lines: Lines, row: int) -> Block:
        """The block of lines that are read one by one where they are not all alike."""
        builder = BlockBuilder(self._options, Cursor(row, lines.offset))
        texts = records(lines.data)
        self._add(builder, texts, _parsed(texts))
        return builder.block(lines.end)

    def _add(self, builder: BlockBuilder, lines: Sequence[bytes], values: Sequence[Any]) -> None:
        """Adds lines and what is in them, in halves where one needs a look."""
        feed = self._columns.feed(values)
        if feed is not None:
            builder.add_arrays(feed, lines, [[value.get(name) for value in values] for name in self._options.keep])
        elif len(lines) <= ALONE:
            for line, value in zip(lines, values, strict=True):
                self._add_one(builder, line, value)
        else:
            half = len(lines) // 2
            self._add(builder, lines[:half], values[:half])
            self._add(builder, lines[half:], values[half:])

    def _add_one(self, builder: BlockBuilder, line: bytes, value: Any) -> None:
        try:
            found = _object(value)
        except InvalidRequest as exc:
            builder.reject(str(exc), line)
            return
        try:
            values = self._values(found)
        except InvalidRequest as exc:
            builder.reject(str(exc), line, self._only)
            return
        builder.add(values, line, [found.get(name) for name in self._options.keep])

    def _values(self, value: dict[str, Any]) -> dict[str, Any]:
        """The value of each input in a line's object."""
        model = self._model
        if _FEATURES in value and self._has_features:
            features = value[_FEATURES]
            if not isinstance(features, dict):
                return {name: values[0] for name, values in rows.columns([features], model).items()}
            value = features
        return named.of_object(value, model)

    def _requests(self, lines: Lines, row: int) -> Iterator[Block]:
        if lines.oversize:
            yield self._oversize(lines, row)
            return
        builder = BlockBuilder(self._options, Cursor(row, lines.offset))
        known, requests = self._options.model.session.signature.known[True], []
        for line in records(lines.data):
            try:
                requests.append(_whole(text_bodies.to_request(line, known)))
                builder.add_arrays({}, [line], [[None]] * len(self._options.keep))
            except InvalidRequest as exc:
                no_json = _loaded(line)
                builder.reject(str(no_json if isinstance(no_json, InvalidRequest) else exc), line)
        block = builder.block(lines.end)
        block.groups, block.requests = [], requests
        yield block

    def _oversize(self, lines: Lines, row: int) -> Block:
        builder = BlockBuilder(self._options, Cursor(row, lines.offset))
        builder.reject(f"the line has {lines.oversize} bytes, more than are read of a row", lines.data)
        return builder.block(lines.end)


def _parsed(lines: Sequence[bytes]) -> list[Any]:
    """What is in each line: NaN and Infinity as bare tokens too, as the protocol's clients write them.

    In place of what is no JSON stands the error that says so.
    """
    try:
        return list(map(orjson.loads if sum(map(len, lines)) <= CONTAINERS else load, lines))
    except (ValueError, InvalidRequest):
        return list(map(_loaded, lines))


def _loaded(line: bytes) -> Any:
    try:
        return load(line, "the line")
    except InvalidRequest as exc:
        return exc


def _object(value: Any) -> dict[str, Any]:
    """A line's object."""
    if isinstance(value, InvalidRequest):
        raise value
    if not isinstance(value, dict):
        raise InvalidRequest(f"each line must be a JSON object, got {kind(value)}")
    return value


def _whole(request: InferRequest) -> InferRequest:
    """InvalidRequest for one that has inputs or outputs elsewhere, by a `uri`."""
    if request.by_reference:
        raise InvalidRequest("a request in a file has its inputs and outputs in it, none by a 'uri'")
    return request
