"""The Open Inference Protocol v2 in Python: what a request asks for and a response has."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from inferry.errors import DataRefused
from inferry.protocol.tensors import Buffer, Datatype, Shape, Tensor

HEADER_LENGTH = b"inference-header-content-length"


# No charset: kserve's client compares the type for equality.
JSON = (b"content-type", b"application/json")


OCTETS = (b"content-type", b"application/octet-stream")


Parameters: TypeAlias = Mapping[str, Any]


URI = "uri"


class RequestedOutput(NamedTuple):
    """An output that the request names: how to send it, and the `k` of the classification extension (0: off).

    With a `uri` it is written there instead of being sent.
    """

    name: str
    binary: bool
    classification: int = 0
    uri: str = ""


@dataclass(slots=True, eq=False, repr=False)
class Reference:
    """An input whose elements are in the object at `uri`."""

    name: str
    datatype: Datatype
    shape: Shape
    uri: str


def not_below(uri: str, prefixes: Collection[Any]) -> DataRefused:
    """What a tensor at `uri` is refused with where only objects below `prefixes` may be named."""
    return DataRefused(
        f"{uri[:500]!r} may not be read or written: name an object below one of DATA_PREFIXES"
        + ("" if prefixes else ", which is empty; set it to the prefixes that requests may name")
    )


@dataclass(slots=True)
class InferRequest:
    """An inference request; `outputs` empty means all of the model's, sent as `binary` says.

    `raw` holds the body of a raw binary request, whose single input only the model can describe. `references` are
    inputs that are elsewhere; `by_reference` is true when there are any, or outputs to be written elsewhere.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()
    binary: bool = False
    id: str | None = None
    timeout: float | None = None
    raw: Buffer | None = None
    references: dict[str, Reference] | None = None
    by_reference: bool = False


class Classes(NamedTuple):
    """How to say an output's `k` best classes, of each row where it is `batched`; `labels` are the classes' names."""

    k: int
    batched: bool
    labels: Sequence[str]


@dataclass(slots=True, eq=False, repr=False)
class InferResponse:
    """An inference's response; `binary` names the outputs to send as bytes, `stored` says where others were written.

    `classes` has those outputs that are to be sent as their best classes, which `outputs` have as they are.
    """

    model_name: str
    model_version: str
    outputs: list[Tensor]
    binary: frozenset[str] = frozenset()
    id: str | None = None
    stored: Mapping[str, str] | None = None
    classes: Mapping[str, Classes] | None = None
