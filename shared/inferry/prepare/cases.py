"""The inputs that a form has to answer as its model does: the card's example, a user's samples, and random ones."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from inferry.errors import InferryError
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array, aligned
from inferry.runtime.model import Model
from inferry.runtime.row_proof import random_feeds
from inferry.runtime.verdicts import NONE

# Rows of a run of samples. More take longer, and show nothing more.
BATCH = 32


def cases(model: Model, samples: Sequence[Feed]) -> list[Feed]:
    """Inputs that fit the model's signature; it need not run with all of them."""
    found = []
    with suppress(InferryError):  # it has none
        found.append(model.example())
    for feed in samples:
        found += _batches(model, feed)
    for feed in random_feeds(model.session.signature):
        found += _fitted(feed, model)
    return found


def singly(model: Model, samples: Sequence[Feed]) -> list[Feed]:
    """A row at a time, where the model has rows."""
    found: list[Feed] = []
    for feed in samples:
        count = _count(model, feed)
        found += [_rows(feed, slice(row, row + 1)) for row in range(count)] if count else [feed]
    return found


def _count(model: Model, feed: Feed) -> int:
    """How many rows there are; 0 where they can't be told apart."""
    rows = {len(array) for array in feed.values() if array.ndim}
    return rows.pop() if model.row_proof.verdict.rows != NONE and len(rows) == 1 else 0


def _batches(model: Model, feed: Feed) -> list[Feed]:
    """A few rows at a time, where the model has rows."""
    count = _count(model, feed)
    if not count:
        return [feed]
    specs = model.session.signature.inputs
    size = BATCH if all(specs[name].shape is None or _first(model, name) == -1 for name in feed) else 1
    return [_rows(feed, slice(start, start + size)) for start in range(0, count, size)]


def _fitted(feed: Feed, model: Model) -> Iterator[Feed]:
    """Random rows as the model takes them: all and one where there may be any number of them, else so many."""
    lengths = {name: _first(model, name) for name in feed}
    fixed = {length for length in lengths.values() if length != -1}
    if not fixed:
        yield feed
        yield _rows(feed, slice(0, 1))
    else:
        yield {
            name: array if lengths[name] == -1 else aligned(np.resize(array, (lengths[name], *array.shape[1:])))
            for name, array in feed.items()
        }


def _first(model: Model, name: str) -> int:
    shape = model.session.signature.inputs[name].shape
    return shape[0] if shape else -1


def _rows(feed: Feed, rows: slice) -> Feed:
    return {name: aligned(array[rows]) for name, array in feed.items()}


def write(path: Path, arrays: list[dict[str, Array]]) -> None:
    """Several groups of arrays by name, for another process. Strings lose nothing but NULs at their ends."""
    flat = {
        f"{index}/{name}": array.astype(np.str_) if array.dtype.hasobject else array
        for index, group in enumerate(arrays)
        for name, array in group.items()
    }
    with path.open("wb") as file:
        np.savez(file, **flat)  # type: ignore[arg-type]


def read(path: Path) -> list[dict[str, Array]]:
    """Reads the cases that `write` wrote."""
    groups: dict[int, dict[str, Array]] = {}
    with np.load(path) as kept:
        for key in kept.files:
            index, _, name = key.partition("/")
            array = kept[key]
            groups.setdefault(int(index), {})[name] = array.astype(object) if array.dtype.kind == "U" else array
    return [groups[index] for index in sorted(groups)]
