"""Models that are worth preparing: of some megabytes, for one thing each that CPUs do in different ways.

On a processor that qemu emulates, `python prepared_models.py serve FOLDER` loads every model of a repository and runs
its input, and prints JSON by name: [form, why, outputs], or the reason why a model can't be loaded.
`python prepared_models.py prepare FOLDER OUT` is `inferry prepare`, in this one process: qemu emulates no others.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

TRACE = "/home/trainer/model.py:42 forward"


def convolutions(channels: int = 256, layers: int = 5) -> bytes:
    """FP32 `y` [batch, channels] of `x` [batch, 16, 8, 8] by convolutions; 12 MB. Its nodes have stack traces."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(1)
    nodes, weights, name, depth = [], [], "x", 16
    for layer in range(layers + 1):
        kernel = rng.standard_normal((channels, depth, 3, 3)) / np.sqrt(depth * 9)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{layer}"))
        nodes += [
            helper.make_node("Conv", [name, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], doc_string=TRACE),
        ]
        name, depth = f"r{layer}", channels
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    return _built(nodes, {"x": ("FP32", ("batch", 16, 8, 8))}, {"y": ("FP32", ("batch", channels))}, weights)


def products(width: int = 1024, layers: int = 3) -> bytes:
    """FP32 `y` [batch, width] of `x` [batch, width] by products of matrices; 12 MB."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(2)
    nodes, weights, name = [], [], "x"
    for layer in range(layers):
        matrix = rng.standard_normal((width, width)) / np.sqrt(width)
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"w{layer}"))
        nodes += [
            helper.make_node("MatMul", [name, f"w{layer}"], [f"p{layer}"]),
            helper.make_node("Relu", [f"p{layer}"], [f"r{layer}"]),
        ]
        name = f"r{layer}"
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    return _built(nodes, {"x": ("FP32", ("batch", width))}, {"y": ("FP32", ("batch", width))}, weights)


def quantised(width: int = 2048, layers: int = 3) -> bytes:
    """FP32 `y` [batch, width] of `x` [batch, width] by products of int8 and int8 in QDQ form, as quantize_static makes
    them by default; 12 MB. Weights are large, so that sums of 16 bits saturate."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(3)
    constants: dict[str, Any] = {}
    nodes, name = [], "x"

    def node(op: str, taken: str, given: str, own: str) -> str:
        """One with a scale and a zero point of its own, as quantize_static has them."""
        constants[f"zero-{own}"] = np.array(0, np.int8)
        constants.setdefault(f"scale-{own}", np.array(0.02, np.float32))
        nodes.append(helper.make_node(op, [taken, f"scale-{own}", f"zero-{own}"], [given]))
        return given

    for layer in range(layers):
        constants[f"w{layer}"] = rng.integers(-127, 128, (width, width)).astype(np.int8)
        constants[f"scale-w{layer}"] = np.array(1 / (127 * np.sqrt(width / 3)), np.float32)
        quantised = node("QuantizeLinear", name, f"q{layer}", f"x{layer}")
        floats = node("DequantizeLinear", quantised, f"d{layer}", f"x{layer}")
        matrix = node("DequantizeLinear", f"w{layer}", f"v{layer}", f"w{layer}")
        nodes.append(helper.make_node("MatMul", [floats, matrix], [f"p{layer}"]))
        name = f"p{layer}"
    node("DequantizeLinear", node("QuantizeLinear", name, "last", "y"), "y", "y")
    weights = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    return _built(nodes, {"x": ("FP32", ("batch", width))}, {"y": ("FP32", ("batch", width))}, weights)


def _built(nodes: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], weights: Any) -> bytes:
    import onnx_models

    given, taken = ([onnx_models.tensor(name, *spec) for name, spec in specs.items()] for specs in (inputs, outputs))
    return onnx_models.model(nodes, given, taken, weights)


def rows(shape: tuple[int, ...]) -> Any:
    """Some input of this shape, the same on every processor. The images have no numpy.random."""
    numbers = np.arange(np.prod(shape)) * 7919 % 2001 - 1000
    return (numbers.reshape(shape) / 500).astype(np.float32)


INPUTS = {
    "conv": rows((2, 16, 8, 8)),
    "product": rows((2, 1024)),
    "qdq": rows((2, 2048)),
    "encoder": np.arange(16).reshape(2, 8) * 113 + 5,
}


def serve(folder: Path) -> None:
    """Prints what each model of the repository says."""
    from inferry.errors import InferryError
    from inferry.repository.repository import open_repository

    repository = open_repository(str(folder), threads=1, cache=folder / ".cache")
    said: dict[str, Any] = {}
    for name in repository.names():
        try:
            model = repository.get(name)
            signature = model.session.signature
            feed = {next(iter(signature.inputs)): INPUTS[name]}
            (y,) = model.session.run(feed, list(signature.outputs), time.monotonic() + 600)
        except InferryError as exc:
            said[name] = str(exc)
            continue
        form = model.form
        said[name] = [form.kind if form else "", [form.why, *form.left_out] if form else [], y.tolist()]
    print(json.dumps(said))


def prepare(folder: Path, out: Path) -> None:
    """Each form is saved, loaded and run here, and kept whatever it costs: an emulator's costs say nothing."""
    from inferry.cli import prepare
    from inferry.prepare import child, trials
    from inferry.prepare.preparation import Request
    from inferry.runtime import row_proof
    from inferry.settings import Settings

    def run(task: Mapping[str, Any]) -> Any:
        values = dict(task)
        return json.loads(json.dumps(getattr(child, values.pop("do"))(**values)))

    trials.run, trials.ROUNDS, trials.FEWER = run, 1, 1
    setattr(row_proof, "_LENGTHS", (8,))  # noqa: B010  a token of the encoder takes seconds
    trials.Cost.gains, trials.Cost.losses = (lambda *_: True), (lambda *_: [])  # type: ignore[method-assign]
    trials.Cost.is_close_to = lambda *_: False  # type: ignore[method-assign]
    settings = Settings(model_path=str(folder), model_cache_dir=str(out.with_name("cache")), intra_op_threads=1)
    prepare.run(settings, str(out), Request(), sys.stderr)


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"serve": serve, "prepare": prepare}
    commands[sys.argv[1]](*map(Path, sys.argv[2:]))
