#!/usr/bin/env bash
# Pillow 13.0.0: convert("L") and convert("RGB") of a grey PNG of 16 bits cut its values at 255, so that nearly all of
# it becomes white. A PNG of 16 bits and three colours, which is opened as RGB, has the upper 8 bits of each value.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq pillow==13.0.0 numpy
venv/bin/python - <<'EOF'
import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

VALUES = [0, 200, 256, 0x8000, 0xFFFF]


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(colour_type, values):
    header = struct.pack(">IIBBBBB", len(VALUES), 1, 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(f">{len(values)}H", *values))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


grey = Image.open(BytesIO(png(0, VALUES)))
colour = Image.open(BytesIO(png(2, [value for value in VALUES for _ in range(3)])))
of_grey = np.asarray(grey.convert("L"))[0].tolist()
as_rgb = np.asarray(grey.convert("RGB"))[0, :, 0].tolist()
of_colour = np.asarray(colour)[0, :, 0].tolist()
print(f"Pillow 13.0.0, 16 bits {VALUES}: grey becomes {of_grey} ({grey.mode}), three colours {of_colour} ({colour.mode})")
assert of_grey == as_rgb == [0, 200, 255, 255, 255]
assert of_colour == [value >> 8 for value in VALUES]
EOF
