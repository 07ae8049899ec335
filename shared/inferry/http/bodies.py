"""What is made of bodies alone: requests of those that come, those of responses. Large ones are for `Host.helper`.

All functions take and give what goes from one process to another.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from inferry.errors import InvalidRequest
from inferry.http import content
from inferry.http.asgi import Headers
from inferry.http.content import LARGE, LARGE_NUMBERS, Body, Large
from inferry.protocol import decoder, encoder
from inferry.protocol import tensors as tensors_of
from inferry.protocol.json_documents import load
from inferry.protocol.signature import Signature
from inferry.protocol.tensors import Tensor
from inferry.protocol.types import InferRequest, InferResponse

# What a response may hold to be written between two turns of the event loop: numbers in JSON, and rows of /predict or
# classes, each of which takes as long as some ten numbers.
LARGE_RESPONSE = 2**16
LARGE_ROWS = 2**12


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
    """The request in a body as a line of JSON, as `deferred.line_of` makes it; with its errors."""
    from inferry.jobs import deferred

    return deferred.line_of(_read(body), header_length, signature)


def is_large(response: InferResponse) -> bool:
    """Whether the body of this response would take long to write."""
    elements, text = 0, len(response.id or "")
    for tensor in response.outputs:
        elements += tensor.array.size
        if tensor.datatype.kind == "string" and tensor.array.size <= LARGE_RESPONSE:
            text += sum(map(len, tensor.array.flat))
    if text > LARGE:
        return True
    if elements <= LARGE_RESPONSE and not (response.classes and elements > LARGE_ROWS):
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


def of_response(response: InferResponse, accept: bytes | None) -> tuple[bytes, Headers]:
    """The body of a response and its headers, under an Accept-Encoding header. InvalidRequest as `encoder.encode`."""
    body, headers = encoder.encode(response)
    if not accept:
        return body, headers
    body, encoding = content.encoded(body, accept.decode("latin-1"))
    return body, headers + encoding


async def let_go(request: InferRequest, responses: Sequence[InferResponse]) -> None:
    """Frees what a large request and the responses to it hold, without keeping others waiting."""
    tensors = [*request.inputs.values(), *(tensor for response in responses for tensor in response.outputs)]
    arrays = [tensor.array for tensor in tensors if tensor.array.size > LARGE_RESPONSE and tensor.array.dtype.hasobject]
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


def _read(body: Body) -> bytes:
    return body.read() if isinstance(body, Large) else body
