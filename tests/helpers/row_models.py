"""Models whose outputs are no rows, or look like them: the forms that real files have, each as small as it can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_models
from onnx import numpy_helper
from onnx.helper import make_node
from onnx_models import tensor


def graph(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **constants: Any) -> bytes:
    """The file of a graph of these nodes, whose constants are NumPy's values by name."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return onnx_models.model(nodes, inputs, outputs, initializers)


def turned(batch: str | None = "batch", time: str | None = "time") -> bytes:
    """FP32 `y` [time, batch, 2] is `x` [batch, time, 2] turned, as recognisers of sound and of writing give it."""
    x, y = tensor("x", "FP32", (batch, time, 2)), tensor("y", "FP32", (time, batch, 2))
    return graph([make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2])], [x], [y])


def hits(first: str | None = "num_hits") -> bytes:
    """INT64 `hits` [num_hits, 2] are the row and column of each value that isn't 0, as detectors give what they see."""
    nodes = [make_node("NonZero", ["x"], ["found"]), make_node("Transpose", ["found"], ["hits"], perm=[1, 0])]
    return graph(nodes, [tensor("x", "FP32", ("batch", 4))], [tensor("hits", "INT64", (first, 2))])


def with_mean() -> bytes:
    """`twice` has a row per row, `mean` is one of all rows: the loss beside the answers."""
    nodes = [make_node("Mul", ["x", "two"], ["twice"]), make_node("ReduceMean", ["x"], ["mean"], keepdims=0)]
    outputs = [tensor("twice", "FP32", ("batch", 4)), tensor("mean", "FP32", ())]
    return graph(nodes, [tensor("x", "FP32", ("batch", 4))], outputs, two=np.float32(2))


def relu(first: str) -> bytes:
    """FP32 `y` [batch, 4], whose first axis has another name, is `x` without what is below 0."""
    x, y = tensor("x", "FP32", ("batch", 4)), tensor("y", "FP32", (first, 4))
    return graph([make_node("Relu", ["x"], ["y"])], [x], [y])


def folded(first: str | None = "3*batch") -> bytes:
    """FP32 `y` [3*batch, 2] is `x` [batch, 3, 2] with two axes as one."""
    x = tensor("x", "FP32", ("batch", 3, 2))
    return graph([make_node("Reshape", ["x", "to"], ["y"])], [x], [tensor("y", "FP32", (first, 2))], to=[-1, 2])


def conditional() -> bytes:
    """FP32 `y` is `x` where the sum of the whole batch is positive, else `x` + 1."""
    nodes = [
        make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        make_node("Greater", ["sum", "zero"], ["positive"]),
        make_node("Add", ["x", "one"], ["more"]),
        make_node("Where", ["positive", "x", "more"], ["y"]),
    ]
    x, y = tensor("x", "FP32", ("batch", 4)), tensor("y", "FP32", ("batch", 4))
    return graph(nodes, [x], [y], zero=np.float32(0), one=np.float32(1))


def placed() -> bytes:
    """INT64 `place` [batch] of each row of `x` among all by its first value."""
    nodes = [
        make_node("Gather", ["x", "zero"], ["first"], axis=1),
        make_node("Shape", ["first"], ["count"]),
        make_node("TopK", ["first", "count"], ["sorted", "place"]),
    ]
    x, place = tensor("x", "FP32", ("batch", 4)), tensor("place", "INT64", ("batch",))
    return graph(nodes, [x], [place], zero=np.int64(0))


def quantised() -> bytes:
    """FP32 `y` [batch, 3] of a matrix product whose input is quantised with one scale for all rows."""
    nodes = [
        make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        make_node("MatMulInteger", ["q", "w", "zero"], ["product"]),
        make_node("Cast", ["product"], ["number"], to=onnx_models.ELEMENT_TYPES["FP32"]),
        make_node("Mul", ["number", "scale"], ["y"]),
    ]
    weights = np.arange(12, dtype=np.uint8).reshape(4, 3)
    return graph(nodes, [tensor("x", "FP32", ("batch", 4))], [tensor("y", "FP32", ("batch", 3))], w=weights)


def noisy() -> bytes:
    """FP32 `y` is `x` and a random number."""
    nodes = [make_node("RandomNormalLike", ["x"], ["noise"]), make_node("Add", ["x", "noise"], ["y"])]
    return graph(nodes, [tensor("x", "FP32", ("batch", 4))], [tensor("y", "FP32", ("batch", 4))])


def masked() -> bytes:
    """FP32 `sum` of the INT64 `ids` that `mask` has: PyTorch gives the mask's batch a symbol of its own."""
    nodes = [
        make_node("Mul", ["ids", "mask"], ["some"]),
        make_node("ReduceSum", ["some", "axis"], ["sum"], keepdims=1),
    ]
    inputs = [tensor("ids", "INT64", ("s18", "s41")), tensor("mask", "INT64", ("s43", "s41"))]
    return graph(nodes, inputs, [tensor("sum", "INT64", ("s18", 1))], axis=[1])


def label() -> bytes:
    """INT64 `label` [1], it says, and gives one for each row: LightGBM's classifiers by onnxmltools."""
    node = make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)
    return graph([node], [tensor("x", "FP32", ("batch", 4))], [tensor("label", "INT64", (1,))])


def misdeclared() -> bytes:
    """FP32 `y` is `x` [batch, time, 2], but its time is declared as 6: PyTorch's exporter for an nn.GRU."""
    x = tensor("x", "FP32", ("batch", "time", 2))
    return graph([make_node("Identity", ["x"], ["y"])], [x], [tensor("y", "FP32", ("batch", 6, 2))])


def stateful() -> bytes:
    """FP32 `y` and `after` from `x` [batch, 3], `state` [2, batch, 3] and the scalar INT64 `rate`: a voice detector."""
    nodes = [
        make_node("Cast", ["rate"], ["factor"], to=onnx_models.ELEMENT_TYPES["FP32"]),
        make_node("Mul", ["x", "factor"], ["y"]),
        make_node("Identity", ["state"], ["after"]),
    ]
    inputs = [
        tensor("x", "FP32", ("batch", 3)),
        tensor("state", "FP32", (2, "batch", 3)),
        tensor("rate", "INT64", ()),
    ]
    return graph(nodes, inputs, [tensor("y", "FP32", ("batch", 3)), tensor("after", "FP32", (2, "batch", 3))])


def centred(datatype: str) -> bytes:
    """`y` [batch, 2] is `x` less the mean of the batch: 0 for each row alone."""
    nodes = [make_node("ReduceMean", ["x", "first"], ["mean"], keepdims=1), make_node("Sub", ["x", "mean"], ["y"])]
    x, y = (tensor(name, datatype, ("batch", 2)) for name in "xy")
    return graph(nodes, [x], [y], first=[0])


def centred_lookup() -> bytes:
    """FP32 `y` [batch, 2] is row `id` + 3 of a table of four, less the mean of the batch; an `id` over 0 fails."""
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    nodes = [
        make_node("Add", ["id", "three"], ["place"]),
        make_node("Gather", ["table", "place"], ["found"]),
        make_node("ReduceMean", ["found", "first"], ["mean"], keepdims=1),
        make_node("Sub", ["found", "mean"], ["y"]),
    ]
    constants = {"table": table, "three": 3, "first": [0]}
    return graph(nodes, [tensor("id", "INT64", ("batch",))], [tensor("y", "FP32", ("batch", 2))], **constants)


def lookup() -> bytes:
    """FP32 `y` [batch, 2] is row `id` of a table of four: any other number fails."""
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    node = make_node("Gather", ["table", "id"], ["y"])
    return graph([node], [tensor("id", "INT64", ("batch",))], [tensor("y", "FP32", ("batch", 2))], table=table)
