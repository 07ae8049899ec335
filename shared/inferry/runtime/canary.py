"""A known convolution that tells whether forms for one kind of CPU fit this one.

ONNX Runtime lays out the channels of a convolution in blocks, of 16 with AVX-512 and of 8 on other CPUs of x86. A graph
that it saved with one layout is loaded on a CPU with the other, and answers wrong without a word. The canary is saved
beside such a graph in the same way, and does the same.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

# Before the import: onnxruntime >= 1.29 writes to the home directory and starts a thread otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from inferry.protocol.tensors import Array, Shape
from inferry.runtime.protobuf import encoded
from inferry.runtime.session import session_options

FILE = "canary.onnx"

# Blocks of 8 and of 16 fit this many channels: in the wrong ones it gives numbers, and no error.
_CHANNELS, _SIDE = 16, 8
_PICTURE = (1, _CHANNELS, _SIDE, _SIDE)
_FLOAT = 1  # TensorProto.FLOAT


def save(path: Path) -> float:
    """Writes the canary as ONNX Runtime has it on this CPU, and returns what it says. What ONNX Runtime raises."""
    options = session_options(1)
    options.optimized_model_filepath = str(path)
    return _said(ort.InferenceSession(_model(), options, providers=["CPUExecutionProvider"]))


def says(path: Path) -> float:
    """What a saved canary says on this CPU. What ONNX Runtime raises where it has no such operators."""
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _said(ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]))


def _said(session: Any) -> float:
    """One number of all outputs and their places: they are whole numbers, whose sum has no last bits to differ in."""
    (output,) = session.run(None, {"x": _whole_numbers(_PICTURE, 11)})
    places = np.arange(output.size) % 13 + 1
    return float((output.ravel().astype(np.float64) * places).sum())


def _whole_numbers(shape: Shape, most: int) -> Array:
    """Some between -most / 2 and most / 2, with no pattern that a block would hide."""
    values: Array = (np.arange(math.prod(shape)) * 7 % most - most // 2).astype(np.float32).reshape(shape)
    return values


def _model() -> bytes:
    """`y` is `x` convolved twice with 3 by 3 by 16 by 16 weights, opset 13, IR 8. Field numbers of onnx.proto3."""
    nodes = (_convolution("x", "a", "h"), _convolution("h", "b", "y"))
    weights = (_weights("a", 5), _weights("b", 3))
    graph = b"".join(encoded(1, node) for node in nodes) + encoded(2, b"canary")
    graph += b"".join(encoded(5, tensor) for tensor in weights) + encoded(11, _value("x")) + encoded(12, _value("y"))
    return encoded(1, 8) + encoded(7, graph) + encoded(8, encoded(1, b"") + encoded(2, 13))


def _convolution(given: str, weights: str, result: str) -> bytes:
    names = encoded(1, given.encode()) + encoded(1, weights.encode()) + encoded(2, result.encode())
    pads = encoded(1, b"pads") + b"".join(encoded(8, 1) for _ in range(4)) + encoded(20, 7)  # AttributeProto.INTS
    return names + encoded(4, b"Conv") + encoded(5, pads)


def _weights(name: str, most: int) -> bytes:
    shape = (_CHANNELS, _CHANNELS, 3, 3)
    dims = b"".join(encoded(1, length) for length in shape)
    return dims + encoded(2, _FLOAT) + encoded(8, name.encode()) + encoded(9, _whole_numbers(shape, most).tobytes())


def _value(name: str) -> bytes:
    dims = b"".join(encoded(1, encoded(1, length)) for length in _PICTURE)
    return encoded(1, name.encode()) + encoded(2, encoded(1, encoded(1, _FLOAT) + encoded(2, dims)))
