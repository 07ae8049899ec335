"""How images become rows of a model's input: what `preprocess` of config.json says of it, and whether that fits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inferry.errors import InvalidModel
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import Shape

STRETCH, CROP, PAD = "stretch", "crop", "pad"
RESIZES = (STRETCH, CROP, PAD)
RESAMPLES = ("nearest", "bilinear", "bicubic", "lanczos")
GREY = "grey"
CHANNELS = ("RGB", "BGR", GREY)
LAYOUTS = ("NCHW", "NHWC")
# Pixels of an image, and of what it is resized to: 150 MB of RGB. A photo of 48 megapixels has fewer.
PIXELS = 50_000_000
# Of the values of pixels.
LARGEST = 255
# By default floats are what PyTorch's `ToTensor` makes of pixels.
_SCALE = 1 / LARGEST


class Preprocess(NamedTuple):
    """How the images of an input are read.

    `size`: height and width of what the model sees; `resize`: one of RESIZES; `short_side`: pixels of the short side
    before a crop, 0 for the least that holds one; `scale`, `mean`, `std`: (pixel * scale - mean) / std, the last two
    for all channels or for each, as the model has them; `fill`: a pixel of what `pad` adds; `align`: "center", or
    "start" to add it at the right and at the bottom only.
    """

    resize: str = ""
    size: tuple[int, ...] = ()
    short_side: int = 0
    resample: str = "bilinear"
    channels: str = "RGB"
    layout: str = ""
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fill: tuple[int, ...] = (0,)
    align: str = "center"

    @property
    def depth(self) -> int:
        """How many channels there are."""
        return 1 if self.channels == GREY else 3

    @property
    def row(self) -> Shape:
        """The shape of an image as a row, before it is made that of the input's rows."""
        return (self.depth, *self.size) if self.layout == "NCHW" else (*self.size, self.depth)


def settled(
    preprocess: Mapping[str, Preprocess], signature: Signature, what: str, shared: bool
) -> dict[str, Preprocess]:
    """The same with what the inputs say: layout, size and scale. InvalidModel where it doesn't fit one of them.

    What is `shared` with other versions may name their inputs too.
    """
    unknown = [name for name in preprocess if name not in signature.inputs]
    if unknown and not (shared and preprocess.keys() & signature.inputs.keys()):
        raise InvalidModel(
            f"'preprocess' in config.json names input '{unknown[0]}', which {what} doesn't have; its inputs are "
            f"{', '.join(map(repr, signature.inputs))}"
        )
    return {
        name: _settled(how, signature.inputs[name], f"'preprocess.{name}' in config.json of {what}")
        for name, how in preprocess.items()
        if name in signature.inputs
    }


def _settled(how: Preprocess, spec: TensorSpec, what: str) -> Preprocess:
    if not how.resize:
        raise InvalidModel(f'{what} must say how images get their size: "resize" is one of {", ".join(RESIZES)}')
    if not spec.datatype.is_number or spec.datatype.name == "INT8":
        raise InvalidModel(f"{what} is about an input of {spec.datatype.name}, which can't hold pixels from 0 to 255")
    how = how._replace(layout=how.layout or _layout(how, spec, what))
    how = how._replace(size=how.size or _size(how, spec, what))
    if spec.fitted(how.row) is None:
        raise InvalidModel(f"{what} makes rows of the shape {list(how.row)}, but the input's have {spec.rows}")
    if how.resize != CROP and how.short_side:
        raise InvalidModel(f'{what} has a short_side, which is for "resize": "crop" only, and not for {how.resize}')
    if how.short_side and how.short_side < max(how.size):
        raise InvalidModel(f"{what} crops {list(how.size)} from images whose short side is only {how.short_side}")
    return _scaled(how, spec, what)


def _layout(how: Preprocess, spec: TensorSpec, what: str) -> str:
    row = spec.row or ()
    if len(row) == 2 and how.channels == GREY:
        return "NCHW"
    first, last = (len(row) == 3 and row[at] == how.depth for at in (0, 2))
    if first == last:
        raise InvalidModel(
            f'{what} must say where the {how.depth} channels are, "layout": "NCHW" or "NHWC": rows have {spec.rows}'
        )
    return "NCHW" if first else "NHWC"


def _size(how: Preprocess, spec: TensorSpec, what: str) -> tuple[int, ...]:
    row = spec.row or ()
    size = row if len(row) == 2 else row[1:] if how.layout == "NCHW" else row[:2]
    if len(size) != 2 or -1 in size:
        raise InvalidModel(f"{what} must say the size of images, [height, width]: rows have {spec.rows}")
    return size


def _scaled(how: Preprocess, spec: TensorSpec, what: str) -> Preprocess:
    """With a scale, and a mean and a std for each channel."""
    if spec.datatype.is_integer:
        if how.scale is not None or how.mean or how.std:
            raise InvalidModel(
                f"{what} has a scale, mean or std, but the input takes {spec.datatype.name}: its values are those of "
                "the pixels, from 0 to 255"
            )
        return how._replace(scale=1.0)
    scale = _SCALE if how.scale is None else how.scale
    mean, std = (_each(values, how, name, what) for name, values in (("mean", how.mean), ("std", how.std)))
    if any(not 0 <= value <= max(LARGEST * scale, 1) for value in mean):
        raise InvalidModel(
            f'{what} has the mean {list(mean)}, but pixels are from 0 to {LARGEST * scale:.4g} after "scale": '
            f'{scale:.4g}: a mean is of these, so give "scale": 1 where it is of pixels from 0 to 255'
        )
    return how._replace(scale=scale, mean=mean or (0.0,), std=std or (1.0,))


def _each(values: tuple[float, ...], how: Preprocess, name: str, what: str) -> tuple[float, ...]:
    if len(values) not in (0, 1, how.depth):
        raise InvalidModel(f"{what} has {len(values)} values for {name}: one is needed, or one for each of {how.depth}")
    return values


def _counts(least: int, most: int, lengths: Sequence[int]) -> Any:
    def convert(value: Any, _: str) -> tuple[int, ...] | None:
        values = value if isinstance(value, list) else [value]
        is_right = len(values) in lengths and all(type(item) is int and least <= item <= most for item in values)
        return tuple(values) if is_right else None

    return convert


def _numbers(value: Any, _: str) -> tuple[float, ...] | None:
    values = value if isinstance(value, list) else [value]
    is_right = bool(values) and all(type(item) in (int, float) and math.isfinite(item) for item in values)
    return tuple(map(float, values)) if is_right else None


def _side(value: Any, _: str) -> tuple[int, ...] | None:
    sides = _counts(1, PIXELS, (1, 2))(value, "")
    if sides is None:
        return None
    size = sides if len(sides) == 2 else sides * 2
    return size if math.prod(size) <= PIXELS else None


def _positive(value: Any, model: str) -> tuple[float, ...] | None:
    values = _numbers(value, model)
    return values if values and all(item > 0 for item in values) else None


def _one_of(names: Sequence[str]) -> tuple[str, Any]:
    return f"one of {', '.join(names)}", lambda value, _: value if value in names else None


def _scale(value: Any, model: str) -> float | None:
    found = _positive(value, model)
    return found[0] if found and not isinstance(value, list) else None


CHECKS: Mapping[str, Any] = {
    "resize": _one_of(RESIZES),
    "size": ("[height, width], or a number for both", _side),
    "short_side": ("a number of pixels", lambda value, _: (_counts(1, PIXELS, (1,))(value, "") or (None,))[0]),
    "resample": _one_of(RESAMPLES),
    "channels": _one_of(CHANNELS),
    "layout": _one_of(LAYOUTS),
    "scale": ("a number above 0", _scale),
    "mean": ("a number, or one for each channel", _numbers),
    "std": ("a number above 0, or one for each channel", _positive),
    "fill": ("a whole number from 0 to 255, or one for each channel", _counts(0, LARGEST, (1, 3))),
    "align": _one_of(("center", "start")),
}
