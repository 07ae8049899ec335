"""The OpenAPI document: what each operation takes and gives, with an example per loaded model."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from inferry.description import example
from inferry.model import Model
from inferry.routes import Route
from inferry.tensors import DATATYPES


class Error(BaseModel):
    """Every answer but a 200: what came, what was expected, what to do."""

    error: str


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    live: bool
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class Health(BaseModel):
    status: str
    name: str
    version: str
    environment: str
    models: list[str]


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class ModelNames(BaseModel):
    models: list[str]


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1 stands for any length")
    parameters: dict[str, Any] | None = Field(default=None, description="'labels' of classes, when known")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str] = Field(description="sha256, size (bytes), producer, opset, and the file's own metadata")


class Index(BaseModel):
    name: str
    version: str
    state: str
    reason: str | None = None


class Statistics(BaseModel):
    model_stats: list[dict[str, Any]]


class ResponseTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = Field(default=None, description="flat, row-major; null stands for NaN and infinities")
    parameters: dict[str, int] | None = Field(default=None, description="binary_data_size, for binary outputs")


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseTensor]


class Predictions(BaseModel):
    model_name: str
    model_version: str
    predictions: list[dict[str, Any]] = Field(description="per row, the value of each output by name")


class V1Predictions(BaseModel):
    predictions: list[Any]


RESPONSES: dict[str, Any] = {
    "infer": InferResponse,
    "model_ready": ModelReady,
    "live": Live,
    "ready": Ready,
    "health": Health,
    "predict": Predictions,
    "server_metadata": ServerMetadata,
    "models": ModelNames,
    "stats": Statistics,
    "model_metadata": ModelMetadata,
    "model_config": dict[str, Any],
    "model_stats": Statistics,
    "index": list[Index],
    "v1_models": ModelNames,
    "v1_model": ModelReady,
    "v1_predict": V1Predictions,
    "home": dict[str, str],
    "openapi": dict[str, Any],
}

_NAME = {"type": "string", "minLength": 1}
_PARAMETERS = {"type": "object"}
_INPUT = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _NAME,
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "data": {"type": "array", "items": {}, "description": "flat, or nested as the shape"},
        "parameters": {**_PARAMETERS, "description": "binary_data_size: bytes of this input behind the JSON"},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": _NAME,
        "parameters": {**_PARAMETERS, "description": "binary_data, classification"},
    },
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {**_PARAMETERS, "description": "binary_data_output, timeout (microseconds)"},
        "inputs": {"type": "array", "minItems": 1, "items": _INPUT},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
}

REQUESTS: dict[str, Any] = {
    "infer": _INFER,
    "predict": {
        "type": "object",
        "required": ["features"],
        "properties": {
            "features": {
                "description": "a row, or a list of rows; a row is a list of values or an object of named ones"
            },
            "model_name": {"type": "string", "description": "empty or 'default': DEFAULT_MODEL"},
        },
    },
    "v1_predict": {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": {"type": "array", "minItems": 1, "items": {}}},
    },
    "index": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    "load": {"type": "object", "properties": {"parameters": _PARAMETERS}},
    "unload": {"type": "object", "properties": {"parameters": _PARAMETERS}},
}


def operation(route: Route) -> dict[str, Any]:
    """What FastAPI can't see of a route: path parameters and the body that its handler parses itself."""
    extra: dict[str, Any] = {}
    names = [part[1:].partition("}")[0] for part in route.path.split("/") if part.startswith("{")]
    if names:
        extra["parameters"] = [{"name": n, "in": "path", "required": True, "schema": _NAME} for n in names]
    if route.operation in REQUESTS:
        schema = REQUESTS[route.operation]
        required = "required" in schema
        extra["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return extra


def responses(route: Route) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: its 200, and the protocol's error object for everything else."""
    model = RESPONSES.get(route.operation)
    answers: dict[int | str, dict[str, Any]] = {"default": {"model": Error, "description": "Error"}}
    if route.operation != "unsupported":
        answers[200] = {"description": "OK"} if model is None else {"model": model, "description": "OK"}
    return answers


def add_examples(document: dict[str, Any], models: Iterable[Model]) -> None:
    """Puts a request of each model into the document, in place."""
    infer: dict[str, Any] = {}
    v1: dict[str, Any] = {}
    names = []
    for model in models:
        request = example(model)
        names.append(model.name)
        infer[model.name] = {"summary": model.config.description or model.name, "value": request}
        rows = _rows(request["inputs"])
        v1[model.name] = {"summary": model.name, "value": {"instances": rows}}
    predict = {
        name: {"summary": name, "value": {"features": value["value"]["instances"], "model_name": name}}
        for name, value in v1.items()
    }
    _insert(document, ("infer", infer), ("v1_predict", v1), ("predict", predict))
    for item in document["paths"].values():
        for method in item.values():
            for parameter in method.get("parameters", ()):
                if parameter["name"] == "model" and names:
                    parameter["example"] = names[0]


def _insert(document: dict[str, Any], *examples: tuple[str, dict[str, Any]]) -> None:
    for item in document["paths"].values():
        for method in item.values():
            for operation_id, values in examples:
                if method["operationId"].partition("-")[0] == operation_id and values:
                    method["requestBody"]["content"]["application/json"]["examples"] = values


def _rows(inputs: list[dict[str, Any]]) -> list[Any]:
    """The inputs of an example as one row of plain values: a list, or an object when there are several inputs."""
    values = {tensor["name"]: tensor["data"] for tensor in inputs}
    if len(values) > 1:
        return [{name: data[0] if len(data) == 1 else data for name, data in values.items()}]
    data = next(iter(values.values()))
    return [data[0] if len(data) == 1 else data]
