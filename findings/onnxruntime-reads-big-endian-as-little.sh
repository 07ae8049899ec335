#!/usr/bin/env bash
# onnxruntime 1.32.0 takes a NumPy array of the other byte order and reads its bytes as they are, without an error:
# big-endian [1.0, 2.0] is read as [4.6006e-41, 8.9683e-44]. Arrays from NetCDF, FITS or .npy may have that order.
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
model = parser.parse_model(header + " m (float[n] x) => (float[n] y) { y = Identity(x) }")
x = np.array([1, 2], np.dtype(np.float32).newbyteorder("swap"))
y = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
print(f"onnxruntime 1.32.0, Identity of {x} with the dtype {x.dtype.str}: {y}")
assert np.array_equal(y, x.view(np.float32)) and not np.array_equal(y, x)
EOF
