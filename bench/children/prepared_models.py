"""The models that are prepared, made once: prepared_models.py FOLDER, a repository that is filled.

An encoder of 435 MB (BERT's base model), a network of convolutions with ResNet-50's shapes (100 MB), a perceptron of
98 MB, an LSTM (14 MB), a forest of 150 trees, and a perceptron of some kB. Weights are random.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

# Blocks, and channels inside, of the four stages of ResNet-50.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


class Graph:
    """Nodes and weights, one after another."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        """A new one of this shape, by its name."""
        name = f"w{len(self.weights)}"
        scale = np.sqrt(np.prod(shape[1:]) if len(shape) == 4 else shape[0])
        values = self._random.standard_normal(shape, np.float32) / np.float32(scale)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node's output."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [*inputs], [name], **attributes))
        return name

    def convolution(self, given: str, before: int, after: int, size: int, stride: int = 1) -> str:
        inputs = (given, self.weight(after, before, size, size), self.weight(after))
        return self.add("Conv", inputs, strides=[stride] * 2, pads=[size // 2] * 4)

    def model(self, shape: Sequence[int | str], output: str) -> ModelProto:
        """With one FP32 input `x` and one output `y`."""
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        taken = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "bench", [given], [taken], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def resnet() -> ModelProto:
    """ResNet-50's convolutions, their normalisation folded into them."""
    graph = Graph()
    values = graph.add("Relu", [graph.convolution("x", 3, 64, 7, 2)])
    values = graph.add("MaxPool", [values], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    before = 64
    for stage, (blocks, inside) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            around = values if block else graph.convolution(values, before, 4 * inside, 1, stride)
            inner = graph.add("Relu", [graph.convolution(values, before, inside, 1)])
            inner = graph.add("Relu", [graph.convolution(inner, inside, inside, 3, stride)])
            inner = graph.convolution(inner, inside, 4 * inside, 1)
            values, before = graph.add("Relu", [graph.add("Add", [inner, around])]), 4 * inside
    values = graph.add("Flatten", [graph.add("GlobalAveragePool", [values])])
    return graph.model(("batch", 3, 224, 224), graph.add("MatMul", [values, graph.weight(2048, 1000)]))


def perceptron(*widths: int) -> ModelProto:
    graph, values = Graph(), "x"
    for before, after in pairwise(widths):
        values = graph.add("Relu", [graph.add("MatMul", [values, graph.weight(before, after)])])
    return graph.model(("batch", widths[0]), values)


def lstm(inputs: int = 256, hidden: int = 512, layers: int = 2) -> ModelProto:
    graph, values = Graph(), "x"
    for layer in range(layers):
        width = hidden if layer else inputs
        weights = [graph.weight(1, 4 * hidden, width), graph.weight(1, 4 * hidden, hidden)]
        values = graph.add("LSTM", [values, *weights], hidden_size=hidden)
        values = graph.add("Squeeze", [values, _axis(graph)])
    return graph.model(("steps", "batch", inputs), values)


def _axis(graph: Graph) -> str:
    name = f"w{len(graph.weights)}"
    graph.weights.append(numpy_helper.from_array(np.array([1]), name))
    return name


def forest() -> bytes:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    pixels, labels = load_digits(return_X_y=True)
    trees = RandomForestClassifier(150, random_state=7).fit(pixels, labels)
    content: bytes = to_onnx(trees, pixels[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    return content


def make(folder: Path) -> None:
    """Writes what is missing: the folder of each model appears when it is whole."""
    from bench.children import loading

    makers: dict[str, Callable[[], bytes]] = {
        "resnet": lambda: resnet().SerializeToString(),
        "perceptron": lambda: perceptron(1024, 4096, 4096, 1024).SerializeToString(),
        "lstm": lambda: lstm().SerializeToString(),
        "forest": forest,
        "small": lambda: perceptron(64, 32, 10).SerializeToString(),
    }
    for name, maker in makers.items():
        if not (folder / name).exists():
            staged = folder / f".{name}"
            (staged / "1").mkdir(parents=True, exist_ok=True)
            (staged / "1/model.onnx").write_bytes(maker())
            staged.rename(folder / name)
    if not (folder / "encoder").exists():
        staged = folder / ".loading"
        rmtree(staged, ignore_errors=True)
        loading.make(staged)
        (staged / "whole").rename(folder / "encoder")
        rmtree(staged)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
