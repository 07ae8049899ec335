"""The request that every peer gets, the example on the model's card, and what onnxruntime answers to it."""

import json
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]

DIGITS = Path(__file__).resolve().parents[2] / "models/digits"


def read_infer_response(answer: Any) -> Arrays:
    """The outputs of an Open Inference Protocol infer response, by name."""
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}


def read_mapping(answer: Any) -> Arrays:
    """The outputs of an answer that maps names to nested lists."""
    return {name: np.array(values) for name, values in answer.items()}


def example() -> dict[str, Any]:
    """The infer request on the model's card: one digit."""
    card = json.loads((DIGITS / "config.json").read_text(encoding="utf-8"))
    return {"inputs": card["example"]["inputs"]}


def compact(document: Any) -> bytes:
    """The document as JSON without spaces."""
    return json.dumps(document, separators=(",", ":")).encode()


def infer_body() -> bytes:
    """The example as the body of an infer request."""
    return compact(example())


def keyword_body() -> bytes:
    """The example as BentoML takes it: the API's arguments by name."""
    return compact({t["name"]: np.reshape(t["data"], t["shape"]).tolist() for t in example()["inputs"]})


def predict() -> Arrays:
    """What onnxruntime answers to the example."""
    # Before the import, as onnxruntime reads it then.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    session = ort.InferenceSession(DIGITS / "2/model.onnx", providers=["CPUExecutionProvider"])
    feed = {t["name"]: np.array(t["data"], np.float32).reshape(t["shape"]) for t in example()["inputs"]}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feed), strict=True))
