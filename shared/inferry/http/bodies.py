"""What is made of bodies alone: requests of those that come, those of answers. Large ones are for `Host.elsewhere`.

All functions take and give what goes from one process to another.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson

from inferry.errors import InvalidRequest
from inferry.http import content
from inferry.http.asgi import Headers
from inferry.http.content import LARGE_NUMBERS, Body, Large
from inferry.protocol import class_names, decoder, encoder
from inferry.protocol import tensors as tensors_of
from inferry.protocol.json_documents import load
from inferry.protocol.signature import Signature
from inferry.protocol.tensors import Tensor
from inferry.protocol.types import InferRequest, InferResponse
from inferry.runtime import rows

# What an answer may hold to be written between two turns of the event loop: numbers in JSON, and rows of /predict or
# classes, each of which takes as long as some ten numbers.
LARGE_ANSWER = 2**16
LARGE_ROWS = 2**12


class RowModel(NamedTuple):
    """A model as its rows need it; `labels` by output, `row_outputs` have a row per row."""

    name: str
    version: str
    signature: Signature
    columns: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    row_outputs: frozenset[str]


def request(
    body: Body, header_length: bytes | None, signature: Signature, references: bool
) -> tuple[InferRequest, int]:
    """The request in a body, with the inputs that the model takes, and its bytes without Content-Encoding.

    Errors as `decoder.decode` and `Signature.feed`.
    """
    raw = _read(body)
    decoded = decoder.decode(raw, header_length, signature.known[references])
    if not decoded.by_reference:
        feed = signature.feed(decoded)
        decoded.inputs = {name: Tensor(name, signature.inputs[name].datatype, array) for name, array in feed.items()}
        decoded.raw = None
    return decoded, len(raw)


def line(body: Body, header_length: bytes | None, signature: Signature) -> bytes:
    """The request in a body as `deferred.line_of`."""
    from inferry.jobs import deferred

    return deferred.line_of(_read(body), header_length, signature)


def is_large(response: InferResponse) -> bool:
    """Whether its body would take long to write."""
    elements = 0
    for tensor in response.outputs:
        elements += tensor.array.size
    if elements <= LARGE_ANSWER and not (response.classes and elements > LARGE_ROWS):
        return False
    if response.classes:
        return True
    numbers = sum(
        tensor.array.nbytes
        for tensor in response.outputs
        if tensor.name in response.binary and tensor.datatype.kind != "string"
    )
    others = sum(tensor.array.size for tensor in response.outputs if tensor.name not in response.binary)
    return numbers > LARGE_NUMBERS or others > 0 or not numbers


def answer(response: InferResponse, accept: bytes | None) -> tuple[bytes, Headers]:
    """The body of an answer and its headers, under an Accept-Encoding header. InvalidRequest as `encoder.encode`."""
    body, headers = encoder.encode(response)
    if accept and (chosen := content.choose(accept.decode("latin-1"))) != "identity":
        body = content.deflate(body, chosen)
        headers.append((b"content-encoding", chosen.encode()))
    return body, headers


async def let_go(request: InferRequest, responses: Sequence[InferResponse]) -> None:
    """Frees what a large request and the answers to it hold, without keeping others waiting."""
    tensors = [*request.inputs.values(), *(tensor for response in responses for tensor in response.outputs)]
    arrays = [tensor.array for tensor in tensors if tensor.array.size > LARGE_ANSWER and tensor.array.dtype.hasobject]
    if arrays:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, tensors_of.let_go, arrays)


Document: TypeAlias = Mapping[str, Any] | Large


def document(body: bytes | Document) -> Mapping[str, Any]:
    """The body as a JSON object; an empty one when there is none. Clients send it with any Content-Type."""
    if isinstance(body, Mapping):
        return body
    text = _read(body)
    value = load(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise InvalidRequest("the request must be a JSON object")
    return value


def only_ready(given: Document) -> bool:
    """Whether a request for the index wants the models that are ready, and no others."""
    ready = document(given).get("ready", False)
    if not isinstance(ready, bool):
        raise InvalidRequest(f"'ready' must be true or false, got {ready!r}")
    return ready


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


def instances(given: Document, model: RowModel) -> tuple[InferRequest, int]:
    """The rows of a KServe v1 request, and how many there are; its servers take them by either name."""
    body = document(given)
    names = [name for name in ("instances", "inputs") if name in body]
    if len(names) > 1:
        raise InvalidRequest("'instances' and 'inputs' are two names for the same: give one of them")
    name = names[0] if names else "instances"
    found = body.get(name)
    if not isinstance(found, list):
        columns = ", not an object of columns" if isinstance(found, dict) else ""
        raise InvalidRequest(f"'{name}' must be an array with one item per prediction{columns}")
    return rows.to_request(found, model), len(found)


def predictions(responses: Sequence[InferResponse], count: int, model: RowModel) -> bytes:
    """The answer of /predict to `count` rows."""
    found = rows.from_responses(responses, count, model.row_outputs)
    head = {"model_name": model.name, "model_version": model.version, "predictions": found}
    return _json({**head, **_classes(responses, count, model)})


def v1_predictions(responses: Sequence[InferResponse], count: int, model: RowModel) -> bytes:
    """The answer of KServe v1 to `count` rows."""
    found: list[Any] = rows.from_responses(responses, count, model.row_outputs)
    if len(model.signature.outputs) == 1:
        found = [value for row in found for value in row.values()]
    return _json({"predictions": found, **_classes(responses, count, model)})


def _classes(responses: Sequence[InferResponse], count: int, model: RowModel) -> dict[str, Any]:
    """The members of an answer that name the classes of `count` rows, of one response to all or of one to each."""
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


def _read(body: Body) -> bytes:
    return body.read() if isinstance(body, Large) else body
