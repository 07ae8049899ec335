"""The same prediction by NumPy and ONNX Runtime alone: alone.py MODEL_FILE VALUES [rss], VALUES with commas."""

import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

path, values, *report = sys.argv[1:]
options = ort.SessionOptions()
# As inferry does: idle threads that spin are no work, and would count as CPU time.
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
pixels = np.array([float(value) for value in values.split(",")], np.float32).reshape(1, -1)
if not session.run(None, {"pixels": pixels}):
    raise SystemExit("the model has no outputs")
if report:
    status = Path("/proc/self/status").read_text()
    print(status.partition("VmRSS:")[2].split()[0], flush=True)
os._exit(0)
