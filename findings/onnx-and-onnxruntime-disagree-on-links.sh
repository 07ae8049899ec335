#!/usr/bin/env bash
# In a cache like Hugging Face's, model.onnx and its external data are links into a folder of blobs. onnxruntime 1.32.0
# loads that; onnx 1.23.2 refuses the data as "a symbolic link". With model.onnx itself a copy and only the data a link,
# onnxruntime refuses too ("escapes model directory"): the data must lie where the model's own link leads.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
mkdir blobs snapshot copy
venv/bin/python - <<'EOF'
import numpy as np
from onnx import numpy_helper, parser, save

header = '<ir_version: 10, opset_import: ["": 21]>'
model = parser.parse_model(header + " m (float[n, 2] x) => (float[n, 2] y) { y = MatMul(x, w) }")
model.graph.initializer.append(numpy_helper.from_array(np.eye(2, dtype=np.float32), "w"))
save(model, "blobs/model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
EOF
ln -s ../blobs/model.onnx ../blobs/model.data snapshot
cp blobs/model.onnx copy
ln -s ../blobs/model.data copy
venv/bin/python - <<'EOF'
import onnx
import onnxruntime


def refusal(load, path):
    try:
        load(path)
    except Exception as error:
        return next(words for words in ("is a symbolic link", "escapes model directory") if words in str(error))


both = [refusal(load, "snapshot/model.onnx") for load in (onnxruntime.InferenceSession, onnx.load)]
data = refusal(onnxruntime.InferenceSession, "copy/model.onnx")
print(f"Both links: onnxruntime 1.32.0 refuses nothing, onnx 1.23.2 {both[1]!r}. Only the data: onnxruntime {data!r}.")
assert both == [None, "is a symbolic link"]
assert data == "escapes model directory"
EOF
