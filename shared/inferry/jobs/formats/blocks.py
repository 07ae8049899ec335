"""Rows on their way from a file to its results: a block at a time, with those that can't be used beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from inferry.protocol.signature import Feed, TensorSpec
from inferry.protocol.tensors import Array
from inferry.protocol.types import InferRequest


class Cursor(NamedTuple):
    """A border between rows: how many are before it, and where it is (a byte of the text, a row of other formats)."""

    row: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row without a result: its number from 1, the column to blame where that is known, why, and the row itself."""

    row: int
    column: str | None
    reason: str
    data: Any


Values: TypeAlias = Array | Sequence[Any]
"""One value for each row: an array with a row per row, or whatever the format has."""


@dataclass(slots=True)
class Group:
    """Rows whose inputs have one shape: `positions` in their block, all of it when None."""

    feed: Feed
    positions: Array | None = None


@dataclass(slots=True)
class Block:
    """Rows that follow each other in a file.

    `rows` are the numbers of those that could be read; positions in `groups`, `kept` and `requests` count them.
    `raw` gives the row at a position for an error's report. `requests` replaces `groups` where each row is a request
    of the protocol.
    """

    start: Cursor
    end: Cursor
    rows: Array
    groups: list[Group] = field(default_factory=list)
    kept: Mapping[str, Any] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    requests: list[InferRequest] = field(default_factory=list)
    raw: Callable[[int], Any] = lambda position: None


Chunk: TypeAlias = Callable[[], Sequence[Block]]
"""Some of a file that is read and not looked at yet: makes its blocks."""


@dataclass(slots=True)
class PredictedBlock:
    """A block with the model's outputs: of each one value for each of `positions`, the rows of the block that have one.

    `rejected` are all the other rows, in order.
    """

    block: Block
    positions: Array
    outputs: Mapping[str, Values]
    rejected: list[Rejected]


@dataclass(slots=True)
class Pace:
    """How many rows the next block should have at most, and how many seconds the last took."""

    rows: int
    seconds: float = 0.0


class Reader(Protocol):
    """A file's rows, from a border of blocks to another."""

    total: int | None
    """Rows of the whole file, where it says."""
    has_requests: bool
    """Whether each row is a request of the protocol."""
    inputs: Sequence[tuple[Sequence[str], TensorSpec]]
    """The model's inputs with the columns that each is in."""
    names: tuple[str, ...]
    """Of the file's columns; of the members of the first line, where lines have their own."""
    kept: Mapping[str, Any]
    """What the columns to keep hold, as a type of Arrow's or NumPy's; those that hold anything are left out."""

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        """The blocks from `start` to the row `stop`, to the end without it. InvalidFile when it can't be read.

        Chunks may be made by several threads at a time, those that come first first, and each that was taken must be.
        """

    def borders(self, rows: int) -> Iterator[Cursor]:
        """Where blocks may start that are at least `rows` rows behind each other, the file's start and end left out."""


def chunk(make: Callable[..., Block], *args: Any) -> Chunk:
    """A chunk of the one block that `make` makes of `args` when the chunk is called."""
    return lambda: (make(*args),)


def other_shape(values: Values, spec: TensorSpec, instead: str) -> str:
    """Why an output can't be written in a format whose rows have the shape that the model declares."""
    shapes = sorted({np.shape(row) for row in values})
    return (
        f"rows of output '{spec.name}' have the shape {' and '.join(str([*shape]) for shape in shapes[:3])}, but the "
        f"model declares {list(spec.row or ())}: write {instead}"
    )


def numbers(first: int, count: int) -> Array:
    """The numbers of `count` rows when `first` rows are before them."""
    return np.arange(first + 1, first + 1 + count)
