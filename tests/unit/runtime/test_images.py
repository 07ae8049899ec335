"""Images as rows: what their pixels become, whatever the files hold, and what is refused."""

import base64
import sys
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inferry.errors import InvalidRequest, NotSupported
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import DATATYPES, Array, readable
from inferry.runtime import images
from inferry.runtime.model_config import parse_config
from inferry.runtime.preprocess import PIXELS, settled
from PIL import Image

FILES = Path(__file__).parents[2] / "contract" / "files"
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def png(pixels: Any, mode: str | None = None, **options: Any) -> bytes:
    image = Image.fromarray(np.array(pixels, np.uint8))
    return saved(image.convert(mode) if mode else image, "PNG", **options)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def row(file: bytes, shape: tuple[int, ...], datatype: str = "UINT8", **keys: Any) -> Array:
    import json

    spec = TensorSpec("x", DATATYPES[datatype], (-1, *shape))
    config = parse_config(json.dumps({"preprocess": {"x": {"resize": "stretch", **keys}}}).encode(), "m")
    how = settled(config.preprocess, Signature("m", {"x": spec}, {}), "model 'm'", shared=False)["x"]
    found = images.row(file, how, spec)
    assert (found.dtype, found.shape) == (spec.datatype.dtype, shape)
    return found


# Two pixels side by side.
PAIR = png([[(255, 0, 51), (102, 153, 204)]])


@pytest.mark.parametrize(
    ("shape", "keys", "expected"),
    [
        ((3, 1, 2), {}, [[[255, 102]], [[0, 153]], [[51, 204]]]),
        ((1, 2, 3), {}, [[[255, 0, 51], [102, 153, 204]]]),
        ((3, 1, 2), {"channels": "BGR"}, [[[51, 204]], [[0, 153]], [[255, 102]]]),
        ((1, 2, 3), {"channels": "BGR"}, [[[51, 0, 255], [204, 153, 102]]]),
        # By ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B, 82.06 and 143.6.
        ((1, 1, 2), {"channels": "grey", "layout": "NCHW"}, [[[82, 144]]]),
        ((1, 2), {"channels": "grey"}, [[82, 144]]),
    ],
)
def test_channels_and_layouts(shape: tuple[int, ...], keys: dict[str, Any], expected: Any) -> None:
    assert row(PAIR, shape, **keys).tolist() == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [[1.0, 0.4], [0.0, 0.6], [0.2, 0.8]]),
        ({"scale": 1}, [[255.0, 102.0], [0.0, 153.0], [51.0, 204.0]]),
        ({"mean": 0.5, "std": 0.5}, [[1.0, -0.2], [-1.0, 0.2], [-0.6, 0.6]]),
        ({"mean": [0.5, 0.25, 0], "std": [0.5, 0.25, 2]}, [[1.0, -0.2], [-1.0, 1.4], [0.1, 0.4]]),
        # A mean is of a channel as the model has it: that of blue comes first.
        ({"mean": [0.5, 0.25, 0], "std": [0.5, 0.25, 2], "channels": "BGR"}, [[-0.6, 0.6], [-1.0, 1.4], [0.5, 0.2]]),
        ({"scale": 1, "mean": [51, 0, 55]}, [[204.0, 51.0], [0.0, 153.0], [-4.0, 149.0]]),
    ],
)
@pytest.mark.parametrize("datatype", ["FP32", "FP16", "FP64", "BF16"])
def test_values(datatype: str, keys: dict[str, Any], expected: Any) -> None:
    """(pixel * scale - mean) / std, in all of the digits that the datatype has."""
    found = readable(row(PAIR, (3, 1, 2), datatype, **keys), DATATYPES[datatype]).reshape(3, 2)
    digits = {"FP32": 6e-8, "FP16": 5e-4, "FP64": 1e-15, "BF16": 4e-3}[datatype]
    assert np.allclose(found.astype(np.float64), expected, rtol=digits, atol=digits)


@pytest.mark.parametrize("datatype", ["UINT16", "INT16", "INT32", "INT64", "UINT32", "UINT64"])
def test_integers(datatype: str) -> None:
    assert row(PAIR, (3, 1, 2), datatype).tolist() == [[[255, 102]], [[0, 153]], [[51, 204]]]


# 2 rows, 4 columns: each pixel is its own.
WIDE = np.arange(8, dtype=np.uint8).reshape(2, 4) * 10
# The same on its side.
TALL = WIDE.T.copy()


@pytest.mark.parametrize(
    ("pixels", "size", "keys", "expected"),
    [
        (WIDE, (2, 4), {}, WIDE.tolist()),
        (WIDE, (4, 4), {"resample": "nearest"}, WIDE.repeat(2, axis=0).tolist()),
        # The middle, and of what has an odd number of pixels more the half that is rounded to even.
        (WIDE, (2, 2), {"resize": "crop"}, [[10, 20], [50, 60]]),
        (TALL, (2, 2), {"resize": "crop"}, [[10, 50], [20, 60]]),
        (WIDE[:, :3], (2, 2), {"resize": "crop"}, [[0, 10], [40, 50]]),
        (WIDE, (2, 2), {"resize": "crop", "short_side": 4, "resample": "nearest"}, [[10, 20], [50, 60]]),
        (WIDE, (4, 4), {"resize": "crop", "resample": "nearest"}, [[10, 10, 20, 20]] * 2 + [[50, 50, 60, 60]] * 2),
        (WIDE, (4, 4), {"resize": "pad", "fill": 7}, [[7] * 4, *WIDE.tolist(), [7] * 4]),
        (WIDE, (4, 4), {"resize": "pad", "align": "start"}, [*WIDE.tolist(), [0] * 4, [0] * 4]),
        (TALL, (4, 5), {"resize": "pad", "fill": 7}, [[7, *line, 7, 7] for line in TALL.tolist()]),
        # Each of two pixels is the mean of those that it stands for: bilinear filters look at all of them.
        (np.array([[0, 0, 100, 100]]), (1, 2), {"resample": "bilinear"}, [[14, 86]]),
    ],
)
def test_sizes(pixels: Array, size: tuple[int, int], keys: dict[str, Any], expected: Any) -> None:
    assert row(png(pixels), size, channels="grey", **keys).tolist() == expected


def test_fill_of_each_channel() -> None:
    """In the order of the model's channels."""
    file = png([[RED]])
    for channels, red in (("RGB", [255, 0, 0]), ("BGR", [0, 0, 255])):
        found = row(file, (2, 1, 3), resize="pad", align="start", channels=channels, fill=[1, 2, 3])
        assert found.tolist() == [[red], [[1, 2, 3]]]


def _of_16_bits() -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in FILES.glob("opencv_16_bit*.png")}


KINDS: dict[str, tuple[Callable[[], bytes], Any]] = {
    "transparent": (lambda: png([[(255, 0, 0, 0), (0, 0, 255, 128)]]), [RED, BLUE]),
    "grey": (lambda: png([[0, 200]]), [BLACK, (200, 200, 200)]),
    "grey, transparent": (lambda: png([[0, 200]], "LA"), [BLACK, (200, 200, 200)]),
    "two colours": (lambda: png([[0, 255]], "1"), [BLACK, WHITE]),
    "palette": (lambda: png([[RED, GREEN]], "P"), [RED, GREEN]),
    "palette, transparent": (lambda: png([[RED, GREEN]], "P", transparency=0), [RED, GREEN]),
    "16 bits": (lambda: _of_16_bits()["opencv_16_bit.png"], [(0, 0x80, 0xFF)]),
    "CMYK": (lambda: saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100), [RED]),
    "CMYK, black": (lambda: saved(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG", quality=100), [BLACK]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images(kind: str) -> None:
    make, expected = KINDS[kind]
    found = row(make(), (1, len(expected), 3))
    assert np.abs(found.reshape(-1, 3).astype(int) - expected).max() <= 2


def test_grey_of_16_bits() -> None:
    """The upper half of each value counts, as OpenCV's IMREAD_COLOR has it."""
    file = _of_16_bits()["opencv_16_bit_grey.png"]
    assert row(file, (2, 3), channels="grey").tolist() == [[0, 1, 0x7F], [0x80, 0xFE, 0xFF]]
    assert row(file, (2, 3, 3))[..., 1].tolist() == [[0, 1, 0x7F], [0x80, 0xFE, 0xFF]]


def test_a_progressive_jpeg_of_opencv() -> None:
    found = row((FILES / "opencv_quadrants.jpg").read_bytes(), (2, 2, 3), resample="nearest").reshape(-1, 3)
    assert np.abs(found.astype(int) - [RED, GREEN, BLUE, WHITE]).max() <= 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(1, [[0, 1]]), (2, [[1, 0]]), (3, [[1, 0]]), (6, [[0], [1]]), (8, [[1], [0]])],
)
def test_orientation(kind: str, orientation: int, expected: Any) -> None:
    """Cameras store what they saw as they were held, and say how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves = Image.fromarray(np.repeat(np.array([[BLACK, WHITE]], np.uint8), 16, axis=0).repeat(16, axis=1))
    shape = np.shape(expected)
    found = row(saved(halves, kind, exif=exif), (*shape, 3))[..., 0] > 127
    assert found.astype(int).tolist() == expected


def chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels, and which has none."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    file = saved(Image.new("RGB", (16, 16)), "JPEG")
    at = file.index(b"\xff\xc0") + 5
    return file[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + file[at + 4 :]


def refused(file: bytes, shape: tuple[int, ...] = (2, 2, 3), **keys: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        row(file, shape, **keys)
    return str(caught.value)


@pytest.mark.parametrize("file", [png_of(2**31 - 1, 2**31 - 1), png_of(PIXELS, 2), jpeg_of(65500, 65500)])
def test_bombs(file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is enough to refuse them."""

    def load(_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert "pixels, more than 50,000,000: make it smaller before" in refused(file)


def test_bombs_after_a_resize() -> None:
    """A line of pixels has no short side to speak of."""
    assert refused(png(np.zeros((1, 300_000))), resize="crop", short_side=256) == (
        "the image has 76800000 x 256 pixels, more than 50,000,000: make it smaller before"
    )


def test_what_pixels_promise_must_be_there() -> None:
    assert refused(png_of(1000, 1000)).startswith("the image is a broken PNG of ")


PHOTO = saved(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
BROKEN = {
    "cut off": PHOTO[: len(PHOTO) // 2],
    "only a header": PHOTO[:20],
    "a signature": b"\xff\xd8\xff",
    "PNG, cut off": png(np.arange(300).reshape(20, 15) % 256)[:-40],
    "PNG, a signature": b"\x89PNG\r\n\x1a\n",
    "PNG, changed": PAIR[:50] + bytes((PAIR[50] ^ 255,)) + PAIR[51:],
    "PNG, no header": b"\x89PNG\r\n\x1a\n" + bytes(50),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(kind: str) -> None:
    name = "PNG" if kind.startswith("PNG") else "JPEG"
    assert refused(BROKEN[kind]) == f"the image is a broken {name} of {len(BROKEN[kind])} bytes: it may be cut off"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP"])
def test_other_formats(kind: str) -> None:
    file = saved(Image.new("RGB", (4, 4)), kind)
    assert refused(file) == f"the image is neither JPEG nor PNG: it begins with {file[:8].hex(' ')}"


def test_no_bytes() -> None:
    assert refused(b"") == "the image is neither JPEG nor PNG: it is empty"


def test_texts() -> None:
    text = base64.b64encode(PAIR).decode()
    assert images.content(text) == images.content(f"data:image/png;base64,{text}") == images.content(PAIR) == PAIR
    with pytest.raises(InvalidRequest) as caught:
        images.content("photos/" + "x" * 50 + ".jpg")
    assert str(caught.value) == (f"the text 'photos/{'x' * 33}...' is no image: give the bytes of its file in base64")


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(NotSupported, match=r"^images need Pillow: install the extra 'images': "):
        row(PAIR, (3, 1, 2))
    with pytest.raises(NotSupported, match="pip install"):
        images.check_installed()
