"""Makes rows of a JPEG and of a PNG, with what is left of Pillow: pictures.py. Fails unless their pixels are right."""

from io import BytesIO

from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import DATATYPES
from inferry.runtime import images
from inferry.runtime.preprocess import Preprocess
from PIL import Image

RED = (255, 0, 0)
HOW = Preprocess("crop", (2, 2), layout="NHWC", scale=1.0, mean=(0.0,), std=(1.0,))
INPUT = TensorSpec("x", DATATYPES["UINT8"], (-1, 2, 2, 3))
KINDS = ("JPEG", "PNG")


def main() -> None:
    """Prints the formats that work; SystemExit with what does not."""
    for kind in KINDS:
        target = BytesIO()
        Image.new("RGB", (32, 16), RED).save(target, kind, quality=100)
        found = images.row(target.getvalue(), HOW, INPUT).reshape(-1, 3).tolist()
        if any(abs(one - other) > 2 for pixel in found for one, other in zip(pixel, RED, strict=True)):
            raise SystemExit(f"a {kind} of {RED} has the pixels {found}")
    print(f"images in {' and '.join(KINDS)} work")


if __name__ == "__main__":
    main()
