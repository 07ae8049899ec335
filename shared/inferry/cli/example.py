"""Inputs that a model runs with, found by trying: lengths for its free axes, and values."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from random import Random
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson

from inferry.errors import InferryError
from inferry.protocol.decoder import decode
from inferry.protocol.signature import Feed, TensorSpec
from inferry.protocol.tensors import Array
from inferry.runtime.session import Session

# Free axes are mostly batches, words of a text, channels and pixels.
LENGTHS = (1, 2, 3, 8, 16, 32, 64, 224)
# Ranks of inputs for which the file states none, tried in this order.
_UNRANKED = ((1, -1), (-1,), (1, -1, -1), (1, 3, -1, -1), ())
# An example is a text in config.json, which may have 1 MiB.
_MOST_VALUES = 200_000
# A channel or a row's width that ONNX Runtime's message names.
_MOST_LENGTH = 4096

_TRIES, _SECONDS, _SECONDS_OF_ONE = 400, 60.0, 10.0

_Lengths: TypeAlias = Mapping[str, int]


class Example(NamedTuple):
    """`inputs` as in a request of the protocol, which are `feed`; `outputs` are what the model gave for them."""

    inputs: list[dict[str, Any]]
    feed: Feed
    outputs: Mapping[str, Array]


class Found(NamedTuple):
    """The `example`, None after `tries` that failed, the last for the reason `problem`."""

    example: Example | None
    tries: int
    problem: str


def find(session: Session) -> Found:
    """The first inputs with which the model gives numbers, else the first with which it runs at all."""
    specs = [spec for spec in session.signature.inputs.values() if not spec.optional]
    until = time.monotonic() + _SECONDS
    candidates = _Candidates(specs)
    tries, problem = 0, ""
    second: Example | None = None
    for shapes, values in ((shapes, values) for shapes in candidates for values in _VALUES):
        if tries == _TRIES or time.monotonic() > until:
            break
        if (size := sum(map(prod, shapes))) > _MOST_VALUES:
            problem = problem or f"its inputs have {size:,} values, too many for a config.json"
            continue
        tries += 1
        inputs = [_tensor(spec, shape, values) for spec, shape in zip(specs, shapes, strict=True)]
        try:
            example = _run(session, inputs, min(until, time.monotonic() + _SECONDS_OF_ONE))
        except InferryError as exc:
            problem = str(exc)
            candidates.learn(problem)
            continue
        if _is_telling(example.outputs.values()):
            return Found(example, tries, "")
        second = second or example
    return Found(second, tries, problem)


def of_samples(session: Session, feeds: Sequence[Feed]) -> Example | None:
    """The first row of what somebody asks a model. None where it has what a config.json can't hold, or too much of it.

    InferryError when the model doesn't run with it.
    """
    if not feeds or not feeds[0]:
        return None
    specs = session.signature.inputs
    has_rows = all(specs[name].shape is None or specs[name].shape[:1] == (-1,) for name in feeds[0])  # type: ignore[index]
    feed = {name: array[:1] if has_rows else array for name, array in feeds[0].items()}
    finite = all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in feed.values())
    if not finite or sum(array.size for array in feed.values()) > _MOST_VALUES:
        return None
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": specs[name].datatype.name, "data": _listed(array)}
        for name, array in feed.items()
    ]
    return _run(session, inputs, time.monotonic() + _SECONDS)


def _listed(array: Array) -> list[Any]:
    """Values in their order; floats with the fewest digits that give them again."""
    flat = array.reshape(-1)
    return [float(text) for text in flat.astype(str)] if flat.dtype.kind == "f" else flat.tolist()


def _run(session: Session, inputs: list[dict[str, Any]], deadline: float) -> Example:
    """What the server does with the same inputs in config.json. InferryError."""
    signature = session.signature
    feed = signature.feed(decode(orjson.dumps({"inputs": inputs}), None, signature.known[True]))
    names = list(signature.outputs)
    return Example(inputs, feed, dict(zip(names, session.run(feed, names, deadline), strict=True)))


def _is_telling(outputs: Any) -> bool:
    """Whether an output has values, and all of them are numbers or texts."""
    arrays = list(outputs)
    finite = all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays)
    return finite and any(array.size for array in arrays)


class _Candidates:
    """Shapes for the inputs, the likeliest first; those with lengths that were learnt meanwhile come in between."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = specs
        self._lengths = list(LENGTHS)
        self._learnt: list[int] = []

    def learn(self, message: str) -> None:
        """Takes the lengths that a message names, as in `C: 1 kernel channels: 3`."""
        for text in re.findall(r"(?<![\w.])\d{1,4}(?![\w.])", message):
            number = int(text)
            if 1 < number <= _MOST_LENGTH and number not in self._lengths:
                self._lengths.append(number)
                self._learnt.append(number)

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        seen: set[tuple[tuple[int, ...], ...]] = set()
        for unranked in _UNRANKED if any(spec.shape is None for spec in self._specs) else _UNRANKED[:1]:
            found = [axes(spec, unranked) for spec in self._specs]
            for lengths in self._of(found):
                shapes = [tuple(a if isinstance(a, int) else lengths[a] for a in each) for each in found]
                if tuple(shapes) not in seen:
                    seen.add(tuple(shapes))
                    yield shapes

    def _of(self, axes: Sequence[Sequence[int | str]]) -> Iterator[_Lengths]:
        names = list(dict.fromkeys(axis for each in axes for axis in each if isinstance(axis, str)))
        first = {each[0] for each in axes if each}
        yield from self._tried(names, self._lengths, lambda length, name: 1 if name in first else length)
        yield from self._tried(names, self._lengths, lambda length, _: length)
        # Other lengths for each: few at once, as their number grows with the axes.
        for lengths in product([*self._learnt, *LENGTHS], repeat=len(names)):
            yield dict(zip(names, lengths, strict=True))

    def _tried(
        self, names: Sequence[str], lengths: Sequence[int], choose: Callable[[int, str], int]
    ) -> Iterator[_Lengths]:
        for length in lengths:  # which grows meanwhile
            yield {name: choose(length, name) for name in names}


def axes(spec: TensorSpec, unranked: tuple[int, ...]) -> list[int | str]:
    """The axes of an input: a length, or what has to have the same length wherever it comes."""
    shape = unranked if spec.shape is None else spec.shape
    symbols = spec.symbols or ("",) * len(shape)
    named = ["batch" if axis == 0 else f"{spec.name}/{axis}" for axis in range(len(shape))]
    return [
        (symbol or name) if length == -1 else length
        for length, symbol, name in zip(shape, symbols, named, strict=False)
    ]


class _Values(NamedTuple):
    """What an input is filled with; None stands for random floats, and for counting."""

    number: float | None
    integer: int | None
    word: str

    def of(self, spec: TensorSpec, count: int) -> list[Any]:
        """So many values of the input's datatype; of two inputs not the same random ones."""
        if spec.datatype.kind == "string":
            return [self.word] * count
        if spec.datatype.name == "BOOL":
            return [self.integer != 0] * count
        if not spec.datatype.is_float:
            return [index % 8 for index in range(count)] if self.integer is None else [self.integer] * count
        generator = Random(spec.name)  # noqa: S311
        return [round(generator.random(), 2) if self.number is None else self.number for _ in range(count)]


# Ones for integers: a mask of zeros hides everything, and a table of any size has a place 1. Texts may hold numbers.
_VALUES = (
    _Values(None, 1, "word"),
    _Values(0.0, 0, "1"),
    _Values(1.0, 1, ""),
    _Values(None, None, "word"),
)


def _tensor(spec: TensorSpec, shape: Sequence[int], values: _Values) -> dict[str, Any]:
    data = values.of(spec, prod(shape))
    return {"name": spec.name, "shape": list(shape), "datatype": spec.datatype.name, "data": data}
