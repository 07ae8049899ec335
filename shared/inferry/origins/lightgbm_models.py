"""LightGBM's boosters and estimators, by onnxmltools."""

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
    """The booster in a file of `save_model`. InvalidRequest when it is another text."""
    with path.open("rb") as file:
        if not file.read(5).startswith(b"tree"):
            raise InvalidRequest(f"{path} is no model of LightGBM: its files begin with 'tree'")
    lightgbm = needed("lightgbm", path)
    return of_model(lightgbm.Booster(model_file=path), path, wish)


def of_model(model: Any, path: Path, _: Wish) -> Origin:
    """A booster or an estimator."""
    booster = getattr(model, "booster_", model)
    maker = f"LightGBM {needed('lightgbm', path).__version__}"
    onnx, by = onnxmltools_converters.convert("lightgbm", model, booster.num_feature(), path)
    names = tuple(map(str, getattr(model, "classes_", ())))

    def answers(feed: Feed) -> Mapping[str, Array]:
        return onnxmltools_converters.outputs(
            np.asarray(booster.predict(matrix(feed))), getattr(model, "classes_", None)
        )

    return Origin(onnx, f"{by} of {maker}", answers, names)
