"""CatBoost's models, which it writes as ONNX itself."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.origins.origin import Origin, Wish, matrix, needed
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array


def open_file(path: Path, wish: Wish) -> Origin:
    """The model in a file of `save_model`. InvalidRequest when it is something else."""
    with path.open("rb") as file:
        if file.read(4) != b"CBM1":
            raise InvalidRequest(f"{path} is no model of CatBoost: its files begin with 'CBM1'")
    model = needed("catboost", path).CatBoost()
    model.load_model(str(path))
    return of_model(model, path, wish)


def of_model(model: Any, path: Path, _: Wish) -> Origin:
    """A model of any of its classes. InvalidRequest when CatBoost doesn't write it as ONNX."""
    catboost = needed("catboost", path)
    with TemporaryDirectory(prefix="inferry-") as folder:
        target = Path(folder, "model.onnx")
        try:
            model.save_model(str(target), format="onnx")
        except Exception as exc:
            raise InvalidRequest(f"CatBoost can't write {path} as ONNX: {exc}") from exc
        onnx = target.read_bytes()
    classes = tuple(map(str, model.classes_)) if len(model.classes_) else ()

    def answers(feed: Feed) -> Mapping[str, Array]:
        data = matrix(feed)
        if not classes:
            return {"predictions": np.asarray(model.predict(data))}
        return {
            "label": np.asarray(model.predict(data, prediction_type="Class")).reshape(-1),
            "probabilities": np.asarray(model.predict(data, prediction_type="Probability")),
        }

    return Origin(onnx, f"CatBoost {catboost.__version__}", answers, classes)
