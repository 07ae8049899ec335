"""XGBoost's boosters and estimators, by onnxmltools."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.origins import onnxmltools_converters
from inferry.origins.origin import Origin, Wish, matrix, needed
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array


def open_file(path: Path, wish: Wish) -> Origin:
    """The booster in a file of `save_model`, UBJSON or JSON. InvalidRequest when it is another document."""
    with path.open("rb") as file:
        if b"learner" not in file.read(100):
            raise InvalidRequest(f"{path} is no model of XGBoost: its files begin with 'learner'")
    xgboost = needed("xgboost", path)
    booster = xgboost.Booster()
    booster.load_model(path)
    return of_model(booster, path, wish)


def of_model(model: Any, path: Path, _: Wish) -> Origin:
    """A booster or an estimator."""
    xgboost = needed("xgboost", path)
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    # The converter wants features without names: f0, f1 and so on.
    booster.feature_names = booster.feature_types = None
    onnx, by = onnxmltools_converters.convert("xgboost", model, booster.num_features(), path)
    names = tuple(map(str, getattr(model, "classes_", ())))

    def answers(feed: Feed) -> Mapping[str, Array]:
        found = booster.predict(xgboost.DMatrix(matrix(feed)))
        return onnxmltools_converters.outputs(np.asarray(found), getattr(model, "classes_", None))

    return Origin(onnx, f"{by} of XGBoost {xgboost.__version__}", answers, names)
