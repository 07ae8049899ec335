#!/usr/bin/env bash
# onnxruntime 1.32.0, x86-64: ReduceMax returns a NaN that comes first and ignores one that comes later, where NumPy
# returns NaN wherever it is: [NaN, 1, 2] gives NaN, [1, NaN, 2] and [2, 1, NaN] give 2. One row in another order has
# another maximum.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python - <<'EOF'
import numpy as np
import onnxruntime
from onnx import parser

header = '<ir_version: 10, opset_import: ["": 21]>'
model = parser.parse_model(header + " m (float[n] x) => (float y) { y = ReduceMax<keepdims = 0>(x) }")
session = onnxruntime.InferenceSession(model.SerializeToString())
nan = float("nan")
rows = [[nan, 1, 2], [1, nan, 2], [2, 1, nan]]
seen = [session.run(None, {"x": np.array(row, np.float32)})[0].item() for row in rows]
print("onnxruntime 1.32.0, ReduceMax:", ", ".join(f"{row} gives {value}" for row, value in zip(rows, seen)))
assert np.array_equal(seen, [nan, 2, 2], equal_nan=True)
EOF
