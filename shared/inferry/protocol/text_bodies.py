"""Bodies of the protocol as a line of JSON: its member `binary_tail` has in base64 what a body has behind its JSON."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import orjson

from inferry.errors import InvalidRequest
from inferry.protocol import decoder, encoder
from inferry.protocol.json_documents import load
from inferry.protocol.signature import Known
from inferry.protocol.tensors import Buffer, to_bytes
from inferry.protocol.types import HEADER_LENGTH, JSON, OCTETS, InferRequest, InferResponse, RequestedOutput

TAIL = "binary_tail"
_MEMBER = b'"%b"' % TAIL.encode()
_BEFORE = b"," + _MEMBER + b':"'


def of_request(request: InferRequest) -> bytes:
    """The line of a request whose inputs are all there; their elements are in the tail, so that each keeps its bits."""
    inputs, tail = [], []
    for tensor in request.inputs.values():
        raw = to_bytes(tensor)
        size = {"binary_data_size": len(raw)}
        shape, datatype = tensor.array.shape, tensor.datatype.name
        inputs.append({"name": tensor.name, "shape": shape, "datatype": datatype, "parameters": size})
        tail.append(raw)
    document: dict[str, Any] = {"inputs": inputs, "outputs": [_output(output) for output in request.outputs]}
    parameters: dict[str, Any] = {"binary_data_output": request.binary}
    if request.timeout is not None:
        parameters["timeout"] = round(request.timeout * 1e6)
    document["parameters"] = parameters
    if request.id is not None:
        document["id"] = request.id
    return _line(orjson.dumps(document), tail)


def of_response(response: InferResponse) -> bytes:
    """The line of a response, which is its JSON where it has no binary outputs."""
    body, headers = encoder.encode(response)
    size = dict(headers).get(HEADER_LENGTH)
    return body if size is None else _line(body[: int(size)], [memoryview(body)[int(size) :]])


def to_request(line: bytes, known: Known) -> InferRequest:
    """The request in a line. InvalidRequest as `protocol.decode`."""
    if _MEMBER not in line:
        return decoder.decode(line, None, known)
    document = load(line)
    if not isinstance(document, dict) or TAIL not in document:
        return decoder.decode(line, None, known)
    try:
        tail = base64.b64decode(document[TAIL], validate=True)
    except (TypeError, ValueError, binascii.Error) as exc:
        raise InvalidRequest(f"'{TAIL}' of the request must be base64: {exc}") from exc
    try:
        return decoder.decode_document(document, tail, known)
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc).removesuffix(decoder.HEADER_HINT)) from exc


def to_body(line: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body of a response and its headers, from a line of `of_response`."""
    # No string of JSON holds these bytes: a quote in one is escaped.
    text, before, tail = line.rpartition(_BEFORE)
    if not before:
        return line, [JSON]
    text += b"}"
    return text + base64.b64decode(tail.removesuffix(b'"}')), [OCTETS, (HEADER_LENGTH, b"%d" % len(text))]


def _output(output: RequestedOutput) -> dict[str, Any]:
    parameters = {"binary_data": output.binary, "classification": output.classification}
    return {"name": output.name, "parameters": parameters}


def _line(text: bytes, tail: Iterable[Buffer]) -> bytes:
    return b"".join((text[:-1], _BEFORE, base64.b64encode(b"".join(tail)), b'"}'))
