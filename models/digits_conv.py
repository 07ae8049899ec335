"""Handwritten digits as images: a fixed convolution, max pooling and a trained linear layer."""

import numpy as np
from cards import Built, example
from numpy.lib.stride_tricks import sliding_window_view
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from training import fit, on_grid, split

FILTERS = 8
BRIGHTEST = 16
LABELS = [str(digit) for digit in range(10)]


def build() -> Built:
    """The model and its card; the expected answer comes from `forward`."""
    pixels, targets = load_digits(return_X_y=True)
    train, held, train_targets, held_targets = split(pixels.reshape(-1, 1, 8, 8), targets)
    filters = make_filters()
    model = fit(LogisticRegression(solver="newton-cg", tol=1e-10), extract(filters, train), train_targets)
    weights = {"filters": filters, "weight": on_grid(model.coef_), "bias": on_grid(model.intercept_)}
    accuracy = np.mean(forward(weights, held)["logits"].argmax(axis=1) == held_targets)
    image = held[:1].astype(np.float32)
    card = {
        "description": (
            "Reads a handwritten digit from an image of 8x8 pixels of 0 to 16 with a small convolutional"
            f" network (held-out accuracy {accuracy:.3f})."
        ),
        "default_version": "1",
        "labels": {"logits": LABELS, "probabilities": LABELS},
        # White on black.
        "preprocess": {"image": {"resize": "stretch", "channels": "grey", "scale": BRIGHTEST / 255}},
        "example": example({"image": image}, forward(weights, image)),
    }
    return Built({"1": make_graph(weights)}, card)


def make_filters() -> np.ndarray:
    """Random 3x3 filters [filter, 1, 3, 3] that see edges only: each sums to about nothing."""
    filters = np.random.default_rng(0).uniform(-1, 1, (FILTERS, 1, 3, 3))
    return on_grid(filters - filters.mean(axis=(2, 3), keepdims=True))


def extract(filters: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The features [batch, 4 * 4 * filters] that the linear layer sees, in double precision."""
    padded = np.pad(images[:, 0] / BRIGHTEST, ((0, 0), (1, 1), (1, 1)))
    patches = sliding_window_view(padded, (3, 3), axis=(1, 2))
    edges = np.maximum(np.einsum("bhwij,fij->bfhw", patches, filters[:, 0]), 0)
    pooled = edges.reshape(len(images), len(filters), 4, 2, 4, 2).max(axis=(3, 5))
    return np.asarray(pooled.reshape(len(images), -1))


def forward(weights: dict[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """The model's outputs without ONNX."""
    logits = extract(weights["filters"], images) @ weights["weight"].T + weights["bias"]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"logits": logits, "probabilities": exponents / exponents.sum(axis=1, keepdims=True)}


def make_graph(weights: dict[str, np.ndarray]) -> ModelProto:
    """`image` FP32 [batch, 1, 8, 8] to `logits` and `probabilities` FP32 [batch, 10]."""
    nodes = [
        helper.make_node("Div", ["image", "brightest"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "filters"], ["edges"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["edges"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {**weights, "brightest": np.array(BRIGHTEST)}
    graph = helper.make_graph(
        nodes,
        "digits-conv",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 10]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
