"""What `postprocess` of config.json says of a model's outputs, and what doesn't fit them."""

import json
from typing import Any

import pytest
from inferry.errors import InvalidModel
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import DATATYPES
from inferry.runtime.boxes import Boxes, settled
from inferry.runtime.model_config import parse_config

OUTPUTS = {
    "boxes": TensorSpec("boxes", DATATYPES["FP32"], (-1, 4)),
    "scores": TensorSpec("scores", DATATYPES["FP32"], (-1,)),
    "numbers": TensorSpec("numbers", DATATYPES["INT64"], (-1,)),
    "whole": TensorSpec("whole", DATATYPES["FP32"], (1, 300, 6)),
    "open": TensorSpec("open", DATATYPES["FP32"], None),
}
SEPARATE = {"boxes": "boxes", "scores": "scores", "format": "xyxy"}
LABELS = {"numbers": ("cat", "dog"), "scores": ("a", "b")}


def read(shared: bool = False, **keys: Any) -> Boxes | None:
    boxes = parse_config(json.dumps({"postprocess": keys}).encode(), "m").postprocess
    assert boxes is not None
    return settled(boxes, Signature("m", {}, OUTPUTS), LABELS, "model 'm'", shared)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (SEPARATE, Boxes("boxes", "scores", "", "xyxy", "pixels", ("a", "b"))),
        (
            {**SEPARATE, "classes": "numbers", "unit": "relative"},
            Boxes("boxes", "scores", "numbers", "xyxy", "relative", ("cat", "dog")),
        ),
        ({**SEPARATE, "labels": ["x"]}, Boxes("boxes", "scores", "", "xyxy", "pixels", ("x",))),
        ({"boxes": "whole", "format": "cxcywh"}, Boxes("whole", "", "", "cxcywh", "pixels", ())),
        ({"boxes": "open", "format": "yxyx"}, Boxes("open", "", "", "yxyx", "pixels", ())),
    ],
)
def test_what_it_says(keys: dict[str, Any], expected: Boxes) -> None:
    assert read(**keys) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"format": "xyxy"}, "must say 'boxes'"),
        ({"boxes": "boxes"}, "must say 'format'"),
        (
            {**SEPARATE, "scores": "score"},
            "names output 'score', which model 'm' doesn't have; its outputs are 'boxes', ",
        ),
        ({"boxes": "boxes", "format": "xyxy"}, r"has 6 numbers for each box, its score and its class: .* \[-1, 4\]"),
        ({**SEPARATE, "boxes": "whole"}, r"has 4 numbers for each box, but its shape is \[1, 300, 6\]"),
        ({"boxes": "whole", "format": "xyxy", "classes": "numbers"}, "names 'classes', but no 'scores'"),
        (
            {**SEPARATE, "format": "yxxy"},
            "'postprocess.format' in .* must be one of xyxy, xywh, cxcywh, yxyx, got 'yxxy'",
        ),
        ({**SEPARATE, "unit": "mm"}, "'postprocess.unit' in .* must be one of pixels, relative, got 'mm'"),
        ({**SEPARATE, "labels": [1]}, "'postprocess.labels' in .* must be an array of names"),
        ({**SEPARATE, "boxes": ""}, "'postprocess.boxes' in .* must be the name of an output"),
        (
            {**SEPARATE, "nms": 0.5},
            "unknown key 'postprocess.nms'; known are boxes, scores, classes, format, unit, labels",
        ),
    ],
)
def test_what_does_not_fit(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidModel, match=expected):
        read(**keys)


def test_of_other_versions() -> None:
    others: dict[str, Any] = {"boxes": "b", "scores": "s", "format": "xyxy"}
    assert read(shared=True, **others) is None
    with pytest.raises(InvalidModel, match="names output 'b'"):
        read(**others)
    with pytest.raises(InvalidModel, match="names output 's'"):
        read(shared=True, **{**others, "boxes": "boxes"})
