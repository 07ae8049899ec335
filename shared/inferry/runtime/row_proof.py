"""Whether rows may run together: a model has to show once that rows together give what each gives alone.

Nothing in an ONNX file promises it. Axes are named after the exporter's fancy, declared lengths can be false, and an
output may be the transpose, the mean or the hits of the whole batch, or depend on the neighbours of a row, as one scale
for all rows of dynamic quantisation does.
"""

import logging
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from inferry.errors import InferryError
from inferry.protocol.signature import Feed, Signature, TensorSpec
from inferry.protocol.tensors import Array, Datatype, Shape, aligned, readable
from inferry.runtime.verdicts import NONE, PROVEN, SINGLE, UNPROVEN, Verdict, Verdicts

log = logging.getLogger("inferry")

ROWS = 3
# Of an output's largest magnitude. Sums of other sizes are added up in another order: an encoder's rows differ by 5e-7.
TOLERANCE = 1e-4
_ROUGH = {"FP16": 1e-2, "BF16": 1e-2}
# How many of a feed's rows are looked at for those that differ most.
_LOOKED_AT = 1024
# What other rows are made of floats with: factors, and what is added so that zeros differ too.
_FACTORS, _OFFSETS = (1.0, -2.0, 0.5), (0.0, 0.5, -0.25)
# Lengths that are tried for axes of any length.
_LENGTHS = (8, 32, 1, 128, 224)
_WORDS = ("a", "two words", "3")

# Programs name every axis of their own: Paddle, ONNX' shape inference and tf2onnx, PyTorch's old exporter, and
# ONNX Runtime's shape inference (ConvTranspose_459_o0__d0).
_ANONYMOUS = r"(p2o\.)?DynamicDimension\.\d+|unk__\d+|.*_dim_\d+|.*_o\d+__d\d+|"
_EXPRESSION = r"[*+/()]|\s-\s"


class Runs(Protocol):
    """What the proof needs of a session."""

    signature: Signature

    def run(self, feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        """The `outputs` for `feed`."""


class RowProof:
    """One model version's verdict, asked for when its rows are joined for the first time. Threads may share it."""

    def __init__(
        self,
        session: Runs,
        digest: str,
        joined: bool,
        verdicts: Verdicts | None = None,
        dynamic: Sequence[str] = (),
    ) -> None:
        """`joined`: the config's word that rows may be joined; `verdicts`: where those of earlier processes are.

        `dynamic`: the model's operators that quantise all rows of a run with one scale.
        """
        self._session = session
        self._digest = digest
        self._verdicts = verdicts
        self._was_read = verdicts is None
        self._lock = threading.Lock()
        self._verdict = declared(session.signature, dynamic)
        if joined and self._verdict.rows != NONE:
            everything = frozenset(session.signature.outputs)
            self._verdict = Verdict(PROVEN, 'config.json says "rows": "joined"', everything)

    @property
    def verdict(self) -> Verdict:
        """What is known of the model's rows now; that of earlier processes is read at the first look."""
        if self._verdict.rows == UNPROVEN and self._verdicts and not self._was_read:
            self._was_read = True
            self._verdict = self._verdicts.read(self._digest) or self._verdict
        return self._verdict

    def joins(self, feed: Feed, deadline: float) -> bool:
        """Whether rows as those of `feed` may run together; what nobody knows yet they prove now, until `deadline`.

        Rows with which the model fails prove nothing: then the next that come are asked. Rows whose outputs are all the
        same don't prove it alone: random ones are asked as well.
        """
        if self._verdict.rows == UNPROVEN:
            with self._lock:
                if self.verdict.rows == UNPROVEN:
                    some = _most_different(feed)
                    self._prove([_with_others(some, self._session.signature), some], deadline)
        return self._verdict.rows == PROVEN

    def by_example(self, example: Feed | None, deadline: float) -> Verdict:
        """The verdict by the rows of an example, else by random ones; UNPROVEN where the model runs with none."""
        with self._lock:
            if self.verdict.rows == UNPROVEN:
                signature = self._session.signature
                given = [] if example is None else [_with_others(_most_different(example), signature)]
                self._prove([*given, *random_feeds(signature)], deadline)
            return self._verdict

    def refute(self, arrays: Mapping[str, Array], rows: int) -> bool:
        """Whether the outputs of `rows` joined rows have not a row for each; then none are joined any more."""
        wrong = [name for name, array in arrays.items() if array.shape[:1] != (rows,)]
        if not wrong:
            return False
        shape = list(arrays[wrong[0]].shape)
        reason = f"a run of {rows} rows gave output '{wrong[0]}' of the shape {shape}, which has not a row per row"
        with self._lock:
            log.warning("model '%s': its rows are not joined any more: %s", self._session.signature.model, reason)
            self._decide(Verdict(SINGLE, reason, self._verdict.outputs - {*wrong}))
        return True

    def _prove(self, feeds: Iterable[Feed], deadline: float) -> None:
        shown = self._first(feeds, deadline)
        if shown is None:
            return
        verdict, silent = shown
        if silent and verdict.rows == PROVEN:
            # The rows of one client, which are all zeros or not numbers, must not decide what others get.
            ours = self._first(random_feeds(self._session.signature), deadline)
            if ours is None and silent == self._session.signature.outputs.keys():
                return
            if ours is not None and ours[0].rows != PROVEN:
                verdict = ours[0]
        self._decide(verdict)

    def _first(self, feeds: Iterable[Feed], deadline: float) -> tuple[Verdict, frozenset[str]] | None:
        """What the first of `feeds` with which the model runs shows."""
        for feed in feeds:
            try:
                return compared(self._session, feed, deadline)
            except InferryError as exc:
                log.debug("these rows prove nothing of model '%s': %s", self._session.signature.model, exc)
        return None

    def _decide(self, verdict: Verdict) -> None:
        self._verdict = verdict
        if self._verdicts is not None:
            self._verdicts.write(self._digest, verdict)


def declared(signature: Signature, dynamic: Sequence[str] = ()) -> Verdict:
    """What the file's axes and operators say already."""
    required = [spec for spec in signature.inputs.values() if not spec.optional]
    fixed = [spec for spec in required if spec.shape and spec.shape[0] not in (-1, 1)]
    if fixed or not required:
        reason = (
            f"the first axis of input '{fixed[0].name}' is fixed: {fixed[0].stated}" if fixed else "it needs no inputs"
        )
        return Verdict(NONE, reason, frozenset())
    others = {name: reason for name, spec in signature.outputs.items() if (reason := _no_rows(spec, required))}
    outputs = frozenset(signature.outputs.keys() - others.keys())
    alone = [spec for spec in required if spec.shape is not None and spec.shape[:1] != (-1,)]
    if alone:
        reason = f"input '{alone[0].name}' has the shape {alone[0].stated}, which takes one row at a time"
        return Verdict(SINGLE, reason, outputs)
    if others:
        return Verdict(SINGLE, next(iter(others.values())), outputs)
    if dynamic:
        # An ArgMax behind it can hide what a neighbour changes in every row that is looked at.
        return Verdict(SINGLE, f"{', '.join(dynamic)} has one scale for all rows of a run", outputs)
    return Verdict(UNPROVEN, "not asked yet", outputs)


def axes(spec: TensorSpec) -> str:
    """The lengths of a tensor's axes with the file's names, as `batch, 3`; empty where nobody has named one."""
    named = [symbol if symbol and not re.fullmatch(_ANONYMOUS, symbol) else "" for symbol in spec.symbols]
    if not any(named) or spec.shape is None:
        return ""
    lengths = ["?" if length == -1 else str(length) for length in spec.shape]
    return ", ".join(name or length for name, length in zip(named, lengths, strict=True))


def _no_rows(spec: TensorSpec, inputs: Sequence[TensorSpec]) -> str:
    """Why, by the names of the axes, an output does not have one row for each row; empty if they don't say so."""
    if spec.shape == ():
        return f"output '{spec.name}' is a scalar"
    symbol = spec.symbols[0] if spec.symbols else ""
    if any(symbol in other.symbols[:1] for other in inputs) or re.fullmatch(_ANONYMOUS, symbol):
        return ""
    if re.search(_EXPRESSION, symbol):
        return f"output '{spec.name}' begins with the axis '{symbol}'"
    for other in inputs:
        if symbol in other.symbols:
            return f"output '{spec.name}' begins with '{symbol}', which is another axis of input '{other.name}'"
    return f"output '{spec.name}' begins with the axis '{symbol}', which no input has"


def compared(session: Runs, feed: Feed, deadline: float) -> tuple[Verdict, frozenset[str]]:
    """The verdict by the rows of `feed` together and each alone, and the outputs that are silent: the same for each row
    alone, or not numbers, so that they would not show what comes from a neighbour. What `run` raises.
    """
    specs = session.signature.outputs
    rows = len(next(iter(feed.values())))
    together = dict(zip(specs, session.run(feed, list(specs), deadline), strict=True))
    alone = []
    for row in range(rows):
        one = {name: aligned(array[row : row + 1]) for name, array in feed.items()}
        alone.append(dict(zip(specs, session.run(one, list(specs), deadline), strict=True)))
    outputs = frozenset(
        name
        for name, array in together.items()
        if array.shape[:1] == (rows,) and all(each[name].shape[:1] == (1,) for each in alone)
    )
    for name, spec in specs.items():
        reason = _difference(together[name], [each[name] for each in alone], spec.datatype)
        if reason:
            return Verdict(SINGLE, f"output '{name}' {reason}", outputs), frozenset()
    silent = (name for name, spec in specs.items() if _is_silent([each[name] for each in alone], spec.datatype))
    return Verdict(PROVEN, "", outputs), frozenset(silent)


def _is_silent(alone: Sequence[Array], datatype: Datatype) -> bool:
    """Whether no value of any row is a number, or a text, that differs from the first row's."""
    first, *others = (_numbers(array, datatype) if datatype.is_float else array for array in alone)
    for other in others:
        differs = first != other
        if datatype.is_float:
            differs &= np.isfinite(first) & np.isfinite(other)
        if differs.any():
            return False
    return True


def _difference(together: Array, alone: Sequence[Array], datatype: Datatype) -> str:
    """How an output of rows together is another than of each alone; empty where it is the same."""
    shapes: list[Shape] = [(1, *together.shape[1:])] * len(alone)
    if together.shape[:1] != (len(alone),) or [array.shape for array in alone] != shapes:
        each = ", ".join(str(list(shape)) for shape in dict.fromkeys(array.shape for array in alone))
        return f"has the shape {list(together.shape)} for {len(alone)} rows together, and {each} for each alone"
    apart = np.concatenate(alone)
    if not datatype.dtype.hasobject and together.tobytes() == apart.tobytes():
        return ""
    if not datatype.is_float:
        same = bool(np.array_equal(together, apart))
        return "" if same else "has other values for rows together than for each alone"
    left, right = (_numbers(array, datatype) for array in (together, apart))
    finite = np.isfinite(left) & np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        return "has other values for rows together than for each alone"
    most = np.abs(left[finite] - right[finite]).max(initial=0)
    size = max(np.abs(left[finite]).max(initial=0), np.abs(right[finite]).max(initial=0))
    if most <= _ROUGH.get(datatype.name, TOLERANCE) * size:
        return ""
    return f"differs by {most / size:.2g} of its largest value between rows together and each alone"


def _numbers(array: Array, datatype: Datatype) -> Array:
    return readable(array, datatype).astype(np.float64)


def _most_different(feed: Feed) -> Feed:
    """ROWS rows of `feed`: its least and its largest, and one between; some more than once where there are fewer."""
    count = min(len(next(iter(feed.values()))), _LOOKED_AT)
    sums: Array = np.zeros(count)
    for array in feed.values():
        flat = array[:count].reshape(count, -1)
        if flat.dtype.hasobject:
            sums += [sum(map(len, map(str, row))) for row in flat]
        elif flat.size:
            sums += flat.sum(1, np.float64)
    order = np.argsort(sums, kind="stable")  # NaN comes last
    chosen = order[[0, -1, count // 2]]
    return {name: aligned(array[chosen]) for name, array in feed.items()}


def _with_others(feed: Feed, signature: Signature) -> Feed:
    """The rows, and behind them the same ones with other signs and sizes: an `If` over a sum hides in rows alike.

    Whole numbers are mostly places in a table and must not become larger: theirs are in another order, or halves.
    """
    floats = any(signature.inputs[name].datatype.is_float for name in feed)
    made = {}
    for name, array in feed.items():
        datatype = signature.inputs[name].datatype
        if datatype.is_float and not datatype.is_bits:
            shape = (ROWS, *[1] * (array.ndim - 1))
            factors, offsets = (np.reshape(values, shape) for values in (_FACTORS, _OFFSETS))
            with np.errstate(over="ignore", invalid="ignore"):
                others = (array * factors + offsets).astype(array.dtype)
        elif datatype.is_integer and not floats:
            others = np.stack([array[0], np.roll(array[1].reshape(-1), 1).reshape(array[1].shape), array[2] // 2])
        else:
            others = array
        made[name] = aligned(np.concatenate((array, others)))
    return made


def random_feeds(signature: Signature) -> Iterator[Feed]:
    """Rows that a model of this signature may run with; no two alike, and the same ones each time."""
    required = [spec for spec in signature.inputs.values() if not spec.optional]
    free = any(not spec.is_fixed for spec in required)
    for length in _LENGTHS if free else _LENGTHS[:1]:
        generator = _Generator()
        # An input of no stated rank has rows of some numbers.
        rows = [(-1,) if spec.row is None else spec.row for spec in required]
        shapes = [(ROWS, *(length if axis == -1 else axis for axis in row)) for row in rows]
        yield {spec.name: _values(spec, shape, generator) for spec, shape in zip(required, shapes, strict=True)}


class _Generator:
    """Random numbers, the same ones each time. The images have no numpy.random."""

    def __init__(self) -> None:
        from random import Random  # 2 ms, for models that bring no example

        self._random = Random(0)  # noqa: S311

    def uniform(self, shape: Shape) -> Array:
        """Random numbers between 0 and 1, neither of them included."""
        bits = np.frombuffer(self._random.randbytes(4 * math.prod(shape)), "<u4")
        numbers: Array = (bits.reshape(shape) + 0.5) / 2**32
        return numbers

    def normal(self, shape: Shape) -> Array:
        """Normally distributed random numbers of mean 0 and variance 1, by Box and Muller."""
        numbers: Array = np.sqrt(-2 * np.log(self.uniform(shape))) * np.cos(2 * np.pi * self.uniform(shape))
        return numbers


def _values(spec: TensorSpec, shape: Shape, generator: _Generator) -> Array:
    datatype = spec.datatype
    if datatype.kind == "string":
        words: Array = np.array(_WORDS, object)[(generator.uniform(shape) * len(_WORDS)).astype(int)]
        return words
    if not datatype.is_float or datatype.is_bits:
        # Of bfloat16 these are the bits 0 and the least number: enough to be different.
        return aligned((generator.uniform(shape) < 0.5).astype(datatype.dtype))
    factors = np.reshape(_FACTORS, (ROWS, *[1] * (len(shape) - 1)))
    values = generator.normal(shape)
    # Rows whose sums are on either side of zero, whichever numbers came.
    signs = np.copysign(1, values.sum(axis=tuple(range(1, len(shape))), keepdims=True))
    return aligned((values * signs * factors).astype(datatype.dtype))
