"""Runs of one, two and three rows, at two lengths of the other free axes: what an exporter's graph really takes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

import numpy as np

from inferry.cli.example import LENGTHS, axes
from inferry.errors import InferryError
from inferry.protocol.signature import Feed, TensorSpec
from inferry.protocol.tensors import Array, aligned
from inferry.runtime import row_proof
from inferry.runtime.session import Session
from inferry.runtime.verdicts import PROVEN

ROWS = (1, 2, 3)
_SECONDS = 30.0


class Trial(NamedTuple):
    """The inputs that were run, of any number of rows and length; `problem`: what did not hold, empty where all did."""

    feeds: Sequence[Feed]
    problem: str
    lines: Sequence[str]


def run(session: Session, example: Feed, more: int = 0) -> Trial:
    """Runs as the `example`, with which the model runs, but with other rows and lengths.

    `more`: rows of one input beside, where there may be so many.
    """
    specs = [spec for spec in session.signature.inputs.values() if not spec.optional]
    if not specs:
        return Trial([{}], "", ["it needs no inputs: one run"])
    known = {axis: length for spec in specs for axis, length in _lengths(spec, example[spec.name]) if axis != length}
    batch = {_axes(spec, example[spec.name])[0] for spec in specs if example[spec.name].ndim}
    is_free = all(isinstance(axis, str) for axis in batch) and len(batch) == 1
    others = [axis for axis in known if axis not in batch]
    rows = ROWS if is_free else (None,)
    feeds: list[Feed] = []
    problems: list[str] = [] if is_free else [_fixed(specs)]
    lines: list[str] = []
    for lengths in _two(session, specs, example, known, others):
        shown = ", ".join(f"{axis}={lengths[axis]}" for axis in others)
        problem = ""
        for count in rows:
            feed = _feed(specs, example, {**lengths, **(dict.fromkeys(batch, count) if count else {})})
            if problem := _failure(session, feed):
                problem = f"{count or 'the'} rows fail: {problem}"
                break
            feeds.append(feed)
        if not problem and is_free:
            verdict, _ = row_proof.compared(session, feeds[-1], time.monotonic() + _SECONDS)
            problem = "" if verdict.rows == PROVEN else verdict.reason
        what = "1, 2 and 3 rows" if is_free else "its own number of rows"
        held = "the same together as alone" if is_free else "it runs"
        lines.append(f"{what}{' with ' + shown if shown else ''}: {problem or held}")
        problems += [f"{problem}{' with ' + shown if shown else ''}"] if problem else []
    if more and is_free:
        feeds.append(_feed(specs, example, {**known, **dict.fromkeys(batch, more)}))
    if others and len(lines) < 2:
        lines.append(
            f"it runs with one length of {', '.join(map(str, others))} only, of {', '.join(map(str, LENGTHS))}"
        )
    return Trial(feeds, problems[0] if problems else "", lines)


def _fixed(specs: Sequence[TensorSpec]) -> str:
    spec = next((spec for spec in specs if spec.shape and spec.shape[0] != -1), specs[0])
    return f"the first axis of input '{spec.name}' is fixed: {spec.stated}"


def _axes(spec: TensorSpec, array: Array) -> Sequence[int | str]:
    return axes(spec, (-1,) * array.ndim)


def _lengths(spec: TensorSpec, array: Array) -> Iterator[tuple[int | str, int]]:
    return zip(_axes(spec, array), array.shape, strict=True)


def _two(
    session: Session,
    specs: Sequence[TensorSpec],
    example: Feed,
    known: Mapping[int | str, int],
    others: Sequence[int | str],
) -> Iterator[Mapping[int | str, int]]:
    """The lengths of the example, and others with which it runs as well."""
    yield known
    if not others:
        return
    for length in LENGTHS:
        lengths = {**known, **dict.fromkeys(others, length)}
        if lengths != known and not _failure(session, _feed(specs, example, lengths)):
            yield lengths
            return


def _feed(specs: Sequence[TensorSpec], example: Feed, lengths: Mapping[int | str, int]) -> Feed:
    """Rows that differ: random floats, and the example's own values of what may be a place in a table, or a text."""
    feed = {}
    for spec in specs:
        given = example[spec.name]
        shape = tuple(axis if isinstance(axis, int) else lengths[axis] for axis in _axes(spec, given))
        if spec.datatype.is_float and not spec.datatype.is_bits:
            generator = Random(spec.name)  # noqa: S311
            values = np.array([generator.uniform(-3, 3) for _ in range(int(np.prod(shape)))])
            feed[spec.name] = aligned(values.reshape(shape).astype(spec.datatype.dtype))
        else:
            feed[spec.name] = aligned(np.resize(given, shape))
    return feed


def _failure(session: Session, feed: Feed) -> str:
    """Why the model doesn't run with these inputs; empty when it does."""
    try:
        session.run(feed, list(session.signature.outputs), time.monotonic() + _SECONDS)
    except InferryError as exc:
        return str(exc)
    return ""
