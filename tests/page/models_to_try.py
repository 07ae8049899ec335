"""The example models, and small ones for what these don't show: boxes, other datatypes, free axes, a broken one."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
from onnx import TensorProto, helper, numpy_helper

EXAMPLES = Path(__file__).parents[2] / "models"
SIDE = 64
LABELS = ["nothing", "something red"]


def write(folder: Path) -> Path:
    """All of them, as a repository."""
    for example in EXAMPLES.glob("*/config.json"):
        shutil.copytree(example.parent, folder / example.parent.name)
    return onnx_models.write(folder, FILES)


def detector() -> bytes:
    """Finds what is red in `image` [1, 3, 64, 64]: `boxes` [1, 4] as left, top, right, bottom, `scores`, `classes`."""
    constants = {
        "first": np.array([0]), "one": np.array([1]), "channel": np.array([1]), "half": np.array(0.5, np.float32),
        "rows": np.array([0, 1, 3]), "columns": np.array([0, 1, 2]), "all": np.array([0, 1, 2, 3]),
        "class": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["image", "first", "one", "channel"], ["red"]),
        helper.make_node("Greater", ["red", "half"], ["is_red"]),
        helper.make_node("Cast", ["is_red"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["mask", "rows"], ["by_row"], keepdims=0),
        helper.make_node("ReduceMax", ["mask", "columns"], ["by_column"], keepdims=0),
        helper.make_node("ReduceMax", ["red", "all"], ["score"], keepdims=0),
        helper.make_node("Unsqueeze", ["score", "first"], ["scores"]),
        helper.make_node("Identity", ["class"], ["classes"]),
    ]
    for axis, low, high in (("by_column", "left", "right"), ("by_row", "top", "bottom")):
        nodes += [
            helper.make_node("ArgMax", [axis], [low], axis=0, keepdims=1),
            helper.make_node("ArgMax", [axis], [f"last_{high}"], axis=0, keepdims=1, select_last_index=1),
            helper.make_node("Add", [f"last_{high}", "one"], [high]),
        ]
    nodes += [
        helper.make_node("Concat", ["left", "top", "right", "bottom"], ["box"], axis=0),
        helper.make_node("Cast", ["box"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "first"], ["boxes"]),
    ]
    outputs = {"boxes": ("FP32", (1, 4)), "scores": ("FP32", (1,)), "classes": ("INT64", (1,))}
    return onnx_models.model(
        nodes,
        [onnx_models.tensor("image", "FP32", (1, 3, SIDE, SIDE))],
        [onnx_models.tensor(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


# What RED of test_page is in 64 x 64 pixels, 160 x 120 stretched to them, as each format writes it.
BOXES: dict[str, dict[str, Any]] = {
    "xywh": {"boxes": [[16, 32 / 3, 32, 32]], "scores": [0.9]},
    "cxcywh": {"boxes": [[32, 80 / 3, 32, 32]], "scores": [0.9]},
    "yxyx": {"boxes": [[1 / 6, 1 / 4, 2 / 3, 3 / 4]], "scores": [0.9], "unit": "relative"},
    "xyxy": {"boxes": [[0, 0, 1, 1, 0.1, 0], [16, 32 / 3, 48, 128 / 3, 0.9, 1]]},
    "by-class": {"boxes": [[16, 32 / 3, 48, 128 / 3]], "scores": [[0.2, 0.9]], "format": "xyxy"},
}


def fixed(outputs: Mapping[str, Any]) -> bytes:
    """Finds the same in each `image`."""
    values = {name: np.array([value], np.float32) for name, value in outputs.items()}
    zero = [
        helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["zero"]),
    ]
    constants = {"nothing": np.array(0, np.float32), **{f"{name}_found": value for name, value in values.items()}}
    return onnx_models.model(
        [*zero, *(helper.make_node("Add", [f"{name}_found", "zero"], [name]) for name in values)],
        [onnx_models.tensor("image", "FP32", (1, 3, SIDE, SIDE))],
        [onnx_models.tensor(name, "FP32", value.shape) for name, value in values.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def finding(name: str) -> Mapping[str, bytes]:
    found = dict(BOXES[name])
    told = {"format": found.pop("format", name), "labels": LABELS, "unit": found.pop("unit", "pixels")}
    return {
        f"boxes-{name}/1/model.onnx": fixed(found),
        f"boxes-{name}/config.json": card(
            preprocess={"image": {"resize": "stretch"}}, postprocess={**{key: key for key in found}, **told}
        ),
    }


def loudness() -> bytes:
    """Of the samples `wave` [n, m], `loudest` [n] and how many there are in a row, `count` [1]."""
    return onnx_models.model(
        [
            helper.make_node("ReduceMax", ["wave", "last"], ["loudest"], keepdims=0),
            helper.make_node("Shape", ["wave"], ["count"], start=1, end=2),
        ],
        [onnx_models.tensor("wave", "FP32", ("n", "m"))],
        [onnx_models.tensor("loudest", "FP32", ("n",)), onnx_models.tensor("count", "INT64", (1,))],
        [numpy_helper.from_array(np.array([1]), "last")],
    )


def card(**keys: Any) -> bytes:
    return json.dumps(keys).encode()


def detecting(resize: str) -> Mapping[str, bytes]:
    return {
        f"red-{resize}/1/model.onnx": detector(),
        f"red-{resize}/config.json": card(
            description=f"Finds what is red ({resize}).",
            labels={"classes": LABELS},
            preprocess={"image": {"resize": resize, "resample": "nearest"}},
            postprocess={"boxes": "boxes", "scores": "scores", "classes": "classes", "format": "xyxy"},
        ),
    }


FILES: dict[str, bytes] = {
    **detecting("stretch"),
    **detecting("pad"),
    **detecting("crop"),
    **{path: content for name in BOXES for path, content in finding(name).items()},
    "kinds/1/model.onnx": onnx_models.echo(
        {
            "flag": ("BOOL", ("n", 1)),
            "count": ("INT64", ("n", 1)),
            "small": ("UINT8", ("n", 1)),
            "word": ("BYTES", ("n", 1)),
        }
    ),
    "free.onnx": onnx_models.identity("FP32", ("n", "m", "k")),
    "wide/1/model.onnx": onnx_models.identity("FP32", ("n", 400)),
    "names/1/model.onnx": onnx_models.identity("FP32", ("n", 3)),
    "names/config.json": card(description="Gives back what it gets.", columns=["red", "green", "blue"]),
    "mixed/1/model.onnx": onnx_models.echo({"image": ("UINT8", ("n", 4, 4, 3)), "k": ("FP32", ("n", 1))}),
    "mixed/config.json": card(preprocess={"image": {"resize": "stretch"}}),
    "loudness/1/model.onnx": loudness(),
    "loudness/config.json": card(sound={"wave": 16000}),
    "broken/1/model.onnx": b"no model",
    "broken/2/model.onnx": b"neither",
}
