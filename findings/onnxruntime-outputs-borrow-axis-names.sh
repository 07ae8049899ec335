#!/usr/bin/env bash
# onnxruntime 1.32.0: get_outputs() does not show what the model declares. Axes that the file leaves unnamed take an
# input's symbol and size, and a symbol that the file gives to an axis of one is shown as 1. Yet a symbol binds nothing:
# an output declared as [n, 2] may have twice n rows.
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

print("onnxruntime 1.32.0, shapes of outputs for an input [n, 2] of 3 rows:")
for declared, node, shown, actual in (
    ("?, ?", "y = Relu(x)", ["n", 2], (3, 2)),
    ("batch, n, 2", "axes = Constant<value_ints = [0]>() y = Unsqueeze(x, axes)", [1, "n", 2], (1, 3, 2)),
    ("n, 2", "y = Concat<axis = 0>(x, x)", ["n", 2], (6, 2)),
):
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> m (float[n, 2] x) => (float[{declared}] y) {{ {node} }}'
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    seen = session.get_outputs()[0].shape, session.run(None, {"x": np.ones((3, 2), np.float32)})[0].shape
    print(f"  declared [{declared}], shown {seen[0]}, answered {seen[1]}")
    assert seen == (shown, actual)
EOF
