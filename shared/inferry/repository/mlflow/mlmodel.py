"""MLmodel, the file in which MLflow says what a logged model is: its flavours, its files and its signature."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from inferry.errors import InvalidModel, InvalidSettings, extra
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import DATATYPES
from inferry.repository.layout import MODEL_FILE

FILE = "MLmodel"
# PyYAML takes 2 s for a megabyte of commas, and lets go of the interpreter's lock seldom.
MAX_BYTES = 1 << 18
# NumPy's words for texts.
_TEXT = ("str", "object", "bytes", "string")


class Tensor(NamedTuple):
    """What a signature says of an input or output: no name where an array was logged, -1 for an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class MLmodel(NamedTuple):
    """`flavors` by name, `data`: the ONNX file; no `inputs` and `outputs` where the signature has columns."""

    flavors: tuple[str, ...]
    data: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()


def parse(text: bytes) -> MLmodel:
    """What the file says. ValueError says why it can't be read; InvalidSettings without PyYAML."""
    try:
        import yaml
    except ImportError as exc:
        raise InvalidSettings(f"models from MLflow need PyYAML: {extra('mlflow')}") from exc
    # Texts, lists and objects only, and null is a text: no tags, no merged keys, whose copies would grow without end.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        value = yaml.load(text, loader)  # noqa: S506
        flavors = value["flavors"]
        onnx = flavors.get("onnx")
        signature = value.get("signature")
        signature = signature if isinstance(signature, dict) else {}
        return MLmodel(
            tuple(map(str, flavors)),
            str(onnx["data"]) if onnx is not None else "",
            _tensors(signature.get("inputs")),
            _tensors(signature.get("outputs")),
        )
    except yaml.YAMLError as exc:
        raise ValueError(f"it is no YAML: {' '.join(str(exc).split())[:200]}") from exc
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OverflowError) as exc:
        raise ValueError(f"it lacks what MLflow writes, or has it as something else: {str(exc)[:200]}") from exc


def agree(said: MLmodel, signature: Signature) -> list[str]:
    """What the ONNX file has otherwise than MLmodel says, in a sentence each.

    InvalidModel when the inputs are others: it is another model that was put in its place.
    """
    if said.inputs:
        _check_inputs(said.inputs, signature)
    inputs, outputs = signature.inputs, signature.outputs
    found = [*_differing("input", said.inputs, inputs), *_differing("output", said.outputs, outputs)]
    return [f"{difference}: it is served as the file says" for difference in found]


def text(signature: Signature, model_id: str, size: int) -> bytes:
    """An MLmodel for a model.onnx with this signature, as `mlflow.onnx` writes it: MLflow can load it, too.

    `size`: of its files in bytes. Without a signature where NumPy has no such type, or the file states no rank.
    """
    import yaml

    now = datetime.now(UTC)
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    has_words = all(spec.shape is not None and not spec.datatype.is_bits for spec in tensors)
    schemas = {"inputs": _schema(signature.inputs), "outputs": _schema(signature.outputs), "params": None}
    python = ".".join(map(str, sys.version_info[:3]))
    value = {
        "artifact_path": f"models:/{model_id}",
        "flavors": {
            "onnx": {"code": None, "data": MODEL_FILE, "providers": ["CPUExecutionProvider"]},
            "python_function": {
                "data": MODEL_FILE,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.onnx",
                "python_version": python,
            },
        },
        "model_id": model_id,
        "model_size_bytes": size,
        "model_uuid": model_id,
        "utc_time_created": f"{now:%Y-%m-%d %H:%M:%S.%f}",
    }
    if has_words:
        value["signature"] = schemas
    written: str = yaml.safe_dump(value, allow_unicode=True)
    return written.encode()


def environment(runtime: str) -> dict[str, bytes]:
    """The files beside it that say what MLflow's own servers install; `runtime`: the version of onnxruntime."""
    import yaml

    python = ".".join(map(str, sys.version_info[:3]))
    packages = ["mlflow", "onnx", f"onnxruntime=={runtime}"]
    requirements = "".join(f"{package}\n" for package in packages)
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": packages}],
        "name": "mlflow-env",
    }
    virtual = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    return {
        "requirements.txt": requirements.encode(),
        "conda.yaml": yaml.safe_dump(conda).encode(),
        "python_env.yaml": yaml.safe_dump(virtual).encode(),
    }


def _schema(specs: Mapping[str, TensorSpec]) -> str:
    tensors = [
        {
            "type": "tensor",
            "tensor-spec": {"dtype": _dtype(spec), "shape": spec.stated},
            "name": spec.name,
            **({"required": False} if spec.optional else {}),
        }
        for spec in specs.values()
    ]
    return orjson.dumps(tensors).decode()


def _check_inputs(said: Sequence[Tensor], signature: Signature) -> None:
    names = [tensor.name for tensor in said if tensor.name]
    required = [name for name, spec in signature.inputs.items() if not spec.optional]
    is_named = {*required} <= {*names} <= {*signature.inputs}
    if not (is_named if names else len(said) == len(required) == 1):
        known = ", ".join(names) or "one without a name"
        raise InvalidModel(
            f"{FILE} says that the inputs of model '{signature.model}' are {known[:300]}, and {MODEL_FILE} has "
            f"{', '.join(signature.inputs)[:300] or 'none'}: it is not the model that was logged; log it again, with "
            "its own signature"
        )


def _differing(kind: str, said: Sequence[Tensor], specs: Mapping[str, TensorSpec]) -> list[str]:
    required = [spec for spec in specs.values() if not spec.optional]
    alone = required[0] if len(required) == len(said) == 1 else None
    found = []
    for tensor in said:
        spec = specs.get(tensor.name) if tensor.name else alone
        if spec is None and tensor.name:
            found.append(f"has no {kind} '{tensor.name[:100]}', as its {FILE} says")
        elif spec is not None and not _is_same(tensor, spec):
            found.append(
                f"has the {kind} '{spec.name}' as {spec.datatype.name}{spec.stated}, and its {FILE} says "
                f"{tensor.dtype[:50]}{[*tensor.shape][:20]}"
            )
    return found


def _is_same(said: Tensor, spec: TensorSpec) -> bool:
    if spec.shape is not None:
        if len(spec.shape) != len(said.shape):
            return False
        if any(-1 not in lengths and lengths[0] != lengths[1] for lengths in zip(said.shape, spec.shape, strict=True)):
            return False
    return (
        spec.datatype.is_bits or said.dtype == _dtype(spec) or (spec.datatype.name == "BYTES" and said.dtype in _TEXT)
    )


def _dtype(spec: TensorSpec) -> str:
    """NumPy's word for a tensor's elements, as MLflow has it."""
    return "str" if spec.datatype is DATATYPES["BYTES"] else spec.datatype.dtype.name


def _tensors(text: Any) -> tuple[Tensor, ...]:
    """The tensors of a schema, none where it is one of columns. ValueError, TypeError, KeyError."""
    entries = (orjson.loads(text) if text else None) or []
    if not all(entry["type"] == "tensor" for entry in entries):
        return ()
    found = []
    for entry in entries:
        spec = entry["tensor-spec"]
        shape = tuple(spec["shape"])
        if not all(isinstance(length, int) for length in shape):
            raise ValueError(f"a shape is {shape}")
        found.append(
            Tensor(
                str(entry.get("name") or ""),
                str(spec["dtype"]),
                shape,
            )
        )
    return tuple(found)
