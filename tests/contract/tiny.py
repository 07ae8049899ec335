"""The repository of the server `tiny`: a model for each thing that requests can be about."""

import json
from typing import Any

import onnx_models

MAX_REQUEST_BYTES = 1_000_000

# One identity "x" -> "y" of a vector for each datatype, by the datatype's name.
DATATYPE_MODELS = {f"{name}/1/model.onnx": onnx_models.identity(name, ("n",)) for name in onnx_models.ELEMENT_TYPES}
CONFIGS: dict[str, Any] = {
    "labelled": {"labels": {"y": ["ant", "bee", "cat"]}},
    "batched": {"max_batch_size": 4},
    "table": {"columns": ["b", "a"]},
    "queue": {"max_queue_size": 1},
}
TINY = (
    DATATYPE_MODELS
    | {
        "echo/1/model.onnx": onnx_models.identity("FP32", ("n",)),
        "echo/2/model.onnx": onnx_models.identity("FP32", ("n",), output="z"),
        "echo/config.json": b'{"default_version": "1"}',
        "pair/1/model.onnx": onnx_models.echo({"a": ("FP32", ("n",)), "b": ("INT64", ("m",))}),
        "matrix/1/model.onnx": onnx_models.identity("FP32", ("n", 2)),
        "text/1/model.onnx": onnx_models.identity("BYTES", ("n", "m")),
        "word/1/model.onnx": onnx_models.identity("BYTES", (1,)),
        "image/1/model.onnx": onnx_models.identity("FP32", ("n", 1, 2, 2)),
        "scalar/1/model.onnx": onnx_models.identity("FP32", ()),
        "labelled/1/model.onnx": onnx_models.identity("FP32", ("n", 3)),
        "batched/1/model.onnx": onnx_models.identity("FP32", ("n", 3)),
        "table/1/model.onnx": onnx_models.echo({"a": ("FP32", ("n", 1)), "b": ("INT64", ("n", 1))}),
        "scaled.onnx": onnx_models.scaled(2.0, 3),
        "classifier.onnx": onnx_models.zipmap(("no", "yes")),
        "failing.onnx": onnx_models.failing(),
        "slow.onnx": onnx_models.slow(),
        "queue/1/model.onnx": onnx_models.slow(),
        "broken.onnx": b"this is not a model",
        "maximum.onnx": onnx_models.model(
            [onnx_models.helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0)],
            [onnx_models.tensor("x", "FP32", ("n",))],
            [onnx_models.tensor("y", "FP32", ())],
        ),
        "sequence.onnx": onnx_models.sequence_output(),
        "complex.onnx": onnx_models.complex_input(),
    }
    | {f"{name}/config.json": json.dumps(config).encode() for name, config in CONFIGS.items()}
)
