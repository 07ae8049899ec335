"""`preprocess` of a config.json: its keys, and whether it fits the inputs of a model."""

import json
from typing import Any

import pytest
from inferry.errors import InvalidModel
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import DATATYPES
from inferry.runtime.model_config import parse_config
from inferry.runtime.preprocess import CHECKS, PIXELS, Preprocess, settled

PLANES = (-1, 3, 4, 6)


def parsed(**keys: Any) -> Preprocess:
    return parse_config(json.dumps({"preprocess": {"x": keys}}).encode(), "m").preprocess["x"]


def fitted(shape: tuple[int, ...] | None = PLANES, datatype: str = "FP32", **keys: Any) -> Preprocess:
    signature = Signature("m", {"x": TensorSpec("x", DATATYPES[datatype], shape)}, {})
    return settled({"x": parsed(**{"resize": "stretch", **keys})}, signature, "model 'm'", shared=False)["x"]


def refused(**keys: Any) -> str:
    with pytest.raises(InvalidModel) as caught:
        fitted(**keys)
    return str(caught.value)


def test_every_key() -> None:
    keys = {
        "resize": "crop",
        "size": [224, 192],
        "short_side": 256,
        "resample": "bicubic",
        "channels": "BGR",
        "layout": "NHWC",
        "scale": 0.5,
        "mean": [1, 2.5, 3],
        "std": 2,
        "fill": [1, 2, 3],
        "align": "start",
    }
    assert keys.keys() == set(CHECKS) == set(Preprocess._fields)
    assert parsed(**keys) == Preprocess(
        "crop", (224, 192), 256, "bicubic", "BGR", "NHWC", 0.5, (1.0, 2.5, 3.0), (2.0,), (1, 2, 3), "start"
    )
    assert parsed(size=8).size == (8, 8)
    assert parsed() == Preprocess()


BAD = [
    ("resize", "fit"),
    ("resize", 3),
    ("size", 0),
    ("size", [4, 4, 3]),
    ("size", [4, 4.0]),
    ("size", True),
    ("size", [PIXELS, 2]),
    ("short_side", 0),
    ("resample", "area"),
    ("channels", "rgb"),
    ("layout", "HWC"),
    ("scale", 0),
    ("scale", -1),
    ("scale", [1]),
    ("scale", "1/255"),
    ("mean", "0.5"),
    ("mean", []),
    ("std", [1, 0, 1]),
    ("fill", 256),
    ("fill", [0, 0]),
    ("align", "left"),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_values(key: str, value: Any) -> None:
    with pytest.raises(InvalidModel) as caught:
        parsed(**{key: value})
    assert str(caught.value).startswith(
        f"'preprocess.x.{key}' in config.json of model 'm' must be {CHECKS[key][0]}, got "
    )


def test_every_key_has_bad_values() -> None:
    assert {key for key, _ in BAD} == set(CHECKS)


@pytest.mark.parametrize("value", ["[]", '"x"', '{"x":[]}', '{"x":{"sizes":1}}'])
def test_other_shapes(value: str) -> None:
    with pytest.raises(InvalidModel, match="preprocess"):
        parse_config(f'{{"preprocess":{value}}}'.encode(), "m")


@pytest.mark.parametrize(
    ("shape", "keys", "layout", "size", "row"),
    [
        (PLANES, {}, "NCHW", (4, 6), (3, 4, 6)),
        ((-1, 4, 6, 3), {}, "NHWC", (4, 6), (4, 6, 3)),
        ((-1, 3, 3, 3), {"layout": "NHWC"}, "NHWC", (3, 3), (3, 3, 3)),
        ((-1, 3, -1, -1), {"size": [5, 7]}, "NCHW", (5, 7), (3, 5, 7)),
        ((-1, -1, -1, -1), {"size": 5, "layout": "NCHW"}, "NCHW", (5, 5), (3, 5, 5)),
        (None, {"size": 5, "layout": "NHWC"}, "NHWC", (5, 5), (5, 5, 3)),
        ((-1, 1, 4, 6), {"channels": "grey"}, "NCHW", (4, 6), (1, 4, 6)),
        ((-1, 4, 6), {"channels": "grey"}, "NCHW", (4, 6), (1, 4, 6)),
        ((-1, 24), {"channels": "grey", "size": [4, 6], "layout": "NCHW"}, "NCHW", (4, 6), (1, 4, 6)),
    ],
)
def test_what_the_input_says(
    shape: tuple[int, ...] | None, keys: dict[str, Any], layout: str, size: tuple[int, ...], row: tuple[int, ...]
) -> None:
    found = fitted(shape, **keys)
    assert (found.layout, found.size, found.row) == (layout, size, row)


def test_scales() -> None:
    """Floats are from 0 to 1 unless a scale says otherwise; integers are what pixels are."""
    assert (fitted().scale, fitted(scale=1).scale, fitted(datatype="UINT8").scale) == (1 / 255, 1.0, 1.0)
    assert fitted(scale=1, mean=[104, 117, 123]).mean == (104.0, 117.0, 123.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"resize": "crop", "size": 8}, "makes rows of the shape [3, 8, 8], but the input's have the shape [3, 4, 6]"),
        ({"layout": "NHWC"}, "makes rows of the shape [3, 4, 3], but the input's have the shape [3, 4, 6]"),
        ({"channels": "grey"}, 'must say where the 1 channels are, "layout": "NCHW" or "NHWC"'),
        ({"shape": (-1, 3, 4, 3)}, 'must say where the 3 channels are, "layout": "NCHW" or "NHWC"'),
        ({"shape": (-1, 3, -1, 6)}, "must say the size of images, [height, width]: rows have the shape [3, -1, 6]"),
        ({"short_side": 8}, 'has a short_side, which is for "resize": "crop" only, and not for stretch'),
        ({"resize": "crop", "short_side": 5}, "crops [4, 6] from images whose short side is only 5"),
        ({"datatype": "INT8"}, "is about an input of INT8, which can't hold pixels from 0 to 255"),
        ({"datatype": "BYTES"}, "is about an input of BYTES, which can't hold pixels from 0 to 255"),
        ({"datatype": "UINT8", "scale": 1}, "has a scale, mean or std, but the input takes UINT8"),
        ({"datatype": "UINT8", "std": 2}, "has a scale, mean or std, but the input takes UINT8"),
        ({"mean": [0.5, 0.5]}, "has 2 values for mean: one is needed, or one for each of 3"),
        ({"mean": 123.675}, 'has the mean [123.675], but pixels are from 0 to 1 after "scale": 0.003922'),
    ],
)
def test_what_does_not_fit(keys: dict[str, Any], message: str) -> None:
    assert f"'preprocess.x' in config.json of model 'm' {message}" in refused(**keys)


def test_how_images_get_their_size_must_be_said() -> None:
    signature = Signature("m", {"x": TensorSpec("x", DATATYPES["FP32"], PLANES)}, {})
    with pytest.raises(InvalidModel, match='"resize" is one of stretch, crop, pad'):
        settled({"x": Preprocess()}, signature, "model 'm'", shared=False)


def test_inputs_of_other_versions() -> None:
    signature = Signature("m", {"x": TensorSpec("x", DATATYPES["FP32"], PLANES)}, {})
    both = {"x": parsed(resize="pad"), "y": parsed(resize="pad")}
    assert settled(both, signature, "version 1", shared=True).keys() == {"x"}
    with pytest.raises(InvalidModel, match="names input 'y', which version 1 doesn't have; its inputs are 'x'"):
        settled(both, signature, "version 1", shared=False)
