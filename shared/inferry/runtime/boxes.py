"""Which outputs of a model are boxes in an image: what `postprocess` of config.json says, and whether that fits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from inferry.errors import InvalidModel
from inferry.protocol.signature import Signature, TensorSpec

FORMATS = ("xyxy", "xywh", "cxcywh", "yxyx")
UNITS = ("pixels", "relative")
# Of a box, and of one with its score and its class behind it.
_BOX, _WHOLE = 4, 6


class Boxes(NamedTuple):
    """`boxes`: the output of four numbers for each box, in `format`; without `scores`, score and class are behind them.

    `scores`: the output of a score for each box, or of one for each class; `classes`: the output of the numbers of
    their classes; `unit`: pixels of what the model sees, or shares of it from 0 to 1; `labels`: names of the classes.
    """

    boxes: str = ""
    scores: str = ""
    classes: str = ""
    format: str = ""
    unit: str = "pixels"
    labels: tuple[str, ...] = ()


def settled(
    boxes: Boxes, signature: Signature, labels: Mapping[str, tuple[str, ...]], what: str, shared: bool
) -> Boxes | None:
    """The same, with the labels that the outputs have. InvalidModel where it doesn't fit them.

    What is `shared` with other versions may be about their outputs only: then None.
    """
    for key in ("boxes", "format"):
        if not getattr(boxes, key):
            raise InvalidModel(f"'postprocess' in config.json of {what} must say '{key}'")
    named = [name for name in (boxes.boxes, boxes.scores, boxes.classes) if name]
    unknown = [name for name in named if name not in signature.outputs]
    if unknown == named and shared:
        return None
    if unknown:
        raise InvalidModel(
            f"'postprocess' in config.json names output '{unknown[0]}', which {what} doesn't have; its outputs are "
            f"{', '.join(map(repr, signature.outputs))}"
        )
    length = _BOX if boxes.scores else _WHOLE
    spec = signature.outputs[boxes.boxes]
    if _last(spec) not in (-1, length):
        behind = "" if boxes.scores else ", its score and its class: name 'scores' where they are outputs of their own"
        raise InvalidModel(
            f"'postprocess' in config.json of {what} says that output '{spec.name}' has {length} numbers for each box"
            f"{behind}, but its shape is {spec.stated}"
        )
    if boxes.classes and not boxes.scores:
        raise InvalidModel(f"'postprocess' in config.json of {what} names 'classes', but no 'scores'")
    found = labels.get(boxes.classes) or labels.get(boxes.scores) or ()
    return boxes._replace(labels=boxes.labels or tuple(found))


def _last(spec: TensorSpec) -> int:
    return spec.shape[-1] if spec.shape else -1


def _text(value: Any, _: str) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(value: Any, _: str) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


CHECKS: Mapping[str, Any] = {
    "boxes": ("the name of an output", _text),
    "scores": ("the name of an output", _text),
    "classes": ("the name of an output", _text),
    "format": (f"one of {', '.join(FORMATS)}", lambda value, _: value if value in FORMATS else None),
    "unit": (f"one of {', '.join(UNITS)}", lambda value, _: value if value in UNITS else None),
    "labels": ("an array of names", _names),
}
