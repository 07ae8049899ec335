#!/usr/bin/env bash
# onnx 1.23.2: onnx.save(..., save_as_external_data=True) changes the model it is given: the weights leave the object in
# memory, and only the name of their file stays. What is serialised afterwards has some 150 bytes instead of 16 KB.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq onnx==1.23.2 numpy==2.4.6
venv/bin/python - <<'EOF'
import numpy as np
from onnx import numpy_helper, parser, save

header = '<ir_version: 10, opset_import: ["": 21]>'
model = parser.parse_model(header + " m (float[n, 64] x) => (float[n, 64] y) { y = MatMul(x, w) }")
model.graph.initializer.append(numpy_helper.from_array(np.ones((64, 64), np.float32), "w"))
before = len(model.SerializeToString())
save(model, "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
after = len(model.SerializeToString())
print(f"onnx 1.23.2, a model with 16384 bytes of weights: {before} bytes before onnx.save, {after} after it")
assert before > 16384 and after < 1000
EOF
