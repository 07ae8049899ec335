"""A model's inputs and outputs, and the checks of a request against them."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from inferry.errors import InvalidRequest
from inferry.protocol.conversion import exact
from inferry.protocol.tensors import Array, Buffer, Datatype, Shape, Tensor, from_bytes
from inferry.protocol.types import InferRequest

Feed: TypeAlias = dict[str, Array]

# What KServe's examples and MLServer's call the input of a model that has one.
DEFAULT_NAMES = frozenset(("input-0", "predict"))


class TensorSpec(NamedTuple):
    """An input or output: `shape` has -1 for axes of any length, and is None where the file states no rank.

    `optional` inputs have a default in the model. `symbols` are the file's names of the axes, empty for those without.
    """

    name: str
    datatype: Datatype
    shape: Shape | None
    optional: bool = False
    labels: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()

    @property
    def row(self) -> Shape | None:
        """The shape of a row: without the first axis, None where the file states no rank."""
        return None if self.shape is None else self.shape[1:]

    @property
    def is_fixed(self) -> bool:
        """Whether the model declares one shape for all rows."""
        return self.shape is not None and -1 not in self.shape[1:]

    @property
    def stated(self) -> list[int]:
        """`shape` for documents that need one: an array of any length is right where any shape is."""
        return [-1] if self.shape is None else list(self.shape)

    def fitted(self, shape: Shape) -> Shape | None:
        """The shape of a row for values of `shape`, None when there is none.

        Values of another rank take the row's shape where their number tells it; those of the row's own rank have it.
        """
        row = self.row
        if row is None or (len(shape) == len(row) and fits(shape, row)):
            return shape
        return None if len(shape) == len(row) else _filled(row, math.prod(shape))

    @property
    def rows(self) -> str:
        """The shape of a row of this tensor, for messages."""
        return "any shape" if self.row is None else f"the shape {list(self.row)}"


class Requested(NamedTuple):
    """The outputs to answer with, those of them to send as bytes, and those to send as their best `classes`."""

    names: tuple[str, ...]
    binary: frozenset[str]
    classes: Mapping[str, int] = {}


class Known(NamedTuple):
    """What a request for `model` may name: its inputs and outputs, and objects that hold them if `references`.

    `fewest`: 0 of a model that runs without inputs, else 1.
    """

    model: str
    inputs: Collection[str]
    outputs: Collection[str]
    references: bool = True
    fewest: int = 1


@dataclass(slots=True, eq=False, repr=False)
class Signature:
    """What the model called `model` takes and gives; `max_batch_size` 0 means that axis 0 is not a batch."""

    model: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    max_batch_size: int = 0
    required: frozenset[str] = field(init=False)
    _counted: str = field(init=False)
    _all: Mapping[bool, "Requested"] = field(init=False)
    # By whether tensors may be by reference.
    known: Mapping[bool, Known] = field(init=False)

    def __post_init__(self) -> None:
        required = frozenset(spec.name for spec in self.inputs.values() if not spec.optional)
        object.__setattr__(self, "required", required)
        object.__setattr__(self, "_counted", next((name for name in self.inputs if name in required), ""))
        names = tuple(self.outputs)
        everything = {False: Requested(names, frozenset()), True: Requested(names, frozenset(names))}
        object.__setattr__(self, "_all", everything)
        object.__setattr__(
            self,
            "known",
            {may: Known(self.model, self.inputs, self.outputs, may, 1 if required else 0) for may in (False, True)},
        )

    def feed(self, request: InferRequest) -> Feed:
        """The request's inputs, checked. InvalidRequest names the tensor, what came and what was expected."""
        if request.raw is not None:
            request.inputs = self._raw(request.raw)
        inputs, specs = request.inputs, self.inputs
        if inputs.keys() != self.required and not self.required <= inputs.keys() <= specs.keys():
            inputs = request.inputs = self._named(inputs)
        feed = {}
        for name, tensor in inputs.items():
            spec, array = specs[name], tensor.array
            if tensor.datatype is not spec.datatype or not fits(array.shape, spec.shape):
                array = self._fitted(tensor, spec)
            feed[name] = array
        if self.max_batch_size:
            self._check_batch(feed)
        return feed

    def rows(self, request: InferRequest) -> int:
        """Rows of a request that `feed` took: axis 0 of the model's first required input, 1 for a scalar or none.

        Optional inputs are parameters of the run, and the order of a request's inputs says nothing.
        """
        tensor = request.inputs.get(self._counted)
        shape: Shape = tensor.array.shape if tensor is not None else ()
        return shape[0] if shape else 1

    def requested(self, request: InferRequest) -> Requested:
        """The outputs to answer with, all of the model's unless the request names some."""
        if not request.outputs:
            return self._all[request.binary]
        for output in request.outputs:
            if output.name not in self.outputs:
                raise unexpected("output", output.name, self.model, self.outputs)
        return Requested(
            tuple(output.name for output in request.outputs),
            frozenset(output.name for output in request.outputs if output.binary),
            {output.name: output.classification for output in request.outputs if output.classification},
        )

    def _named(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The model's only input, which the request calls by a name that other servers have for it."""
        if len(self.required) != 1 or len(inputs) != 1 or not inputs.keys() <= DEFAULT_NAMES - self.inputs.keys():
            raise self._wrong_names(inputs)
        return dict(zip(self.required, inputs.values(), strict=True))

    def _wrong_names(self, inputs: Mapping[str, Tensor]) -> InvalidRequest:
        unknown = [name for name in inputs if name not in self.inputs]
        if unknown:
            return unexpected("input", unknown[0], self.model, self.inputs)
        missing = sorted(self.required - inputs.keys())
        count = len(self.required)
        expected = f"{count} inputs" if count == len(self.inputs) else f"{count} to {len(self.inputs)} inputs"
        got = f"{len(inputs)} inputs" if count == len(self.inputs) else f"{count - len(missing)} of the required ones"
        return InvalidRequest(
            f"expected {expected} but got {got} for model '{self.model}'. "
            f"Got input(s) {list(inputs)}, but missing required input(s) {missing}"
        )

    def _fitted(self, tensor: Tensor, spec: TensorSpec) -> Array:
        """The values of a tensor of another datatype, or of a column for an input of columns, as the model takes them.

        Clients of KServe and MLServer send a DataFrame's columns so: of the shape [n], and pandas' datatypes.
        """
        array = tensor.array
        if not fits(array.shape, spec.shape):
            if array.ndim != 1 or not fits((*array.shape, 1), spec.shape):
                raise self._misshapen(tensor, spec)
            array = array.reshape(-1, 1)
        if tensor.datatype is spec.datatype:
            return array
        what = (
            f"inference input '{tensor.name}' data-type is '{tensor.datatype.name}', "
            f"but model '{self.model}' expects '{spec.datatype.name}'"
        )
        if not (tensor.datatype.is_number and spec.datatype.is_number):
            raise InvalidRequest(what)
        return exact(array, tensor.datatype, spec.datatype, what)

    def _misshapen(self, tensor: Tensor, spec: TensorSpec) -> InvalidRequest:
        return InvalidRequest(
            f"unexpected shape for input '{tensor.name}' for model '{self.model}'. "
            f"Expected {spec.stated}, got {list(tensor.array.shape)} (-1 stands for any length)"
        )

    def _check_batch(self, feed: Feed) -> None:
        # Optional inputs are parameters of the run, not rows.
        try:
            sizes = {name: len(array) for name, array in feed.items() if name in self.required}
        except TypeError as exc:  # a scalar, where the file states no rank
            shapes = {name: list(array.shape) for name, array in feed.items() if name in self.required}
            raise InvalidRequest(
                f"the inputs of model '{self.model}' must have a batch axis (axis 0), got the shapes {shapes}"
            ) from exc
        if len(set(sizes.values())) > 1:
            raise InvalidRequest(f"the inputs of model '{self.model}' differ in batch size (axis 0): {sizes}")
        size = next(iter(sizes.values()), 0)
        if size > self.max_batch_size:
            raise InvalidRequest(
                f"inference request batch-size must be <= {self.max_batch_size} for '{self.model}', got {size}"
            )

    def _raw(self, raw: Buffer) -> dict[str, Tensor]:
        """The input of a raw binary request: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md."""
        candidates = self.required or self.inputs.keys()
        if len(candidates) != 1:
            raise InvalidRequest(
                f"a raw binary request needs a model with one input; '{self.model}' has {_names(self.inputs)}"
            )
        spec = self.inputs[next(iter(candidates))]
        what = f"input '{spec.name}' for model '{self.model}'"
        if spec.datatype.dtype.hasobject:
            raw = len(raw).to_bytes(4, "little") + raw
            shape = tuple(1 if length == -1 else length for length in spec.stated)
        else:
            shape = self._raw_shape(spec, len(raw), what)
        return {spec.name: Tensor(spec.name, spec.datatype, from_bytes(spec.datatype, shape, raw, what))}

    def _raw_shape(self, spec: TensorSpec, size: int, what: str) -> Shape:
        shape = tuple(spec.stated)
        if self.max_batch_size:
            shape = (1, -1) if spec.shape is None else (1, *shape[1:])
        if -1 not in shape:
            return shape
        count, rest = divmod(size, spec.datatype.dtype.itemsize)
        filled = None if rest else _filled(shape, count)
        if filled is None:
            raise InvalidRequest(
                f"the shape of {what}, {spec.stated}, can't be told from the {size} bytes of a raw binary "
                "request; send a JSON header with the shape"
            )
        return filled


def _filled(shape: Shape, size: int) -> Shape | None:
    """`shape` with the length that so many elements leave to its only -1; None where they fit no shape, or several."""
    known, free = math.prod(length for length in shape if length != -1), shape.count(-1)
    if not free:
        return shape if size == known else None
    if free > 1 or not known or size % known:
        return None
    return tuple(size // known if length == -1 else length for length in shape)


@lru_cache(maxsize=1024)
def fits(shape: Shape, wanted: Shape | None) -> bool:
    """Whether `shape` is one of those that `wanted` stands for; any is, without one."""
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(want in (length, -1) for length, want in zip(shape, wanted, strict=True))


def unexpected(item: str, name: str, model: str, known: Iterable[str]) -> InvalidRequest:
    """What a request is refused with whose `item`, an input or output, has a name that the model doesn't know."""
    return InvalidRequest(
        f"unexpected inference {item} '{name}' for model '{model}', whose {item}s are {_names(known)}"
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
