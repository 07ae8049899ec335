"""What the protocol says about models: metadata, configuration, index and statistics, as JSON objects."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from inferry.errors import InferryError
from inferry.protocol.decoder import decode
from inferry.protocol.signature import TensorSpec
from inferry.repository.layout import CONFIG_FILE, MODEL_FILE
from inferry.repository.repository import Repository
from inferry.repository.version import READY, UNKNOWN
from inferry.runtime import row_proof
from inferry.runtime.model import Model, ServedForm
from inferry.settings import Settings

# What Triton calls ONNX models; the protocol's own text says onnx_onnxv1, which no client knows.
PLATFORM = "onnxruntime_onnx"

# Elements of an example: a document is no place for megabytes of zeros.
MAX_EXAMPLE = 4096

EXTENSIONS = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)


def server(settings: Settings) -> dict[str, Any]:
    """The protocol's server metadata, with the extensions that the settings allow."""
    extensions = [name for name in EXTENSIONS if settings.model_control or not name.startswith("model_rep")]
    return {"name": settings.app_name, "version": settings.app_version, "extensions": extensions}


def metadata(model: Model, versions: list[str]) -> dict[str, Any]:
    """The protocol's model metadata; `properties` holds what the ONNX file says of itself, and its digest."""
    signature = model.session.signature
    return {
        "name": model.name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [_input(spec, model) for spec in signature.inputs.values()],
        "outputs": [_tensor(spec, model.labels(spec.name)) for spec in signature.outputs.values()],
        "properties": _properties(model),
    }


def named_axes(model: Model) -> dict[str, str]:
    """The lengths of each input's and output's axes, where the file has names for some: `batch, 3`."""
    signature = model.session.signature
    specs = {**signature.outputs, **signature.inputs}
    return {name: axes for name, spec in specs.items() if (axes := row_proof.axes(spec))}


def shown(model: Model, versions: list[str]) -> dict[str, Any]:
    """What a page for people needs to know of a model: its metadata, and beside them what only its config says."""
    return {
        **metadata(model, versions),
        "version": model.version,
        "max_batch_size": model.signature.max_batch_size,
        "optional": [spec.name for spec in model.signature.inputs.values() if spec.optional],
        "columns": model.columns,
        "example": example(model),
        "images": {name: how._asdict() for name, how in model.preprocess.items()},
        "sound": model.config.sound,
        "boxes": model.boxes._asdict() if model.boxes else None,
    }


def config(model: Model) -> dict[str, Any]:
    """Triton's ModelConfig message as JSON, as far as ONNX models have it."""
    signature, batched = model.session.signature, model.session.signature.max_batch_size > 0
    value: dict[str, Any] = {
        "name": model.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"all": {}},
        "max_batch_size": signature.max_batch_size,
        "input": [_config_input(spec, batched) for spec in signature.inputs.values()],
        "output": [
            {**_config_tensor(spec, batched), "label_filename": _label_file(model, spec), "is_shape_tensor": False}
            for spec in signature.outputs.values()
        ],
        "instance_group": [{"name": f"{model.name}_0", "kind": "KIND_CPU", "count": 1}],
        "default_model_filename": MODEL_FILE,
        "optimization": {"graph": {"level": 0}},
        "parameters": {"intra_op_thread_count": {"string_value": str(model.config.threads)}},
        "model_warmup": [],
    }
    if model.config.dynamic_batching:
        delay = model.config.dynamic_batching.max_queue_delay_us
        value["dynamic_batching"] = {"max_queue_delay_microseconds": delay}
    if model.config.response_cache.enable:
        value["response_cache"] = {"enable": model.keeps_responses}
    return value


def index(repository: Repository, only_ready: bool) -> list[dict[str, str]]:
    """Every version with its state; UNKNOWN until somebody asks for it: an index must not fetch a whole bucket."""
    items = []
    for entry in repository.entries():
        item = {"name": entry.name, "version": entry.version, "state": entry.state}
        reason = entry.reason or ("not loaded yet: its first request loads it" if entry.state == UNKNOWN else "")
        if reason:
            item["reason"] = reason
        if entry.state == READY or not only_ready:
            items.append(item)
    return items


def statistics(repository: Repository, name: str, version: str) -> dict[str, Any]:
    """What one model version did in this process, and the memory that it takes while it is loaded."""
    model = repository.entry(name, version).model
    return {
        "name": name,
        "version": version,
        **repository.metrics.found(name, version).as_dict(),
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": model.size}] if model else [],
    }


def example(model: Model) -> dict[str, Any] | None:
    """An inference request for the model: the one in its config, else one of zeros. None when that would be huge."""
    given = model.config.example.get("inputs")
    if given is not None and _fits({"inputs": given}, model):
        return {"inputs": given}
    specs = [spec for spec in model.session.signature.inputs.values() if not spec.optional]
    if sum(math.prod(_shape(spec)) for spec in specs) > MAX_EXAMPLE:
        return None
    return {"inputs": [_zeros(spec) for spec in specs]}


def _input(spec: TensorSpec, model: Model) -> dict[str, Any]:
    value = _tensor(spec, ())
    if spec.name in model.preprocess:
        value["parameters"] = {**value.get("parameters", {}), "images": True}
    return value


def _tensor(spec: TensorSpec, labels: tuple[str, ...]) -> dict[str, Any]:
    parameters: dict[str, Any] = {"labels": labels} if labels else {}
    if spec.shape is None:
        parameters["rank"] = "any"
    if spec.optional:
        parameters["optional"] = True
    value = {"name": spec.name, "datatype": spec.datatype.name, "shape": spec.stated}
    return {**value, "parameters": parameters} if parameters else value


def _properties(model: Model) -> Mapping[str, str]:
    file = model.session.file
    opsets = {f"opset{'.' + domain if domain else ''}": str(version) for domain, version in file.opsets.items()}
    values = {
        **model.session.custom_metadata,
        "sha256": model.digest,
        "size": str(model.size),
        "hashed": "at this load" if model.hashed else "before; size and times are the same since",
        **_form(model.form),
        "producer": file.producer,
        "description": model.config.description,
        "response_cache": _response_cache(model),
        "axes": "; ".join(f"{name}: {axes}" for name, axes in named_axes(model).items()),
        "rows": model.row_proof.verdict.rows,
        "rows_reason": model.row_proof.verdict.reason,
        "threads": f"1, because of {', '.join(file.numerics.trees)}" if model.has_one_thread else "",
        "numerics": "; ".join(model.session.notes),
        **opsets,
    }
    return {name: value for name, value in values.items() if value}


def _response_cache(model: Model) -> str:
    if model.random:
        return f"off, because of {', '.join(model.random)}"
    return "on" if model.keeps_responses else ""


def _form(form: ServedForm | None) -> dict[str, str]:
    """Of a prepared version: `sha256` is that of the model that it was made of, this one what was made of it."""
    if form is None:
        return {}
    problems = [form.why, *form.left_out]
    return {
        "form": form.kind,
        "form_reason": "; ".join(filter(None, problems)),
        "prepared_sha256": form.manifest,
    }


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    has_batch = batched and not spec.optional and spec.shape is not None
    dims = spec.stated[1:] if has_batch else spec.stated
    return {"name": spec.name, "data_type": spec.datatype.config, "dims": dims}


def _label_file(model: Model, spec: TensorSpec) -> str:
    """The file that has an output's labels: it need not be one of labels alone."""
    if model.config.labels.get(spec.name):
        return CONFIG_FILE
    return MODEL_FILE if spec.labels else ""


def _config_input(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return {
        **_config_tensor(spec, batched),
        "format": "FORMAT_NONE",
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": spec.optional,
    }


def _fits(request: dict[str, Any], model: Model) -> bool:
    signature = model.session.signature
    try:
        signature.feed(decode(orjson.dumps(request), None, signature.known[True]))
    except InferryError:
        return False
    return True


def _shape(spec: TensorSpec) -> list[int]:
    return [1 if length == -1 else length for length in spec.stated]


def _zeros(spec: TensorSpec) -> dict[str, Any]:
    shape = _shape(spec)
    zero: Any = "" if spec.datatype.name == "BYTES" else False if spec.datatype.name == "BOOL" else 0
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype.name, "data": [zero] * math.prod(shape)}
