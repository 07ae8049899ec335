"""JSON Lines that hold arrays of numbers for a model's inputs, a block parsed as one document."""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import orjson
import simdjson

from inferry.jobs.formats.blocks import Group
from inferry.jobs.formats.casting import cast
from inferry.jobs.formats.lines import how_many
from inferry.protocol.json_documents import plain
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import DATATYPES, Array, Shape, aligned

READABLE = {name for name, datatype in DATATYPES.items() if datatype.is_number and name != "UINT64"}
"""The datatypes of inputs that can be read so."""

# What simdjson and struct say of a value that is something else.
_UNEXPECTED = (KeyError, ValueError, TypeError, AttributeError, RuntimeError, struct.error)
_CODES = {"float": "d", "integer": "i"}
_PACK = {"d": struct.Struct("d").pack, "i": struct.Struct("q").pack}
_NUMBERS = {"float": np.dtype("f8"), "integer": np.dtype("i8")}
# Stands between the lines of a document. No file knows it: where it is not, a line is a part of a value, or several.
_MARK = os.urandom(8).hex()
_BETWEEN = b',"%b",' % _MARK.encode()


def read(
    data: bytes, inputs: Sequence[tuple[str, TensorSpec]], keep: Sequence[str]
) -> tuple[list[Group], Mapping[str, Sequence[Any]]] | None:
    """The rows of lines that are none of them empty, and the members to keep of them; None when a line needs a look.

    `inputs` names the member of a line's object that each input is in.
    """
    try:
        (name, spec), *others = inputs
        if not others and not keep and (feed := _alike(data, name, spec)):
            return [Group(feed)], {}
        document = _document(data)
        groups = _grouped([spec for _, spec in inputs], _columns(document, inputs, data))
        return groups, {name: [plain(line.get(name)) for line in _lines(document)] for name in keep}
    except _UNEXPECTED:
        return None


def _alike(data: bytes, name: str, spec: TensorSpec) -> dict[str, Array] | None:
    """The input in lines that differ in nothing but as many numbers of one array; None when there are others."""
    before, behind = data[: data.find(b"[") + 1], data[data.rfind(b"]") :]
    rows = data[len(before) : len(data) - len(behind)].replace(behind + b"\n" + before, b"],[")
    count = how_many(data, b"\n") + 1
    try:
        # Every bracket is one of ours, so that a row can be nothing but what is in the array of its line.
        if how_many(rows, b"[") != count - 1 or b"\n" in rows or orjson.loads(before + behind) != {name: []}:
            return None
        document: Any = simdjson.Parser().parse(b"[[%b]]" % rows)
        (size,) = set(map(len, document))
        return _feed([spec], [(size,)], [document.as_buffer(of_type=_CODES[spec.datatype.kind])], count)
    except _UNEXPECTED:
        return None


def _document(data: bytes) -> Any:
    """The values of all lines, and marks between them."""
    document: Any = simdjson.Parser().parse(b"[%b]" % data.replace(b"\n", _BETWEEN))
    if len(document) != 2 * how_many(data, b"\n") + 1 or set(islice(document, 1, None, 2)) - {_MARK}:
        raise ValueError
    return document


def _lines(document: Any) -> Iterator[Any]:
    """The lines' objects: made again each time, as so many that are kept would keep the garbage collector busy."""
    return islice(document, 0, None, 2)


class _Column(NamedTuple):
    """An input's numbers in each row, as 8 bytes each; `listed`: in an array, a plain number otherwise."""

    rows: list[bytes]
    listed: bool

    def shape(self, row: bytes) -> Shape:
        """Of a row's values."""
        return (len(row) // 8,) if self.listed else ()


def _columns(document: Any, inputs: Sequence[tuple[str, TensorSpec]], data: bytes) -> list[_Column]:
    """The numbers of each input."""
    columns, arrays, count = [], [], how_many(data, b"\n") + 1
    for name, spec in inputs:
        code = _CODES[spec.datatype.kind]
        if type(next(_lines(document))[name]) is simdjson.Array:
            arrays.append(name)
            columns.append(_Column([bytes(line[name].as_buffer(of_type=code)) for line in _lines(document)], True))
        else:
            columns.append(_Column([_packed(line[name], code) for line in _lines(document)], False))
        # Of members of one name simdjson finds the first, and elsewhere the last counts.
        if data.count(orjson.dumps(name)) != count and any(list(line).count(name) > 1 for line in _lines(document)):
            raise ValueError
    # simdjson flattens nested arrays, and ragged ones too.
    if how_many(data, b"[") != count * len(arrays):
        for value in chain.from_iterable(line[name] for line in _lines(document) for name in arrays):
            if type(value) is simdjson.Array:
                raise ValueError
    return columns


def _packed(value: Any, code: str) -> bytes:
    if type(value) is not float and type(value) is not int:
        raise TypeError
    return _PACK[code](value)


def _grouped(specs: Sequence[TensorSpec], columns: Sequence[_Column]) -> list[Group]:
    """The rows by the shapes of their inputs."""
    shapes = list(zip(*(map(column.shape, column.rows) for column in columns), strict=True))
    distinct = set(shapes)
    if len(distinct) == 1:
        return [Group(_feed(specs, shapes[0], [b"".join(column.rows) for column in columns], len(shapes)))]
    groups = []
    for key in distinct:
        positions = [position for position, shape in enumerate(shapes) if shape == key]
        chosen = [b"".join([column.rows[position] for position in positions]) for column in columns]
        groups.append(Group(_feed(specs, key, chosen, len(positions)), np.array(positions)))
    return groups


def _feed(specs: Sequence[TensorSpec], rows: Sequence[Shape], columns: Sequence[Any], count: int) -> dict[str, Array]:
    """Inputs of `count` rows, whose values have the shapes `rows`, from all values of each behind each other."""
    feed = {}
    for spec, row, column in zip(specs, rows, columns, strict=True):
        shape = spec.fitted(row)
        values, lost = cast(np.frombuffer(column, _NUMBERS[spec.datatype.kind]), spec.datatype, spec.name)
        if shape is None or lost is not None:
            raise ValueError(spec.name)
        feed[spec.name] = aligned(values.reshape(count, *shape))
    return feed
