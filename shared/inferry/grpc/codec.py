"""Messages of the protocol to `InferRequest`, and `InferResponse` to messages, with the checks that JSON gets."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from inferry.errors import InvalidRequest
from inferry.grpc.messages import ModelInferRequest, ModelInferResponse, parsed
from inferry.http.content import LARGE
from inferry.protocol import classification
from inferry.protocol.decoder import decode_document
from inferry.protocol.signature import Known, Signature
from inferry.protocol.tensors import DATATYPES, Buffer, Shape, Tensor, as_text, from_bytes, is_shape, to_bytes
from inferry.protocol.types import URI, InferRequest, InferResponse
from inferry.runtime import protobuf

# Where the elements of each datatype are in InferTensorContents.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_FIELD = "contents"
_RAW = ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number
# What says in JSON how tensors go over the wire. Here outputs are always raw.
_SIZE, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
_SHARED_MEMORY = "shared_memory_region"
# Triton's, for streams of models that give several responses, or none, to a request.
_ASKS_FINAL, _FINAL = "triton_enable_empty_final_response", "triton_final_response"


def decode(message: Any, known: Known) -> InferRequest:
    """The request in a ModelInferRequest. InvalidRequest and DataRefused as `decoder.decode`."""
    return _plain(message, known) or _whole(message, known)


def _plain(message: Any, known: Known) -> InferRequest | None:
    """The request in a message as most are: raw inputs, nothing else, nothing wrong. None of others.

    It takes 11 us where `_whole` takes 24 of a call's 400 (Python 3.11, a busy machine; the row `grpc`).
    """
    raws = message.raw_input_contents
    if not 0 < len(raws) == len(message.inputs) <= len(known.inputs) or message.parameters or message.outputs:
        return None
    inputs: dict[str, Tensor] = {}
    for tensor, raw in zip(message.inputs, raws, strict=True):
        name, datatype, shape = tensor.name, DATATYPES.get(tensor.datatype), tuple(tensor.shape)
        if datatype is None or name in inputs or not is_shape(shape) or tensor.parameters or tensor.HasField(_FIELD):
            return None
        array = from_bytes(datatype, shape, raw, f"input '{name}' for model '{known.model}'")
        inputs[name] = Tensor(name, datatype, array)
    return InferRequest(inputs, (), True, message.id or None)


def _whole(message: Any, known: Known) -> InferRequest:
    raws = message.raw_input_contents
    left = iter(raws)
    inputs, used = [], []
    for tensor in message.inputs:
        parameters = _parameters(tensor.parameters)
        parameters.pop(_SIZE, None)
        given: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": [*tensor.shape]}
        if _SHARED_MEMORY in parameters or URI in parameters:
            pass  # it is elsewhere
        elif raws:
            raw = _raw(left, tensor, message, known)
            used.append(raw)
            parameters[_SIZE] = len(raw)
        else:
            given["data"] = _elements(tensor, known)
        inputs.append({**given, "parameters": parameters} if parameters else given)
    if len(used) != len(raws):
        raise _count(message, known)
    parameters = _parameters(message.parameters)
    parameters.pop(_ASKS_FINAL, None)
    parameters[_ALL_BINARY] = True
    document: dict[str, Any] = {"inputs": inputs, "parameters": parameters}
    if message.id:
        document["id"] = message.id
    if message.outputs:
        document["outputs"] = [_output(output) for output in message.outputs]
    return decode_document(document, used[0] if len(used) == 1 else b"".join(used), known)


def decode_whole(data: bytes, signature: Signature, references: bool) -> InferRequest:
    """The request in the bytes of a ModelInferRequest, with the inputs that the model takes.

    It takes and gives what goes from one process to another. Errors as `decode` and `Signature.feed`.
    """
    request = decode(parsed(ModelInferRequest, data), signature.known[references])
    if not request.by_reference:
        feed = signature.feed(request)
        request.inputs = {name: Tensor(name, signature.inputs[name].datatype, array) for name, array in feed.items()}
    return request


def encode(response: InferResponse) -> bytes:
    """The bytes of a response's ModelInferResponse; its outputs are raw."""
    outputs = classification.applied(response) if response.classes else response.outputs
    shapes = tuple((tensor.name, tensor.datatype.name, tensor.array.shape) for tensor in outputs)
    parts: list[Buffer] = [_head(response.model_name, response.model_version, shapes)]
    # Messages may be written in pieces, one behind the other: bytes are copied once.
    if response.id is not None or response.stored:
        parts.append(_own(response))
    stored = response.stored or ()
    for tensor in outputs:
        # Clients find an output's bytes by its place.
        raw = b"" if tensor.name in stored else to_bytes(tensor)
        parts += (protobuf.head(_RAW, len(raw)), raw)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _head(model: str, version: str, outputs: tuple[tuple[str, str, Shape], ...]) -> bytes:
    """What responses of a model with outputs of these names, datatypes and shapes have in common."""
    message = ModelInferResponse(model_name=model, model_version=version)
    for name, datatype, shape in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
    head: bytes = message.SerializeToString()
    return head


def _own(response: InferResponse) -> bytes:
    """What a response has of its own beside its outputs."""
    message = ModelInferResponse(id=response.id or "")
    for name, uri in (response.stored or {}).items():
        message.parameters[f"{URI}:{name}"].string_param = uri
    own: bytes = message.SerializeToString()
    return own


def request_id(data: bytes) -> str:
    """The id of the request in these bytes, as far as there is one."""
    try:
        found: str = parsed(ModelInferRequest, data).id if len(data) <= LARGE else ""
    except InvalidRequest:
        return ""
    return found


def final() -> bytes:
    """What makes a ModelInferResponse the last one to its request, behind its other bytes."""
    message = ModelInferResponse()
    message.parameters[_FINAL].bool_param = True
    behind: bytes = message.SerializeToString()
    return behind


def _raw(left: Any, tensor: Any, message: Any, known: Known) -> bytes:
    if tensor.HasField(_FIELD):
        raise InvalidRequest(
            f"contents must not be specified when raw_input_contents are: {_what(tensor, known)} has both"
        )
    raw: bytes | None = next(left, None)
    if raw is None:
        raise _count(message, known)
    return raw


def _count(message: Any, known: Known) -> InvalidRequest:
    return InvalidRequest(
        f"expected one of raw_input_contents for each input for model '{known.model}', got "
        f"{len(message.raw_input_contents)} for {len(message.inputs)} inputs"
    )


def _elements(tensor: Any, known: Known) -> list[Any]:
    """The elements in a tensor's contents; none of a datatype that nobody knows."""
    name, datatype = _CONTENTS.get(tensor.datatype), DATATYPES.get(tensor.datatype)
    for field, _ in tensor.contents.ListFields():
        if field.name != name and datatype is not None:
            wanted = name or "raw_input_contents"
            raise InvalidRequest(
                f"{_what(tensor, known)} has its elements in {field.name}; send {tensor.datatype} in {wanted}"
            )
    values = [*getattr(tensor.contents, name)] if name else []
    if datatype is None or datatype.kind != "string":
        return values
    what = _what(tensor, known)
    return [as_text(value, index, what) for index, value in enumerate(values)]


def _output(output: Any) -> dict[str, Any]:
    parameters = _parameters(output.parameters)
    parameters.pop(_BINARY, None)
    return {"name": output.name, "parameters": parameters}


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(parameter) for name, parameter in given.items()} if given else {}


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _what(tensor: Any, known: Known) -> str:
    return f"input '{tensor.name}' for model '{known.model}'"
