#!/usr/bin/env bash
# onnxruntime 1.32.0, x86-64: a MatMul of two inputs gives other bits with two threads than with one, here in 4216 of
# 5000 values. With its second matrix stored in the model, the same product does not depend on the number of threads.
# Seen on a machine with two cores, and under an emulated Haswell.
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
from onnx import numpy_helper, parser

random = np.random.default_rng(7)
a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((50, 200), (200, 100)))


def product(threads, stored):
    inputs = "float[50, 200] a" if stored else "float[50, 200] a, float[200, 100] b"
    header = '<ir_version: 10, opset_import: ["": 21]>'
    model = parser.parse_model(f"{header} m ({inputs}) => (float[50, 100] y) {{ y = MatMul(a, b) }}")
    if stored:
        model.graph.initializer.append(numpy_helper.from_array(b, "b"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"a": a} if stored else {"a": a, "b": b})[0]


given, stored = (int((product(1, stored) != product(2, stored)).sum()) for stored in (False, True))
print(f"onnxruntime 1.32.0, values that differ between one thread and two: {given} of 5000 for MatMul of two inputs,")
print(f"{stored} with the second matrix in the model")
assert given > 0 and stored == 0
EOF
