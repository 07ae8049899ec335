#!/usr/bin/env bash
# onnxruntime 1.32.0, x86-64: a model from quantize_static() with its defaults (int8 by int8) answers 0.5 instead of 64
# on a CPU with AVX2 and without VNNI. onnxruntime makes the activations uint8, and AVX2's sums of two products of uint8
# and int8 saturate at 16 bits. With session.x64quantprecision=1 the answer is 63.75, as on a CPU with VNNI.
# Needs qemu-x86_64-static (Debian's qemu-user-static), which emulates such a CPU.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
command -v qemu-x86_64-static >/dev/null || { echo "This script needs qemu-x86_64-static." >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python - 2>errors <<'EOF' || { cat errors >&2; exit 1; }
import numpy as np
from onnx import numpy_helper, parser, save
from onnxruntime.quantization import CalibrationDataReader, quantize_static

header = '<ir_version: 10, opset_import: ["": 21]>'
model = parser.parse_model(header + " m (float[n, 64] x) => (float[n, 1] y) { y = MatMul(x, w) }")
model.graph.initializer.append(numpy_helper.from_array(np.ones((64, 1), np.float32), "w"))
save(model, "float.onnx")
rows = iter([{"x": np.full((1, 64), value, np.float32)} for value in (1, -1)])
reader = type("Rows", (CalibrationDataReader,), {"get_next": lambda self: next(rows, None)})()
quantize_static("float.onnx", "int8.onnx", reader)
EOF
cat >run.py <<'EOF'
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", sys.argv[1])
session = onnxruntime.InferenceSession("int8.onnx", options)
print(round(session.run(None, {"x": numpy.ones((1, 64), numpy.float32)})[0].item(), 2))
EOF
haswell() { qemu-x86_64-static -cpu Haswell-noTSX venv/bin/python run.py "$1" 2>errors || { cat errors >&2; exit 1; }; }
default=$(haswell 0)
precise=$(haswell 1)
echo "onnxruntime 1.32.0 on AVX2 without VNNI, the sum of 64 ones in int8: $default; with x64quantprecision=1: $precise"
[ "$default $precise" = "0.5 63.75" ]
