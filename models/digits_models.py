"""Handwritten digits, 64 pixels in a row: logistic regression (version 1), multilayer perceptron (version 2)."""

import numpy as np
from cards import Built, example
from onnx import ModelProto
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from training import export, fit, on_grid, single_thread, split

LABELS = [str(digit) for digit in range(10)]
EPOCHS = 20
# White on black; the pixels of the data set are from 0 to 16.
PICTURES = {"resize": "stretch", "size": 8, "channels": "grey", "layout": "NCHW", "scale": 16 / 255}


def build() -> Built:
    """Both versions and their card; the expected answer is scikit-learn's, of version 2."""
    train, held, train_targets, held_targets = split(*load_digits(return_X_y=True))
    logistic = train_logistic(train, train_targets)
    perceptron = train_perceptron(train, train_targets)
    pixels = held[:1].astype(np.float32)
    answer = {"label": perceptron.predict(pixels), "probabilities": perceptron.predict_proba(pixels)}
    card = {
        "description": (
            "Reads a handwritten digit from 8x8 pixels of 0 to 16. Version 1 is a logistic regression"
            f" (held-out accuracy {logistic.score(held, held_targets):.3f}), version 2 a multilayer"
            f" perceptron ({perceptron.score(held, held_targets):.3f})."
        ),
        "warm_up": True,
        "preprocess": {"pixels": PICTURES},
        "labels": {"output_probability": LABELS, "probabilities": LABELS},
        "example": example({"pixels": pixels}, answer),
    }
    return Built({"1": to_onnx(logistic, zipmap=True), "2": to_onnx(perceptron, zipmap=False)}, card)


def train_logistic(inputs: np.ndarray, targets: np.ndarray) -> Pipeline:
    """The Newton solver ends at the optimum itself, wherever rounding errors lead it on the way."""
    model = LogisticRegression(solver="newton-cg", tol=1e-10)
    pipeline = fit(Pipeline([("scale", MinMaxScaler()), ("classify", model)]), inputs, targets)
    model.coef_ = on_grid(model.coef_)
    model.intercept_ = on_grid(model.intercept_)
    return pipeline


def train_perceptron(inputs: np.ndarray, targets: np.ndarray) -> Pipeline:
    """A fixed number of epochs: waiting for convergence would tie the end to rounding errors."""
    scaler = MinMaxScaler().fit(inputs)
    model = MLPClassifier((64, 32), alpha=1e-3, batch_size=64, learning_rate_init=3e-3, random_state=0)
    with single_thread():
        for _ in range(EPOCHS):
            model.partial_fit(scaler.transform(inputs), targets, classes=np.unique(targets))
    model.coefs_ = [on_grid(weights) for weights in model.coefs_]
    model.intercepts_ = [on_grid(weights) for weights in model.intercepts_]
    return Pipeline([("scale", scaler), ("classify", model)])


def to_onnx(pipeline: Pipeline, zipmap: bool) -> ModelProto:
    """`pixels` FP32 [batch, 64] to the outputs that skl2onnx names."""
    return export(pipeline, [("pixels", FloatTensorType([None, 64]))], zipmap=zipmap)
