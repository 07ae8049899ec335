"""Progression of diabetes after a year: boosted trees over ten columns, each an input of its own."""

import numpy as np
from cards import Built, example
from onnx import ModelProto, TensorProto, helper
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from training import export, fit, split


def build() -> Built:
    """The model and its card; the expected answer is scikit-learn's."""
    data = load_diabetes(scaled=False)
    columns: list[str] = data.feature_names
    train, held, train_targets, held_targets = split(data.data.astype(np.float32), data.target, stratify=False)
    model = fit(
        GradientBoostingRegressor(n_estimators=30, max_depth=2, subsample=0.7, random_state=0),
        train,
        train_targets,
    )
    row = held[:1]
    inputs = {column: row[:, index : index + 1] for index, column in enumerate(columns)}
    card = {
        "description": (
            "Predicts how far diabetes has progressed after a year (25 to 346) from ten measurements, each an"
            f" input of its own, with boosted trees (held-out R2 {model.score(held, held_targets):.3f})."
        ),
        "default_version": "1",
        "columns": columns,
        "example": example(inputs, {"progression": model.predict(row)}),
    }
    return Built({"1": to_onnx(model, columns)}, card)


def to_onnx(model: GradientBoostingRegressor, columns: list[str]) -> ModelProto:
    """Ten inputs FP32 [batch, 1] to `progression` FP32 [batch, 1]; skl2onnx gives trees one input only."""
    proto = export(
        model,
        [("table", FloatTensorType([None, len(columns)]))],
        final_types=[("progression", FloatTensorType([None, 1]))],
    )
    proto.graph.ClearField("input")
    proto.graph.input.extend(
        helper.make_tensor_value_info(column, TensorProto.FLOAT, ["batch", 1]) for column in columns
    )
    proto.graph.node.insert(0, helper.make_node("Concat", columns, ["table"], axis=1))
    return proto
