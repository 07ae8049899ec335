"""Columns of numbers and other values as texts, and lines made of them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from inferry.protocol.tensors import Array

# What JSON has no comma in.
_UNQUOTED = {int, float, bool, type(None)}


class Texts(NamedTuple):
    """A column's value in each row, between what is before and behind it in every row."""

    rows: list[bytes]
    before: bytes = b""
    behind: bytes = b""


def lines(start: bytes, columns: Sequence[Texts], between: Sequence[bytes], end: bytes) -> bytes:
    """A line for each row: `start`, the columns' texts with `between` before all but the first, and `end`."""
    count, width = len(columns[0].rows), 2 * len(columns)
    before = [column.before for column in columns]
    behind = [column.behind for column in columns]
    # Pieces of all rows in one list: joining them once takes a fraction of a format for each line.
    pieces = [b""] * (count * width)
    for at, column in enumerate(columns):
        previous = behind[at - 1] + (between[at - 1] if at else end + start)
        pieces[2 * at :: width] = [previous + before[at]] * count
        pieces[2 * at + 1 :: width] = column.rows
    pieces[0] = start + before[0]
    return b"".join([*pieces, behind[-1], end])


def of_values(values: Iterable[Any]) -> list[bytes]:
    """Each value as JSON text."""
    return [orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY) for value in values]


def of_plain(values: Sequence[Any]) -> Texts:
    """Each of Python's values as JSON; one text of all texts or all numbers, cut between them, where they are that."""
    kinds = set(map(type, values))
    if kinds == {str}:
        text = orjson.dumps(values)
        if b'\\",' not in text:  # what is between two texts may be in one, or one may end with its start
            return Texts(text[2:-2].split(b'","'), b'"', b'"')
    elif kinds and kinds <= _UNQUOTED:
        return Texts(orjson.dumps(values)[1:-1].split(b","))
    return Texts(of_values(values))


def of_numbers(values: Array) -> Texts:
    """The rows of an array of one or two axes, neither of which is empty, as JSON; null for what is not finite."""
    # One text of all rows, cut between them, takes a fraction of a text for each.
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    if values.ndim == 1:
        return Texts(text[1:-1].split(b","))
    return Texts(text[2:-2].split(b"],["), b"[", b"]")
