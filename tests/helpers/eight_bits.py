"""Models that multiply 8-bit integers in each way that ONNX has, and their inputs.

`python tests/eight_bits.py FOLDER`, on a processor that qemu emulates, runs those that `write` put there: without
inferry, and as its session. It prints JSON: [outputs without, outputs with it, notes of the session] by name.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROWS, DEPTH, WIDTH = 8, 64, 24
PAIRS = [(a, b) for a in (np.uint8, np.int8) for b in (np.uint8, np.int8)]


def write(folder: Path) -> None:
    """NAME.onnx and NAME.npy, its input, for each model."""
    for name, content, values in models():
        (folder / f"{name}.onnx").write_bytes(content)
        np.save(folder / f"{name}.npy", values)


def models() -> Iterator[tuple[str, bytes, Any]]:
    for a, b in PAIRS:
        for bits in (8, 7):
            yield from _models(a, b, bits)


def values(dtype: Any, shape: Sequence[int], bits: int = 8) -> Any:
    """Random integers of all of a type's values, or of half of them."""
    low, high = (0, 2**bits) if dtype is np.uint8 else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)


def _models(a: Any, b: Any, bits: int) -> Iterator[tuple[str, bytes, Any]]:
    import onnx_models
    from onnx import helper, numpy_helper

    pair = f"{a.__name__}-{b.__name__}-{bits}"
    x, w = values(a, (ROWS, DEPTH)), values(b, (DEPTH, WIDTH), bits)
    pixels, kernels = values(a, (2, 8, 9, 9)), values(b, (16, 8, 3, 3), bits)
    floats = np.random.default_rng(7).standard_normal((ROWS, DEPTH)).astype(np.float32)
    image = 3 * np.random.default_rng(7).standard_normal((2, 8, 9, 9)).astype(np.float32)
    zeros = {
        "za": np.array(128 if a is np.uint8 else 0, a),
        "zb": np.array(0 if b is np.int8 else 2 ** (bits - 1), b),
        **{name: np.array(scale, np.float32) for name, scale in (("sa", 0.05), ("sb", 0.01), ("sy", 0.5))},
    }

    def built(name: str, nodes: Any, given: Any, weights: Any, datatype: str) -> tuple[str, bytes, Any]:
        taken = {"uint8": "UINT8", "int8": "INT8", "float32": "FP32"}[str(given.dtype)]
        content = onnx_models.proto(
            [helper.make_node("Identity", ["x"], ["y"])],
            [onnx_models.tensor("x", taken, ("batch", *given.shape[1:]))],
            [onnx_models.tensor("y", datatype, ("batch", *[None] * (given.ndim - 1)))],
            [numpy_helper.from_array(array, key) for key, array in {"w": weights, **zeros}.items()],
        )
        content.graph.ClearField("node")
        content.graph.node.extend(nodes)
        content.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return f"{name}-{pair}", content.SerializeToString(), given

    def node(op: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
        return helper.make_node(op, inputs.split(), [output], **attributes)

    microsoft = {"domain": "com.microsoft"}
    quantised = "UINT8" if a is np.uint8 else "INT8"
    linear = "x sa za w sb zb sy za"
    yield built("MatMulInteger", [node("MatMulInteger", "x w za zb")], x, w, "INT32")
    yield built("ConvInteger", [node("ConvInteger", "x w za zb")], pixels, kernels, "INT32")
    if (a, b) != (np.int8, np.uint8):
        yield built("QLinearMatMul", [node("QLinearMatMul", linear)], x, w, quantised)
        yield built("QLinearConv", [node("QLinearConv", linear)], pixels, kernels, quantised)
        yield built("QGemm", [node("QGemm", "x sa za w sb zb", **microsoft)], x, w, "FP32")
        yield built("ToFloat", [node("MatMulIntegerToFloat", "x w sa sb za zb", **microsoft)], x, w, "FP32")
    if a is np.uint8:
        yield built("Dynamic", [node("DynamicQuantizeMatMul", "x w sb zb", **microsoft)], floats, w, "FP32")
    if (a, b, bits) == (np.uint8, np.int8, 8):
        both = [
            node("MatMulInteger", "x w za zb", "i"),
            helper.make_node("Cast", ["i"], ["f"], to=1),
            node("QuantizeLinear", "f sf zb", "q"),
            node("QLinearMatMul", "q sf zb square sb zb sf zb", "r"),
            node("DequantizeLinear", "r sf zb"),
        ]
        zeros["sf"] = np.array(1000, np.float32)
        zeros["square"] = values(np.int8, (WIDTH, WIDTH))
        yield built("Both", both, x, w, "FP32")
    around = [
        [node("QuantizeLinear", "x sa za", "q"), node("DequantizeLinear", "q sa za", "d")],
        [node("DequantizeLinear", "w sb zb", "v")],
        [node("QuantizeLinear", "f sy za", "r"), node("DequantizeLinear", "r sy za")],
    ]
    for op, given, weights in (("MatMul", floats, w), ("Gemm", floats, w), ("Conv", image, kernels)):
        yield built(f"QDQ{op}", [*around[0], *around[1], node(op, "d v", "f"), *around[2]], given, weights, "FP32")


def outputs(folder: Path) -> dict[str, list[Any]]:
    from inferry.runtime import onnx_file
    from inferry.runtime.session import Session, SessionOptions, ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        feed = {"x": np.load(path.with_suffix(".npy"))}
        plain = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]
        session = Session(path, onnx_file.read(path), "m", SessionOptions(1))
        exact = session.run(feed, ["y"], time.monotonic() + 60)[0]
        found[path.stem] = [plain.tolist(), exact.tolist(), session.notes]
    return found


if __name__ == "__main__":
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    print(json.dumps(outputs(Path(sys.argv[1]))))
