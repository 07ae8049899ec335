"""The Open Inference Protocol v2 on the wire: bytes to `InferRequest`.

The wire is described in the specification's inference_rest.md and Triton's binary tensor data extension.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from inferry.errors import InvalidRequest, NotSupported
from inferry.protocol.json_documents import is_array, is_array_view, is_object, load, parse
from inferry.protocol.json_tensors import Nesting, kind, to_array
from inferry.protocol.signature import Known, unexpected
from inferry.protocol.tensors import (
    DATATYPES,
    MAX_DIMENSIONS,
    Datatype,
    Shape,
    Tensor,
    from_base64,
    from_bytes,
    is_countable,
)
from inferry.protocol.types import URI, InferRequest, Parameters, Reference, RequestedOutput, not_below

HEADER_HINT = " Is Inference-Header-Content-Length set?"
"""Behind an error about bytes that are missing; it is for requests by HTTP."""

_NOTHING = memoryview(b"")
# Of documents that are Python's: nobody asks where their arrays are.
_LISTS, _NUMBERS = Nesting(), Nesting(truths=False)

_SHARED_MEMORY = "shared_memory_region"
_CONTENT_TYPE = "content_type"
# Every member and parameter that means something here.
_MEMBERS = {
    *("id", "inputs", "outputs", "parameters", "name", "shape", "datatype", "data", "timeout", "classification"),
    *("binary_data_output", "binary_data", "binary_data_size", URI, _CONTENT_TYPE, _SHARED_MEMORY),
}


class _MemberTwice(Exception):
    """Of an object's members of one name simdjson finds the first, and elsewhere the last counts."""


def decode(body: bytes, header_length: bytes | None, known: Known) -> InferRequest:
    """The request in `body` (already inflated), whose first `header_length` bytes are JSON, all of them without it.

    InvalidRequest says which rule of the protocol the body breaks, or that it has more inputs or outputs than are
    `known`; DataRefused for a `uri` where there may be none. Of such a request nothing more is looked at.
    """
    text, tail = body, _NOTHING
    if header_length is not None:
        size = _header_length(body, header_length)
        if size == 0:
            return InferRequest(raw=body, binary=True)
        text, tail = body[:size], memoryview(body)[size:]
    document = parse(text)
    if isinstance(document, dict):
        nesting = _LISTS if b"true" in text or b"false" in text else _NUMBERS
        return _request(document, tail, nesting, known)
    nesting = Nesting(text)
    try:
        request = _request(document, tail, nesting, known)
        if nesting.complete():
            return request
    except _MemberTwice:
        pass
    del document  # many times as large as its text
    return _request(load(text), tail, _LISTS, known)


def decode_document(document: Any, tail: bytes, known: Known) -> InferRequest:
    """The same of a request's JSON as Python objects, and the bytes behind it."""
    return _request(document, memoryview(tail), _LISTS, known)


def _header_length(body: bytes, header: bytes) -> int:
    if not header.isdigit() or len(header) > 20 or int(header) > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length must be a number from 0 to the body's {len(body)} bytes, "
            f"got {header[:40].decode('latin-1')!r}"
        )
    return int(header)


def _request(document: Any, tail: memoryview, nesting: Nesting, known: Known) -> InferRequest:
    if not isinstance(document, dict):
        if not is_object(document):
            raise InvalidRequest("the request must be a JSON object with a member 'inputs'")
        document = _members(document)
    request = InferRequest()
    if len(document) > 1 or "inputs" not in document:
        _add_options(request, document, nesting, known)
    inputs = document.get("inputs")
    if inputs is None and not known.fewest:
        inputs = []
    used = _add_inputs(request, inputs, tail, nesting, known)
    if used != len(tail):
        raise InvalidRequest(
            f"unexpected {len(tail) - used} bytes behind the request's JSON and its binary inputs for model "
            f"'{known.model}': check that no gateway changed the body, and Inference-Header-Content-Length"
        )
    return request


def _add_options(request: InferRequest, document: Mapping[str, Any], nesting: Nesting, known: Known) -> None:
    """Adds what a request may have beside its inputs."""
    if document.get("parameters") is not None:
        parameters = _request_parameters(document["parameters"])
        request.binary = _flag(parameters, "binary_data_output", False, "the request")
        request.timeout = _timeout(parameters.get("timeout"))
    if document.get("id") is not None:
        request.id = _id(document["id"])
    if document.get("outputs") is not None:
        request.outputs = _outputs(document["outputs"], request.binary, nesting, known)
        for output in request.outputs:
            if output.uri:
                _check_references(output.uri, known)
                request.by_reference = True


def _add_inputs(request: InferRequest, value: Any, tail: memoryview, nesting: Nesting, known: Known) -> int:
    """Adds the inputs of a request, and returns how many bytes of `tail` they took."""
    inputs, model = request.inputs, known.model
    if not (isinstance(value, list) or is_array_view(value)) or not known.fewest <= len(value) <= len(known.inputs):
        raise _no_inputs(value, known)
    nesting.arrays += 1
    used = 0
    for item in value:
        members = item if isinstance(item, dict) else _members(item) if is_object(item) else {}
        name = members.get("name")
        if not isinstance(name, str):
            raise _unnamed("inputs")
        what = f"input '{name}' for model '{model}'"
        try:
            datatype = DATATYPES[members["datatype"]]
        except (KeyError, TypeError):  # TypeError: a list can be no key
            raise _bad_datatype(members, what) from None
        shape = _shape(members.get("shape"), nesting, what)
        data, size, base64 = members.get("data"), None, False
        if members.get("parameters") is not None:
            size, uri, base64 = _input_parameters(members, datatype, what)
            if uri is not None:
                request.by_reference = True
                _add_reference(request, Reference(name, datatype, shape, uri), (data, size), what, known)
                continue
        if (size is None) == (data is None):
            raise _not_one_source(data, what)
        if name in inputs or (request.references and name in request.references):
            raise InvalidRequest(f"input '{name}' is given more than once for model '{model}'")
        if size is None:
            array = to_array(data, datatype, shape, nesting, what)
        else:
            array = from_bytes(datatype, shape, _binary(size, tail[used:], what), what)
            used += size
        inputs[name] = Tensor(name, datatype, from_base64(array, what) if base64 else array)
    return used


def _no_inputs(value: Any, known: Known) -> InvalidRequest:
    if is_array(value) and len(value):
        return _too_many("input", value, known.inputs, known.model)
    least = "" if known.fewest else ", or left out"
    return InvalidRequest(f"the request's 'inputs' must be an array of at least one object{least}")


def _input_parameters(members: Mapping[str, Any], datatype: Datatype, what: str) -> tuple[Any, str | None, bool]:
    """The size of an input's bytes behind the JSON, the URI of the object that holds them; None for none.

    And whether its strings are in base64: the content type that MLServer's clients have for bytes.
    """
    parameters = _parameters(members, what)
    if _SHARED_MEMORY in parameters:
        raise NotSupported(f"{what} is in shared memory, which inferry doesn't offer; send 'data' or binary data")
    base64 = parameters.get(_CONTENT_TYPE) == "base64"
    if base64 and datatype.name != "BYTES":
        raise InvalidRequest(f"'{_CONTENT_TYPE}' of {what} is base64, which is for BYTES, not for {datatype.name}")
    uri = _uri(parameters, what)
    if base64 and uri is not None:
        raise InvalidRequest(f"{what} is given by 'uri', whose object holds no base64: leave '{_CONTENT_TYPE}' out")
    return parameters.get("binary_data_size"), uri, base64


def _uri(parameters: Parameters, what: str) -> str | None:
    uri = parameters.get(URI)
    if uri is not None and (not isinstance(uri, str) or not uri):
        raise InvalidRequest(f"'{URI}' of {what} must be the URL of an object, got {kind(uri)}")
    return uri


def _add_reference(
    request: InferRequest, reference: Reference, others: tuple[Any, Any], what: str, known: Known
) -> None:
    if others != (None, None):
        raise InvalidRequest(f"{what} must set only one of 'data', and 'binary_data_size' or 'uri' in 'parameters'")
    _check_references(reference.uri, known)
    if request.references is None:
        request.references = {}
    if reference.name in request.inputs or reference.name in request.references:
        raise InvalidRequest(f"{what} is given more than once")
    request.references[reference.name] = reference


def _check_references(uri: str, known: Known) -> None:
    if not known.references:
        raise not_below(uri, ())


def _too_many(item: str, value: Collection[Any], known: Collection[str], model: str) -> InvalidRequest:
    """Of more inputs or outputs than there are `known` names: each is an `item`."""
    return InvalidRequest(
        f"{_excess(item, value, known, model)}: the request has {len(value)} {item}s, the model {len(known)}"
    )


def _excess(item: str, value: Iterable[Any], known: Collection[str], model: str) -> InvalidRequest:
    """What is wrong with the first that has another name, or one that came before: there must be one."""
    seen: set[str] = set()
    for tensor in value:
        name = _members(tensor).get("name") if is_object(tensor) else None
        if not isinstance(name, str):
            return _unnamed(f"{item}s")
        if name in seen:
            return InvalidRequest(f"{item} '{name}' is given more than once for model '{model}'")
        if name not in known:
            return unexpected(item, name, model, known)
        seen.add(name)
    raise AssertionError(seen)


def _not_one_source(data: Any, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters'; {what} sets "
        + ("neither" if data is None else "both")
    )


def _binary(size: Any, tail: memoryview, what: str) -> memoryview:
    if not _is_count(size):
        raise InvalidRequest(f"'binary_data_size' of {what} must be a number of bytes, got {kind(size)}")
    if size > len(tail):
        raise InvalidRequest(
            f"unexpected size for {what}, expecting {size - len(tail)} additional bytes: 'binary_data_size' says "
            f"{size}, {len(tail)} are left of the body.{HEADER_HINT}"
        )
    return tail[:size]


def _outputs(value: Any, binary: bool, nesting: Nesting, known: Known) -> tuple[RequestedOutput, ...]:
    if not is_array(value):
        raise InvalidRequest("the request's 'outputs' must be an array of objects")
    if len(value) > len(known.outputs):
        raise _too_many("output", value, known.outputs, known.model)
    nesting.arrays += 1
    outputs = tuple(_output(item, binary) for item in value)
    if len({output.name for output in outputs}) != len(outputs):
        raise InvalidRequest("the request's 'outputs' name an output more than once")
    return outputs


def _output(item: Any, binary: bool) -> RequestedOutput:
    item = _members(item) if is_object(item) else {}
    name = item.get("name")
    if not isinstance(name, str):
        raise _unnamed("outputs")
    what = f"output '{name}'"
    parameters = _parameters(item, what)
    if _SHARED_MEMORY in parameters:
        raise NotSupported(f"{what} asks for shared memory, which inferry doesn't offer")
    classes = parameters.get("classification", 0)
    if not _is_count(classes):
        raise InvalidRequest(f"'classification' of {what} must be a number of classes, got {kind(classes)}")
    uri = _uri(parameters, what) or ""
    return RequestedOutput(name, not uri and _flag(parameters, "binary_data", binary, what), classes, uri)


def _members(value: Any) -> Mapping[str, Any]:
    """An object's members, arrays and objects still as simdjson's views (`items` would turn them into lists).

    Asking simdjson for an absent member costs 10 us each time, for each of n members the square of n: those that mean
    nothing here are None.
    """
    if isinstance(value, dict):
        return value
    names = list(value)
    members = {name: value[name] if name in _MEMBERS else None for name in dict.fromkeys(names)}
    if len(members) != len(names):
        raise _MemberTwice
    return members


def _unnamed(member: str) -> InvalidRequest:
    return InvalidRequest(f"each of the request's '{member}' must be an object with a string 'name'")


def _bad_datatype(members: Mapping[str, Any], what: str) -> InvalidRequest:
    got = kind(members.get("datatype"))
    return InvalidRequest(f"'datatype' of {what} must be one of {', '.join(DATATYPES)}; got {got}")


def _shape(value: Any, nesting: Nesting, what: str) -> Shape:
    if not isinstance(value, list) and not is_array_view(value):
        raise _bad_shape(value, what)
    nesting.arrays += 1
    shape = tuple(value)
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(f"'shape' of {what} has {len(shape)} dimensions, more than {MAX_DIMENSIONS}")
    for length in shape:
        if type(length) is not int or length < 0:  # a bool is an int to Python
            raise _bad_shape(length, what)
    if not is_countable(shape):
        raise InvalidRequest(f"'shape' of {what} is too large: {list(shape)}")
    return shape


def _bad_shape(value: Any, what: str) -> InvalidRequest:
    return InvalidRequest(f"'shape' of {what} must be an array of non-negative integers, got {kind(value)}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


def _parameters(owner: Mapping[str, Any], what: str) -> Parameters:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not is_object(parameters):
        raise InvalidRequest(f"'parameters' of {what} must be an object")
    return _members(parameters)


def _flag(parameters: Parameters, name: str, default: bool, what: str) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' of {what} must be true or false, got {kind(value)}")
    return value


def _request_parameters(value: Any) -> Parameters:
    if not is_object(value):
        raise InvalidRequest("'parameters' of the request must be an object")
    parameters = _members(value)
    for name in parameters:
        if name.startswith("triton_"):
            raise InvalidRequest(f"parameter '{name}' is reserved: names that start with 'triton_' can't be sent")
    return parameters


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"the request's 'id' must be a string, got {kind(value)}")
    return value


def _timeout(value: Any) -> float | None:
    """The parameter is in microseconds; 0 means none, as in Triton."""
    if value is None or value == 0:
        return None
    if not _is_count(value):
        raise InvalidRequest(f"parameter 'timeout' must be a number of microseconds, got {kind(value)}")
    return float(value) / 1e6
