"""The OpenAPI document: what each operation takes and gives, with an example per loaded model."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from inferry.http.routes import OF_VERSION, ROUTES, Route
from inferry.protocol.tensors import DATATYPES
from inferry.protocol.types import OCTETS
from inferry.repository.metadata import example
from inferry.runtime.model import Model


class Error(BaseModel):
    """Every response but a 200: what came, what was expected, what to do."""

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
    models: list[str] | None = Field(default=None, description="absent where API keys are set")


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
    parameters: dict[str, Any] | None = Field(
        default=None,
        description="'labels' of classes, when known; 'rank' is 'any' where any shape is right; "
        "'images' is true for an input whose rows may be JPEG and PNG",
    )


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str] = Field(
        description="sha256, size (bytes), producer, opset, threads (where the model has one), numerics "
        "(what makes results depend on the machine), and the "
        "file's own metadata"
    )


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
    parameters: dict[str, str] | None = Field(default=None, description="uri:NAME, where output NAME was written")
    outputs: list[ResponseTensor]


class Deferred(BaseModel):
    """A request that has no response yet."""

    id: str
    model_name: str
    status: str = Field(description="pending")
    url: str = Field(description="where the response will be")


_LABELS = "the names of an output's scores, in their order, by output; where they are known"
_CLASSES = "per row, the name of the best score of each of these outputs, or of the class that its number means"


class Predictions(BaseModel):
    model_name: str
    model_version: str
    predictions: list[dict[str, Any]] = Field(description="per row, the value of each output by name")
    labels: dict[str, list[str]] | None = Field(default=None, description=_LABELS)
    classes: list[dict[str, Any]] | None = Field(default=None, description=_CLASSES)


class V1Predictions(BaseModel):
    predictions: list[Any]
    labels: dict[str, list[str]] | None = Field(default=None, description=_LABELS)
    classes: list[dict[str, Any]] | None = Field(default=None, description=_CLASSES)


RESPONSES: dict[str, Any] = {
    "infer": InferResponse,
    "model_ready": ModelReady,
    "live": Live,
    "ready": Ready,
    "health": Health,
    "defer": Deferred,
    "deferred": InferResponse,
    "predict": Predictions,
    "server_metadata": ServerMetadata,
    "models": ModelNames,
    "stats": Statistics,
    "model_metadata": ModelMetadata,
    "model_config": dict[str, Any],
    "model_stats": Statistics,
    "index": list[Index],
    "load": dict[str, Any],
    "unload": dict[str, Any],
    "v1_models": ModelNames,
    "v1_model": ModelReady,
    "v1_predict": V1Predictions,
    "home": dict[str, str],
    "page_model": dict[str, Any],
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
        "inputs": {"type": "array", "items": _INPUT, "description": "of a model that takes none, an empty array"},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
}

REQUESTS: dict[str, Any] = {
    "infer": _INFER,
    "defer": _INFER,
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
        "minProperties": 1,
        "properties": {
            "instances": {"type": "array", "minItems": 1, "items": {}},
            "inputs": {"type": "array", "minItems": 1, "items": {}, "description": "another name for 'instances'"},
        },
    },
    "index": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    "load": {"type": "object", "properties": {"parameters": _PARAMETERS}},
    "unload": {"type": "object", "properties": {"parameters": _PARAMETERS}},
}


# Whose response may not be there yet: of `infer` when the client prefers so.
LATER = ("infer", "deferred")

# The content types of responses that are not, or not only, JSON.
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TEXT = {"schema": {"type": "string"}}
_CONTENT: dict[str, dict[str, Any]] = {
    "infer": {"application/json": {}, "application/octet-stream": _BINARY},
    "deferred": {"application/json": {}, "application/octet-stream": _BINARY},
    "metrics": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
    "docs": {"text/html": _TEXT},
    "home": {"application/json": {}, "text/html": _TEXT},
    "page_asset": {"text/javascript": _TEXT, "text/css": _TEXT, "image/svg+xml": _TEXT},
    "docs_asset": {"text/javascript": _TEXT, "text/css": _TEXT, "image/png": _BINARY},
}
_HEADER_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 0},
    "description": "bytes of the JSON in front of binary tensors",
}


# Not as a content type: generators of clients warn of those that they don't know, and give bodies other names.
_IMAGE = (
    "or an image, with its Content-Type, image/jpeg or image/png: a row of a model whose config.json has 'preprocess'"
)
_MODEL_NAME = {
    "name": "model_name",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "of an image, as 'model_name' in JSON",
}


# The names stand in the document only.
SECURITY: dict[str, Any] = {
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "the same key"},
}


def add_security(document: dict[str, Any]) -> None:
    """Puts into the document, in place, how a client sends its key: either way, on all routes but the public ones."""
    document.setdefault("components", {})["securitySchemes"] = SECURITY
    document["security"] = [{name: []} for name in SECURITY]
    for route in ROUTES:
        if route.public:
            document["paths"][route.path][route.method.lower()]["security"] = []


def operation(route: Route) -> dict[str, Any]:
    """What FastAPI can't see of a route: path parameters and the body that its handler parses itself."""
    extra: dict[str, Any] = {}
    names = [part[1:].partition("}")[0] for part in route.path.split("/") if part.startswith("{")]
    if names:
        extra["parameters"] = [{"name": n, "in": "path", "required": True, "schema": _NAME} for n in names]
    if route.operation in REQUESTS:
        schema = REQUESTS[route.operation]
        required = not {"required", "minProperties"}.isdisjoint(schema)
        extra["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    if route.operation in ("predict", "v1_predict"):
        extra["requestBody"]["description"] = _IMAGE
    if route.operation == "predict":
        extra["parameters"] = [_MODEL_NAME]
    if route.operation in ("infer", "defer"):
        extra["parameters"].append(_HEADER_LENGTH)
        extra["requestBody"]["content"][OCTETS[1].decode()] = _BINARY
    return extra


def status(route: Route) -> int:
    """The status that a route answers with when all goes well."""
    return {"unsupported": 501, "defer": 202}.get(route.operation, 200)


def responses(route: Route) -> dict[int | str, dict[str, Any]]:
    """The responses of a route: its own, and the protocol's error object for everything else."""
    error = {"model": Error, "description": "Error"}
    if route.operation == "unsupported":
        return {501: {**error, "description": "Not offered"}, "default": error}
    response: dict[str, Any] = {"description": "OK"}
    if model := RESPONSES.get(route.operation):
        response["model"] = model
    if content := _CONTENT.get(route.operation):
        response["content"] = {name: dict(value) for name, value in content.items()}
    also: dict[int | str, dict[str, Any]] = (
        {202: {"model": Deferred, "description": "Not yet"}} if route.operation in LATER else {}
    )
    return {status(route): response, **also, "default": error}


def add_examples(document: dict[str, Any], models: Iterable[Model]) -> None:
    """Puts a request of each model into the document, in place."""
    infer: dict[str, Any] = {}
    v1: dict[str, Any] = {}
    predict: dict[str, Any] = {}
    names = []
    for model in models:
        names.append(model.name)
        request = example(model)
        if request is None:
            continue
        infer[model.name] = {"summary": model.config.description or model.name, "value": request}
        if rows := _rows(request["inputs"]):
            v1[model.name] = {"summary": model.name, "value": {"instances": rows}}
            predict[model.name] = {"summary": model.name, "value": {"features": rows, "model_name": model.name}}
    _insert(document, ("infer", infer), ("defer", infer), ("v1_predict", v1), ("predict", predict))
    for item in document["paths"].values():
        for method in item.values():
            for parameter in method.get("parameters", ()):
                if parameter["name"] == "model" and names:
                    parameter["example"] = names[0]


def _insert(document: dict[str, Any], *examples: tuple[str, dict[str, Any]]) -> None:
    for item in document["paths"].values():
        for method in item.values():
            for operation_id, values in examples:
                if method["operationId"].removesuffix(OF_VERSION) == operation_id and values:
                    method["requestBody"]["content"]["application/json"]["examples"] = values


def _rows(inputs: list[dict[str, Any]]) -> list[Any]:
    """An example as rows of plain values, objects when there are several inputs; none if they differ in rows."""
    columns = {tensor["name"]: _column(tensor) for tensor in inputs}
    if len(columns) == 1:
        return next(iter(columns.values()))
    if len({len(column) for column in columns.values()}) > 1:
        return []
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _column(tensor: dict[str, Any]) -> list[Any]:
    """The values of each row; the value itself where a row has only one."""
    flat = np.array(tensor.get("data") or [], object).reshape(-1).tolist()
    size = math.prod(tensor["shape"][1:])
    return flat if size == 1 else [flat[start : start + size] for start in range(0, len(flat), size or 1)]
