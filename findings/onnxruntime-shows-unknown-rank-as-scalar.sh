#!/usr/bin/env bash
# onnxruntime 1.32.0: an input for which the model states no shape is listed with the shape [], as a scalar is. It takes
# a tensor of any rank, and so does the scalar, with no error. Only the file tells them apart.
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


def seen(kind):
    """Whether the file states a shape, the shape that is shown, and the one that a 2x3 matrix keeps."""
    header = '<ir_version: 10, opset_import: ["": 21]>'
    model = parser.parse_model(f"{header} m ({kind} x) => ({kind} y) {{ y = Identity(x) }}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    answer = session.run(None, {"x": np.ones((2, 3), np.float32)})[0]
    return model.graph.input[0].type.tensor_type.HasField("shape"), session.get_inputs()[0].shape, answer.shape


unknown, scalar = seen("float[]"), seen("float")
print(f"onnxruntime 1.32.0, shape in the file, shown, taken: {unknown} without rank, {scalar} scalar")
assert unknown == (False, [], (2, 3))
assert scalar == (True, [], (2, 3))
EOF
