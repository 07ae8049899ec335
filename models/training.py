"""What the trained models share: the held-out split, reproducible fitting and the export by skl2onnx."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
from onnx import ModelProto, helper
from skl2onnx import convert_sklearn
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

GRID = 256
OPSETS = {"": 17, "ai.onnx.ml": 3}

Estimator = TypeVar("Estimator")


def split(inputs: Any, targets: Any, stratify: bool = True) -> tuple[Any, Any, Any, Any]:
    """Train inputs, held-out inputs (a fifth), train targets, held-out targets."""
    strata = targets if stratify else None
    train, held, train_targets, held_targets = train_test_split(
        inputs, targets, test_size=0.2, random_state=0, stratify=strata
    )
    return train, held, train_targets, held_targets


def fit(estimator: Estimator, inputs: Any, targets: Any) -> Estimator:
    """Fits in one thread and returns the estimator."""
    with single_thread():
        estimator.fit(inputs, targets)  # type: ignore[attr-defined]
    return estimator


def single_thread() -> AbstractContextManager[Any]:
    """Keeps BLAS to one thread: their number changes the last bits, and these small matrices gain nothing."""
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits


def on_grid(weights: np.ndarray) -> np.ndarray:
    """The weights rounded to 1/256, so that the last bits of a CPU's arithmetic do not reach the file."""
    return np.asarray(np.round(weights * GRID) / GRID)


def export(estimator: Any, inputs: Sequence[tuple[str, Any]], zipmap: bool | None = None, **options: Any) -> ModelProto:
    """The fitted estimator as ONNX; `zipmap` is for classifiers and makes their probabilities a sequence of maps."""
    converter_options: Mapping[str, bool] | None = None if zipmap is None else {"zipmap": zipmap}
    proto: ModelProto = convert_sklearn(
        estimator, initial_types=list(inputs), target_opset=OPSETS, options=converter_options, **options
    )
    set_opsets(proto)
    name_batch_axis(proto)
    return proto


def set_opsets(proto: ModelProto) -> None:
    """Declares the opsets asked for: skl2onnx declares the lowest that its own operators need."""
    others = [opset for opset in proto.opset_import if opset.domain not in OPSETS]
    proto.ClearField("opset_import")
    proto.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in OPSETS.items())
    proto.opset_import.extend(others)


def name_batch_axis(proto: ModelProto) -> None:
    """Names the first axis of every tensor that goes in or out "batch"; skl2onnx leaves it without a name."""
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
