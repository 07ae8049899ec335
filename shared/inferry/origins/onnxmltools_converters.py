"""onnxmltools, which converts the boosters of several frameworks in one way."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inferry.errors import InvalidRequest
from inferry.origins.origin import needed
from inferry.protocol.tensors import Array


def convert(kind: str, model: Any, width: int, path: Path) -> tuple[bytes, str]:
    """The ONNX file of a booster with rows of `width` floats, and what made it. InvalidRequest when it can't."""
    tools = needed("onnxmltools", path)
    types = needed("onnxmltools.convert.common.data_types", path)
    # LightGBM's converter makes maps of probabilities otherwise, XGBoost's never does.
    options = {"zipmap": False} if kind == "lightgbm" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            initial = [("X", types.FloatTensorType([None, width]))]
            made = getattr(tools, f"convert_{kind}")(model, initial_types=initial, **options)
    except Exception as exc:
        raise InvalidRequest(f"onnxmltools can't convert {path}: {' '.join(str(exc).split())[:1000]}") from exc
    return made.SerializeToString(), f"onnxmltools {tools.__version__}"


def outputs(scores: Array, classes: Array | None) -> Mapping[str, Array]:
    """A booster's answer as the converter's outputs have it; which of them there are, the ONNX file knows."""
    probabilities = scores if scores.ndim > 1 else np.stack([1 - scores, scores], 1)
    best = probabilities.argmax(1)
    label = best if classes is None else np.asarray(classes)[best]
    return {"variable": scores, "probabilities": probabilities, "label": label}
