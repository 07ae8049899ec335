"""Files of other formats than ONNX, and the call that exports each."""

import posixpath
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inferry.errors import InvalidRequest

_TORCH = (
    'PyTorch: torch.onnx.export(model, (input,), "model.onnx", dynamo=True, dynamic_shapes=...); '
    "of Ultralytics: yolo export model={path} format=onnx"
)
_SKLEARN = (
    "scikit-learn: inferry import {path} --trust, in the environment that it was trained in; only if you trust it: a "
    "pickle runs code"
)
_KERAS = 'Keras: keras.saving.load_model({file!r}).export("model.onnx", format="onnx")'

_EXPORTS = {
    "pt": _TORCH,
    "pth": _TORCH,
    "pkl": _SKLEARN,
    "joblib": _SKLEARN,
    "pickle": _SKLEARN,
    "skops": "scikit-learn: inferry import {path}, in the environment that it was trained in",
    "pt2": "PyTorch: inferry import {path}, in the environment that it was exported in",
    "h5": _KERAS,
    "keras": _KERAS,
    "tflite": "TensorFlow Lite: python -m tf2onnx.convert --tflite {path} --output model.onnx",
    "safetensors": "weights of Hugging Face, without a graph: optimum-cli export onnx --model {folder} onnx/",
    "pb": "TensorFlow: python -m tf2onnx.convert --saved-model {folder} --output model.onnx",
}


# The call of each producer, by how its name begins, that leaves the batch free.
_PRODUCERS = {
    "pytorch": 'PyTorch: torch.onnx.export(model, (input,), "model.onnx", dynamo=True, dynamic_shapes=({{0: '
    'torch.export.Dim("batch")}},)), with an input of two rows or more',
    "skl2onnx": 'scikit-learn: skl2onnx.to_onnx(model, X[:1], options={{"zipmap": False}}), X of float32',
    "OnnxMLTools": 'onnxmltools: initial_types=[("X", FloatTensorType([None, width]))]',
    "tf2onnx": 'TensorFlow: tf2onnx.convert.from_keras(model, [tf.TensorSpec([None, ...], tf.float32, name="x")])',
    "keras": 'Keras: model.export("model.onnx", format="onnx", input_signature=[keras.InputSpec(shape=(None, ...))])',
    "paddle": "Paddle: paddle.onnx.export(model, path, input_spec=[InputSpec([None, ...])])",
}


def advice(producer: str) -> str:
    """The call of a file's producer that exports it with a free batch; empty for others."""
    found = (call for name, call in _PRODUCERS.items() if producer.lower().startswith(name.lower()))
    return next(found, "").format()


def refuse_foreign(path: str) -> None:
    """InvalidRequest for a file of another format, with the call that exports it."""
    if Path(path).is_file() and (found := foreign([path])):
        raise InvalidRequest(f"{path} is not ONNX. {found[0]['export']}")


def foreign(paths: Iterable[str], root: str = "", own: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """The files of other formats below `root`, with how to `export` each; `own` are ONNX files' weights."""
    found = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        _, dot, extension = name.rpartition(".")
        how = _EXPORTS.get(extension.lower(), "") if dot else ""
        # ONNX's own samples of inputs are test_data_set_0/input_0.pb.
        if how and path not in own and not posixpath.basename(folder).startswith("test_data_set_"):
            file = posixpath.join(root, path)
            above = posixpath.dirname(file) or "."
            export = how.format(file=file, path=shlex.quote(file), folder=shlex.quote(above))
            found.append({"path": path, "export": export})
    return found
