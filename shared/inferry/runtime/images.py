"""Images, JPEG and PNG, as rows of a model's input. Pillow decodes and resizes them."""

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from inferry.errors import InvalidRequest, NotSupported, extra
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import DATATYPES, Array, aligned, as_elements, empty
from inferry.runtime.preprocess import CROP, GREY, LARGEST, PAD, PIXELS, Preprocess

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".png")
"""Of the names of files."""
MISSING = f"images need Pillow: {extra('images')}"

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# What Pillow raises for files that are broken; it says nothing of it.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
# Modes of images with more than 8 bits: what is above them counts, as in PNGs of 16 bits and three channels.
_DEEP = ("I;16", "I;16B", "I;16L", "I")
_EXCERPT = 40


def is_image(value: Any) -> bool:
    """Whether a row's value stands for an image: bytes of a file, or a text that has them in base64."""
    return isinstance(value, bytes | str)


def check_installed() -> None:
    """NotSupported without Pillow."""
    try:
        import PIL  # noqa: F401
    except ImportError as exc:
        raise NotSupported(MISSING) from exc


def rows(values: Sequence[Any], how: Preprocess, spec: TensorSpec, what: str) -> Array:
    """Images as the rows of an input. InvalidRequest for what is none; NotSupported without Pillow."""
    found = empty((len(values), *row_shape(how, spec)), spec.datatype.dtype)
    for number, value in enumerate(values):
        if not is_image(value):
            raise InvalidRequest(f"row {number} of {what} must be an image as the others are, got no text")
        found[number] = row(content(value), how, spec)
    return aligned(found)


def row_shape(how: Preprocess, spec: TensorSpec) -> tuple[int, ...]:
    """The shape of a row of the input."""
    shape = spec.fitted(how.row)
    assert shape is not None  # as `settled` has seen
    return shape


def content(value: bytes | str) -> bytes:
    """The bytes of an image's file. InvalidRequest for a text that isn't base64, nor a data: URL with it."""
    if isinstance(value, bytes):
        return value
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as exc:
        shown = value[:_EXCERPT] + "..." * (len(value) > _EXCERPT)
        raise InvalidRequest(f"the text {shown!r} is no image: give the bytes of its file in base64") from exc


def row(file: bytes, how: Preprocess, spec: TensorSpec) -> Array:
    """An image as a row of the input. InvalidRequest for what is none, is broken or too large; NotSupported."""
    image = _resized(_plain(_opened(file), how.channels), how)
    pixels = np.asarray(image).reshape(*how.size, how.depth)
    levels = _levels(how, spec.datatype.name)
    found = empty(how.row, spec.datatype.dtype)
    for channel in range(how.depth):
        source = pixels[..., how.depth - 1 - channel if how.channels == "BGR" else channel]
        target = found[channel] if how.layout == "NCHW" else found[..., channel]
        target[...] = levels[channel % len(levels)][source]
    return found.reshape(row_shape(how, spec))


@lru_cache(maxsize=16)
def _levels(how: Preprocess, datatype: str) -> Array:
    """What each of the 256 values of a pixel becomes, one line for all channels or one for each."""
    values = np.arange(LARGEST + 1, dtype=np.float64) * (how.scale or 1)
    mean, std = (np.array(each, np.float64)[:, np.newaxis] for each in (how.mean or (0.0,), how.std or (1.0,)))
    return as_elements((values - mean) / std, DATATYPES[datatype])


def _opened(file: bytes) -> "Image":
    """The image, decoded and turned as its Exif says. What its header says of its size is looked at before."""
    try:
        from PIL import ImageOps, JpegImagePlugin, PngImagePlugin
    except ImportError as exc:
        raise NotSupported(MISSING) from exc

    # Not by Image.open, which knows dozens of formats and has a limit of its own for the whole process.
    kinds: dict[bytes, Callable[[Any], Image]] = {
        _JPEG: JpegImagePlugin.JpegImageFile,
        _PNG: PngImagePlugin.PngImageFile,
    }
    kind = next((kinds[magic] for magic in kinds if file.startswith(magic)), None)
    if kind is None:
        raise InvalidRequest(f"the image is neither JPEG nor PNG: {_described(file)}")
    try:
        image = kind(io.BytesIO(file))
        width, height = image.size
        check_pixels(width, height)
        # Decoding looks at no chunk's CRC, and may end before zlib's own: what was changed would be other pixels.
        kind(io.BytesIO(file)).verify()
        image.load()
        return ImageOps.exif_transpose(image)
    except InvalidRequest:
        raise
    except _BROKEN as exc:
        name = "JPEG" if file.startswith(_JPEG) else "PNG"
        raise InvalidRequest(f"the image is a broken {name} of {len(file)} bytes: it may be cut off") from exc


def check_pixels(width: int, height: int) -> None:
    """InvalidRequest for an image of more than PIXELS."""
    if width * height > PIXELS:
        raise InvalidRequest(f"the image has {width} x {height} pixels, more than {PIXELS:,}: make it smaller before")


def _described(file: bytes) -> str:
    return f"it begins with {file[:8].hex(' ')}" if file else "it is empty"


def _plain(image: "Image", channels: str) -> "Image":
    """The image in 8 bits, grey or RGB, whatever it is in: without its transparency and its colour profile."""
    mode = "L" if channels == GREY else "RGB"
    if image.mode in _DEEP:
        from PIL import Image as pillow

        # Pillow itself would make white of all that is above 255.
        image = pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if mode == "L" and image.mode not in ("L", "RGB"):
        image = image.convert("RGB")  # all colours become grey by one formula
    return image if image.mode == mode else image.convert(mode)


def _resized(image: "Image", how: Preprocess) -> "Image":
    from PIL import Image as pillow

    resample = pillow.Resampling[how.resample.upper()]
    height, width = how.size

    def scaled(to: tuple[int, int]) -> "Image":
        check_pixels(*to)
        return image if image.size == to else image.resize(to, resample)

    if how.resize == CROP:
        found = scaled(_before_crop(*image.size, how))
        left, top = round((found.width - width) / 2), round((found.height - height) / 2)
        return found.crop((left, top, left + width, top + height))
    if how.resize == PAD:
        share = min(width / image.width, height / image.height)
        inner = scaled((max(round(image.width * share), 1), max(round(image.height * share), 1)))
        found = pillow.new(image.mode, (width, height), _fill(how))
        free = (width - inner.width, height - inner.height)
        found.paste(inner, (free[0] // 2, free[1] // 2) if how.align == "center" else (0, 0))
        return found
    return scaled((width, height))


def _before_crop(width: int, height: int, how: Preprocess) -> tuple[int, int]:
    """The size to crop from, whose sides have the proportion of the image's."""
    short = min(width, height)
    if how.short_side:
        # As torchvision has it: what is less than a pixel of the long side is left out.
        return how.short_side * width // short, how.short_side * height // short
    share = max(how.size[1] / width, how.size[0] / height)
    return max(round(width * share), how.size[1]), max(round(height * share), how.size[0])


def _fill(how: Preprocess) -> Any:
    colours = how.fill if len(how.fill) == how.depth else how.fill[:1] * how.depth
    if how.depth == 1:
        return colours[0]
    return colours[::-1] if how.channels == "BGR" else colours
