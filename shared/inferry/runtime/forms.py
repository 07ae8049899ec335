"""What ONNX Runtime made of a model, saved: a session over it has less to do, and maps its weights.

The graph is saved with all of its weights in a file beside it. A portable one went through the optimisations that are
the same on every CPU, and a session does the rest. A native one went through all of them, and has what the kernels of
this kind of CPU packed of the weights: a session takes it as it is.
"""

import os
from pathlib import Path

# Before the import: onnxruntime >= 1.29 writes to the home directory and starts a thread otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from inferry.runtime import onnx_file
from inferry.runtime.session import saturates, session_options

MODEL, WEIGHTS = "model.onnx", "weights.bin"
# The domain of the operators whose layout depends on the kind of CPU.
_BLOCKED = b"com.microsoft.nchwc"


def save_portable(onnx: Path, folder: Path, is_quantised: bool) -> None:
    """Writes MODEL and WEIGHTS, if it has any, into `folder`, which is there. What ONNX Runtime raises.

    `is_quantised`: of products of dequantised floats the extended level makes products of integers, for x86 of other
    ones than for Arm, and whichever they are, other CPUs have wrong sums or no fast kernel for them. So that is left to
    the session over the form.
    """
    level = ort.GraphOptimizationLevel
    options = _saving(folder)
    options.graph_optimization_level = level.ORT_ENABLE_BASIC if is_quantised else level.ORT_ENABLE_EXTENDED
    ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def save_native(onnx: Path, folder: Path) -> None:
    """Writes MODEL and WEIGHTS, if it has any, into `folder`, which is there. What ONNX Runtime raises."""
    options = _saving(folder)
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    if onnx_file.read(onnx).numerics.mixed and saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _saving(folder: Path) -> ort.SessionOptions:
    options: ort.SessionOptions = session_options(1)
    options.optimized_model_filepath = str(folder / MODEL)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    return options


def is_blocked(onnx: Path) -> bool:
    """Whether a native form has operators whose layout depends on the kind of CPU, so that it needs a canary.

    ONNX Runtime names all of its domains as opsets: the second time is a node's.
    """
    return onnx.read_bytes().count(_BLOCKED) > 1
