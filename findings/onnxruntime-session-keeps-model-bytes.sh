#!/usr/bin/env bash
# onnxruntime 1.32.0: a session made from bytes holds those bytes for as long as it lives (in a private attribute), so a
# model loaded this way stays in memory twice. A session made from a path holds none.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python - <<'EOF'
import pathlib

import numpy as np
import onnxruntime
from onnx import numpy_helper, parser, save

header = '<ir_version: 10, opset_import: ["": 21]>'
model = parser.parse_model(header + " m (float[n, 1000] x) => (float[n, 1000] y) { y = MatMul(x, w) }")
model.graph.initializer.append(numpy_helper.from_array(np.ones((1000, 1000), np.float32), "w"))
save(model, "model.onnx")


def held(source):
    session = onnxruntime.InferenceSession(source)
    return sum(len(value) for value in vars(session).values() if isinstance(value, bytes))


file = pathlib.Path("model.onnx")
seen = [held(file.read_bytes()), held(file)]
print(f"onnxruntime 1.32.0, a 4 MB model: its session keeps {seen[0]} bytes if made from bytes, {seen[1]} from a path")
assert seen == [file.stat().st_size, 0]
EOF
