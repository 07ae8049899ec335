"""Rows of /predict and of KServe v1: bodies to requests, and responses to bodies, as `bodies` has it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from inferry.errors import InvalidRequest
from inferry.http.bodies import Document, document
from inferry.http.content import Body, Large
from inferry.protocol import class_names
from inferry.protocol.signature import Signature
from inferry.protocol.types import InferRequest, InferResponse
from inferry.runtime import rows

if TYPE_CHECKING:
    from inferry.runtime.preprocess import Preprocess


class RowModel(NamedTuple):
    """A model as its rows need it; `labels` by output, `row_outputs` have a row per row."""

    name: str
    version: str
    signature: Signature
    columns: tuple[str, ...]
    preprocess: "Mapping[str, Preprocess]"
    labels: Mapping[str, tuple[str, ...]]
    row_outputs: frozenset[str]


def image(body: Body, model: str | None) -> dict[str, Any]:
    """The request whose body is an image, the only row, in the form of /predict and in that of KServe v1."""
    file = body.read() if isinstance(body, Large) else body
    return {"features": file, "instances": [file], **({} if model is None else {"model_name": model})}


def wanted_model(given: Document) -> str | None:
    """The model that a request to /predict names."""
    found = document(given)
    if "features" not in found:
        raise InvalidRequest("'features' is missing: give a row of values, or a list of rows")
    name = found.get("model_name")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest(f"'model_name' must be a string, got {name!r}")
    return name


def features(given: Document, model: RowModel) -> tuple[InferRequest, int]:
    """The rows of a request to /predict, and how many there are."""
    found = rows.as_rows(document(given)["features"], model)
    return rows.to_request(found, model), len(found)


def listed(given: Document) -> list[Any]:
    """The rows of a KServe v1 request; its servers take them by either name."""
    body = document(given)
    names = [name for name in ("instances", "inputs") if name in body]
    if len(names) > 1:
        raise InvalidRequest("'instances' and 'inputs' are two names for the same: give one of them")
    name = names[0] if names else "instances"
    found = body.get(name)
    if not isinstance(found, list):
        columns = ", not an object of columns" if isinstance(found, dict) else ""
        raise InvalidRequest(f"'{name}' must be an array with one item per prediction{columns}")
    return found


def has_instances(given: Document) -> bool:
    """Whether a KServe v1 request has any rows. InvalidRequest where it has no place for them."""
    return bool(listed(given))


def instances(given: Document, model: RowModel) -> tuple[InferRequest, int]:
    """The rows of a KServe v1 request, and how many there are."""
    found = listed(given)
    return rows.to_request(found, model), len(found)


def predictions(responses: Sequence[InferResponse], count: int, model: RowModel) -> bytes:
    """The response of /predict to `count` rows."""
    found = rows.from_responses(responses, count, model.row_outputs)
    head = {"model_name": model.name, "model_version": model.version, "predictions": found}
    return _json({**head, **_classes(responses, count, model)})


def v1_predictions(responses: Sequence[InferResponse], count: int, model: RowModel) -> bytes:
    """The response of KServe v1 to `count` rows."""
    found: list[Any] = rows.from_responses(responses, count, model.row_outputs)
    if len(model.signature.outputs) == 1:
        found = [value for row in found for value in row.values()]
    return _json({"predictions": found, **_classes(responses, count, model)})


def _classes(responses: Sequence[InferResponse], count: int, model: RowModel) -> dict[str, Any]:
    """The members of a response that name the classes of `count` rows, of one response to all or of one to each."""
    rows_of_each = count // len(responses)
    found = [_named(response, rows_of_each, model) for response in responses]
    known = [classes for classes in found if classes is not None]
    if len(known) != len(responses):
        return {}
    labels = {"labels": known[0].labels} if known[0].labels else {}
    return {**labels, "classes": [best for classes in known for best in classes.best]}


def _named(response: InferResponse, count: int, model: RowModel) -> class_names.Classes | None:
    labels = {tensor.name: model.labels[tensor.name] for tensor in response.outputs}
    if not any(labels.values()):
        return None
    arrays = {tensor.name: tensor.array for tensor in response.outputs}
    return class_names.named(labels, model.signature, arrays, count)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
