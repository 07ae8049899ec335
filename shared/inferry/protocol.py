"""The Open Inference Protocol v2 on the wire: bytes to `InferRequest`, `InferResponse` to bytes.

The wire is described in the specification's inference_rest.md and Triton's binary tensor data extension.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
import simdjson

from inferry.errors import InvalidRequest, NotSupported
from inferry.jsontensors import Nesting, to_array
from inferry.tensors import DATATYPES, Buffer, Datatype, Shape, Tensor, from_bytes, to_bytes, to_list

HEADER_LENGTH = "inference-header-content-length"
JSON = "application/json"
OCTETS = "application/octet-stream"

Parameters: TypeAlias = Mapping[str, Any]

_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_SHARED_MEMORY = "shared_memory_region"


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the request names: how to send it, and the `k` of the classification extension (0: off)."""

    name: str
    binary: bool
    classification: int = 0


@dataclass(slots=True)
class InferRequest:
    """An inference request; `outputs` empty means all of the model's, sent as `binary` says.

    `raw` holds the body of a raw binary request, whose single input only the model can describe.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()
    binary: bool = False
    id: str | None = None
    timeout: float | None = None
    raw: Buffer | None = None

    @property
    def batch_size(self) -> int:
        """Rows of the request: axis 0 of its first input, 1 for scalars."""
        for tensor in self.inputs.values():
            return int(tensor.array.shape[0]) if tensor.array.shape else 1
        return 1


@dataclass(slots=True)
class InferResponse:
    """An inference's answer; `binary` names the outputs to send as bytes."""

    model_name: str
    model_version: str
    outputs: list[Tensor]
    binary: frozenset[str] = frozenset()
    id: str | None = None


def decode(body: bytes, header_length: str | None, model: str) -> InferRequest:
    """The request in `body` (already inflated), whose first `header_length` bytes are JSON, all of them without it.

    `model` names the model in messages. InvalidRequest says which rule of the protocol the body breaks.
    """
    size = _header_length(body, header_length)
    if header_length is not None and size == 0:
        return InferRequest(raw=body, binary=True)
    text = body if size == len(body) else body[:size]
    document = parse(text)
    tail, nesting = memoryview(body)[size:], Nesting()
    request = _request(document, tail, nesting, model)
    if nesting.accounts_for(text):
        return request
    return _request(document, tail, Nesting(thorough=True), model)


def encode(response: InferResponse) -> tuple[bytes, list[tuple[str, str]]]:
    """The body and the headers of an answer: JSON, with the binary outputs behind it when there are any."""
    outputs, tail = [], []
    for tensor in response.outputs:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype.name,
            "shape": tensor.array.shape,
        }
        if tensor.name in response.binary:
            raw = to_bytes(tensor)
            output["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            output["data"] = to_list(tensor)
        outputs.append(output)
    answer = {"model_name": response.model_name, "model_version": response.model_version, "outputs": outputs}
    if response.id is not None:
        answer["id"] = response.id
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return text, [("content-type", JSON)]
    return b"".join((text, *tail)), [("content-type", OCTETS), (HEADER_LENGTH, str(len(text)))]


def parse(text: bytes) -> Any:
    """The JSON document in `text`, as simdjson's view of it; Python objects where it holds NaN or Infinity."""
    try:
        return simdjson.Parser().parse(text)
    except (ValueError, RuntimeError) as exc:
        return _parse_tokens(text, exc)


def _parse_tokens(text: bytes, cause: Exception) -> Any:
    """tritonclient writes NaN and Infinity as bare tokens, which only the standard library reads."""
    import json

    if b"NaN" in text or b"Infinity" in text:
        try:
            return json.loads(text)
        except RecursionError as exc:
            raise InvalidRequest("the request's JSON is nested too deep") from exc
        except ValueError as exc:
            raise InvalidRequest(f"the request is not JSON: {exc}") from exc
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(
            f"the request is not JSON: {exc}. Tensors in binary need the header Inference-Header-Content-Length"
        ) from exc
    # Valid JSON that simdjson refuses: a number over 64 bits, or a nest of over 1,024.
    raise InvalidRequest(f"the request's JSON can't be read: {str(cause).split(':')[0]}") from cause


def _header_length(body: bytes, header: str | None) -> int:
    if header is None:
        return len(body)
    if not (header.isascii() and header.isdigit()) or int(header[:20]) > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length must be a number from 0 to the body's {len(body)} bytes, "
            f"got {header[:40]!r}"
        )
    return int(header)


def is_object(value: Any) -> bool:
    """Whether `value` is a JSON object, of `parse` or of Python's."""
    return isinstance(value, dict | simdjson.Object)


def is_array(value: Any) -> bool:
    """Whether `value` is a JSON array, of `parse` or of Python's."""
    return isinstance(value, list | simdjson.Array)


def _request(document: Any, tail: memoryview, nesting: Nesting, model: str) -> InferRequest:
    if not is_object(document):
        raise InvalidRequest("the request must be a JSON object with a member 'inputs'")
    parameters = _parameters(document, "the request")
    _refuse_reserved(parameters)
    binary = _flag(parameters, "binary_data_output", False, "the request")
    inputs, used = _inputs(document.get("inputs"), tail, nesting, model)
    if used != len(tail):
        raise InvalidRequest(
            f"unexpected {len(tail) - used} bytes behind the request's JSON and its binary inputs for model '{model}'"
            ": check that no gateway changed the body, and Inference-Header-Content-Length"
        )
    return InferRequest(
        inputs=inputs,
        outputs=_outputs(document.get("outputs"), binary, nesting),
        binary=binary,
        id=_id(document.get("id")),
        timeout=_timeout(parameters.get("timeout")),
    )


def _inputs(value: Any, tail: memoryview, nesting: Nesting, model: str) -> tuple[dict[str, Tensor], int]:
    if not is_array(value) or not len(value):
        raise InvalidRequest("the request's 'inputs' must be an array of at least one object")
    nesting.arrays += 1
    inputs: dict[str, Tensor] = {}
    used = 0
    for item in value:
        tensor, size = _input(item, tail[used:], nesting, model)
        if tensor.name in inputs:
            raise InvalidRequest(f"input '{tensor.name}' is given more than once for model '{model}'")
        inputs[tensor.name] = tensor
        used += size
    return inputs, used


def _input(item: Any, tail: memoryview, nesting: Nesting, model: str) -> tuple[Tensor, int]:
    name = _name(item, "inputs")
    what = f"input '{name}' for model '{model}'"
    datatype = _datatype(item.get("datatype"), what)
    shape = _shape(item.get("shape"), nesting, what)
    parameters = _parameters(item, what)
    size, data = parameters.get("binary_data_size"), item.get("data")
    if _SHARED_MEMORY in parameters:
        raise NotSupported(f"{what} is in shared memory, which inferry doesn't offer; send 'data' or binary data")
    if (size is None) == (data is None):
        raise InvalidRequest(
            f"Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters'; {what} sets "
            + ("neither" if data is None else "both")
        )
    if size is None:
        return Tensor(name, datatype, to_array(data, datatype, shape, nesting, what)), 0
    return Tensor(name, datatype, from_bytes(datatype, shape, _binary(size, tail, what), what)), size


def _binary(size: Any, tail: memoryview, what: str) -> memoryview:
    if not _is_count(size):
        raise InvalidRequest(f"'binary_data_size' of {what} must be a number of bytes, got {size!r}")
    if size > len(tail):
        raise InvalidRequest(
            f"unexpected size for {what}, expecting {size - len(tail)} additional bytes: 'binary_data_size' says "
            f"{size}, {len(tail)} are left of the body. Is Inference-Header-Content-Length set?"
        )
    return tail[:size]


def _outputs(value: Any, binary: bool, nesting: Nesting) -> tuple[RequestedOutput, ...]:
    if value is None:
        return ()
    if not is_array(value):
        raise InvalidRequest("the request's 'outputs' must be an array of objects")
    nesting.arrays += 1
    outputs = tuple(_output(item, binary) for item in value)
    if len({output.name for output in outputs}) != len(outputs):
        raise InvalidRequest("the request's 'outputs' name an output more than once")
    return outputs


def _output(item: Any, binary: bool) -> RequestedOutput:
    name = _name(item, "outputs")
    what = f"output '{name}'"
    parameters = _parameters(item, what)
    if _SHARED_MEMORY in parameters:
        raise NotSupported(f"{what} is to go to shared memory, which inferry doesn't offer")
    classes = parameters.get("classification", 0)
    if not _is_count(classes):
        raise InvalidRequest(f"'classification' of {what} must be a number of classes, got {classes!r}")
    return RequestedOutput(name, _flag(parameters, "binary_data", binary, what), classes)


def _name(item: Any, member: str) -> str:
    name = item.get("name") if is_object(item) else None
    if not isinstance(name, str):
        raise InvalidRequest(f"each of the request's '{member}' must be an object with a string 'name'")
    return name


def _datatype(value: Any, what: str) -> Datatype:
    datatype = DATATYPES.get(value) if isinstance(value, str) else None
    if datatype is None:
        raise InvalidRequest(f"'datatype' of {what} must be one of {', '.join(DATATYPES)}; got {plain(value)!r}")
    return datatype


def _shape(value: Any, nesting: Nesting, what: str) -> Shape:
    shape = tuple(value) if is_array(value) else None
    if shape is None or not all(map(_is_count, shape)):
        raise InvalidRequest(f"'shape' of {what} must be an array of non-negative integers, got {plain(value)!r}")
    # NumPy counts elements and bytes in 63 bits.
    if math.prod(dimension or 1 for dimension in shape) >= 2**58:
        raise InvalidRequest(f"'shape' of {what} is too large: {list(shape)}")
    nesting.arrays += 1
    return shape


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _parameters(owner: Any, what: str) -> Parameters:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not is_object(parameters):
        raise InvalidRequest(f"'parameters' of {what} must be an object")
    return parameters  # type: ignore[no-any-return]


def _flag(parameters: Parameters, name: str, default: bool, what: str) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' of {what} must be true or false, got {plain(value)!r}")
    return value


def _refuse_reserved(parameters: Parameters) -> None:
    for name in parameters:
        if name in _SEQUENCE and parameters[name]:
            raise NotSupported(f"parameter '{name}': inferry serves no stateful models")
        if name.startswith("triton_"):
            raise InvalidRequest(f"parameter '{name}' is reserved: names that start with 'triton_' can't be sent")


def _id(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"the request's 'id' must be a string, got {plain(value)!r}")
    return value


def _timeout(value: Any) -> float | None:
    """The parameter is in microseconds; 0 means none, as in Triton."""
    if value is None or value == 0:
        return None
    if not _is_count(value):
        raise InvalidRequest(f"parameter 'timeout' must be a number of microseconds, got {plain(value)!r}")
    return float(value) / 1e6


def plain(value: Any) -> Any:
    """`value` as Python objects, for messages and for code that wants a dict or a list."""
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value
