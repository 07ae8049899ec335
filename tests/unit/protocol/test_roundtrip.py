"""Property tests of the wire: whatever goes in as a tensor comes out as the same, and garbage is only ever refused."""

import json
import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from inferry.errors import InferryError
from inferry.http.content import choose, deflate, inflate
from inferry.protocol import json_documents
from inferry.protocol.encoder import encode
from inferry.protocol.tensors import DATATYPES, Array, Datatype, Tensor, float32_from_bfloat16, to_bytes
from inferry.protocol.types import InferResponse
from wire import READERS, decode, same

pytestmark = pytest.mark.fuzz

LIMIT = 1 << 20

# The sizes of small requests and large ones: which parser reads a body depends on it.
SHAPES = st.one_of(
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    st.integers(500, 1200).map(lambda n: (n,)),
    st.integers(150, 400).map(lambda n: (n, 1, 3)),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@st.composite
def tensors(draw: st.DrawFn, name: str = "x") -> Tensor:
    datatype = DATATYPES[draw(st.sampled_from(list(DATATYPES)))]
    shape = draw(SHAPES)
    if datatype.dtype.hasobject:
        items = draw(hnp.arrays(object, shape, elements=TEXT, fill=TEXT))
    else:
        items = draw(hnp.arrays(datatype.dtype, shape))
    return Tensor(name, datatype, items)


def values(tensor: Tensor) -> Array:
    """The tensor's numbers: BF16's bits as the floats that they stand for."""
    return float32_from_bfloat16(tensor.array) if tensor.datatype.name == "BF16" else tensor.array


def comparable(tensor: Tensor) -> Array:
    """The array, every NaN the same one: JSON has no place for their payloads."""
    array = tensor.array
    if tensor.datatype.name == "BF16":
        return np.where(np.isnan(values(tensor)), np.uint16(0x7FC0), array)
    return array


def json_data(tensor: Tensor, nested: bool, null: bool) -> str:
    """The data as clients write it; what JSON has no number for as `null` or as a token."""
    array = values(tensor)
    items = array.tolist() if nested and array.ndim else array.ravel().tolist()
    text = json.dumps(items, ensure_ascii=False)
    return text.replace("NaN", "null") if null and tensor.datatype.is_float else text


def request(tensor: Tensor, form: str, reader: str, binary_output: bool) -> tuple[bytes, int | None]:
    """A request with the tensor as its input in one of the forms, and the length of its JSON."""
    padding, other = READERS[reader]
    head = f'"name":{json.dumps(tensor.name)},"shape":{list(tensor.array.shape)},"datatype":"{tensor.datatype.name}"'
    outputs = f'"parameters":{{"binary_data_output":{json.dumps(binary_output)}}}'
    raw = bytes(to_bytes(tensor)) if form == "binary" else b""
    if form == "binary":
        source = f'"parameters":{{"binary_data_size":{len(raw)}}}'
    else:
        source = f'"data":{json_data(tensor, form == "nested", reader != "token")}'
    text = f'{padding}{{{other}"inputs":[{{{head},{source}}}],{outputs}}}'.encode()
    return text + raw, len(text) if form == "binary" else None


def response_tensor(body: bytes, headers: dict[bytes, bytes], datatype: Datatype) -> tuple[dict[str, Any], Array]:
    """What a client reads: the output's description and its array."""
    length = headers.get(b"inference-header-content-length")
    text, tail = (body, b"") if length is None else (body[: int(length)], body[int(length) :])
    (output,) = json.loads(text)["outputs"]
    if length is None:
        return output, _from_json(output, datatype)
    again = {"inputs": [{**output, "name": "again"}]}
    framed = json.dumps(again).encode()
    return output, decode(framed + tail, len(framed)).inputs["again"].array


def _from_json(output: dict[str, Any], datatype: Datatype) -> Array:
    items = [math.nan if item is None else item for item in output["data"]]
    if datatype.name == "BF16":
        bits = np.array(items, np.float32).view(np.uint32)
        assert not (bits & 0xFFFF)[~np.isnan(np.array(items, np.float32))].any()
        array = (bits >> np.uint32(16)).astype(np.uint16)
    else:
        array = np.empty(len(items), datatype.dtype)
        array[:] = items
    return array.reshape(output["shape"])


@given(
    tensors(),
    st.sampled_from(["flat", "nested", "binary"]),
    st.sampled_from(list(READERS)),
    st.booleans(),
    st.sampled_from(["identity", "gzip", "deflate"]),
    st.sampled_from(["identity", "gzip", "deflate"]),
)
def test_there_and_back(tensor: Tensor, form: str, reader: str, binary_output: bool, sent: str, accepted: str) -> None:
    """Client to server and back, as app.py puts the pieces together."""
    body, length = request(tensor, form, reader, binary_output)
    received = inflate(body if sent == "identity" else deflate(body, sent), sent, LIMIT)
    decoded = decode(received, length)
    given_back = decoded.inputs["x"]
    assert decoded.binary == binary_output
    assert given_back.datatype is tensor.datatype
    assert same(comparable(given_back), comparable(tensor))
    if form == "binary":
        assert bytes(to_bytes(given_back)) == bytes(to_bytes(tensor))

    binary = frozenset("x") if decoded.binary else frozenset()
    answer, headers = encode(InferResponse("m", "1", [given_back], binary))
    assert choose(accepted) == accepted
    if accepted != "identity":
        answer = inflate(deflate(answer, accepted), accepted, LIMIT)
    output, array = response_tensor(answer, dict(headers), tensor.datatype)
    wanted = {"name": "x", "datatype": tensor.datatype.name, "shape": list(tensor.array.shape)}
    assert {key: output[key] for key in wanted} == wanted
    expected = comparable(tensor)
    if not binary_output and tensor.datatype.is_float:
        expected = _without_infinities(tensor)
    assert same(comparable(Tensor("x", tensor.datatype, array)), expected)


def _without_infinities(tensor: Tensor) -> Array:
    """JSON answers have null for every float that is not a number of JSON's."""
    array = comparable(tensor)
    nan = np.uint16(0x7FC0) if tensor.datatype.name == "BF16" else tensor.datatype.dtype.type(math.nan)
    return np.where(np.isfinite(values(tensor)), array, nan)


@given(st.lists(tensors(), min_size=1, max_size=4), st.data())
def test_several_tensors(given_tensors: list[Tensor], data: st.DataObject) -> None:
    """Some in JSON and some in binary; some answered in JSON and some in binary."""
    names = data.draw(st.lists(NAMES, min_size=len(given_tensors), max_size=len(given_tensors), unique=True))
    for tensor, name in zip(given_tensors, names, strict=True):
        tensor.name = name
        if tensor.datatype.is_float and not np.isfinite(values(tensor)).all():
            tensor.array = np.zeros_like(tensor.array)
    binary = data.draw(st.sets(st.sampled_from(names)))
    inputs, tail = [], b""
    for tensor in given_tensors:
        item: dict[str, Any] = {"name": tensor.name, "shape": tensor.array.shape, "datatype": tensor.datatype.name}
        if tensor.name in binary:
            raw = bytes(to_bytes(tensor))
            item["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            item["data"] = values(tensor).ravel().tolist()
        inputs.append(item)
    text = json.dumps({"inputs": inputs}).encode()
    decoded = decode(text + tail, len(text)).inputs
    assert list(decoded) == names
    assert all(same(decoded[tensor.name].array, tensor.array) for tensor in given_tensors)


def answered(body: bytes, header_length: str | None) -> None:
    """A request may be good or refused; nothing else happens, and what is said of it can be sent."""
    try:
        request = decode(body, header_length)
    except InferryError as exc:
        json.dumps({"error": str(exc)}, ensure_ascii=False).encode()
        return
    for tensor in request.inputs.values():
        assert tensor.array.dtype == tensor.datatype.dtype
    outputs = list(request.inputs.values())
    encode(InferResponse("m", "1", outputs, frozenset(request.inputs) if request.binary else frozenset(), request.id))


HEADERS = st.none() | st.integers(-2, 400).map(str) | st.text(max_size=4) | st.just("0" * 5000)


@given(st.binary(max_size=300), HEADERS)
@example(b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1' + b"]" * 9, None)
def test_any_bytes(body: bytes, header_length: str | None) -> None:
    answered(body, header_length)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from(["FP32", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["binary_data_size", "binary_data", "classification", "shared_memory_region", "timeout", "triton_x"]
    )
    | st.sampled_from(["binary_data_output", "sequence_id", "sequence_start", "other"]),
    JSON | st.integers(0, 16) | st.booleans(),
    max_size=3,
)
ITEMS = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "y"]) | JSON, "datatype": st.sampled_from(list(DATATYPES)) | JSON},
    optional={
        "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
        "data": st.lists(JSON, max_size=6)
        | st.lists(st.floats(), max_size=6)
        | st.lists(st.integers(), max_size=6)
        | JSON,
        "parameters": PARAMETERS | JSON,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(ITEMS, max_size=3) | JSON},
    optional={
        "outputs": st.lists(ITEMS, max_size=2) | JSON,
        "parameters": PARAMETERS | JSON,
        "id": JSON,
        "model_name": JSON,
    },
)


@given(REQUESTS, st.sampled_from(["", " " * (json_documents.SMALL + 1)]), st.binary(max_size=20), st.integers(-1, 1))
def test_any_request(document: dict[str, Any], padding: str, tail: bytes, shift: int) -> None:
    """JSON of the right form with anything in its places, its length off by up to one."""
    text = (padding + json.dumps(document)).encode()
    answered(text + tail, str(len(text) + shift))
    answered(text, None)


GOOD = [
    b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[NaN,-1e3]]}],"id":"a"}',
    b'{"inputs":[{"name":"x","shape":[2],"datatype":"INT64","data":[9007199254740993,2]}],"parameters":{"timeout":1}}',
    b'{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","data":["a\\ud83d\\ude00[",""]}],"outputs":[{"name":"y"}]}',
    b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}]}\x02\0\0\0ab',
]
CUTS = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 8), st.binary(max_size=6)), max_size=4)


@given(st.sampled_from(GOOD), CUTS, HEADERS, st.sampled_from([b"", b" " * json_documents.SMALL]))
def test_mutated_requests(body: bytes, cuts: list[tuple[int, int, bytes]], header: str | None, padding: bytes) -> None:
    for start, length, put in cuts:
        body = body[:start] + put + body[start + length :]
    answered(padding + body, header)
    answered(padding + body, str(len(padding + body) - 6))


@given(st.sampled_from(["gzip", "deflate"]), CUTS, st.binary(max_size=100), st.integers(1, 200))
def test_mutated_encodings(encoding: str, cuts: list[tuple[int, int, bytes]], content: bytes, limit: int) -> None:
    body = deflate(content, encoding)
    for start, length, put in cuts:
        body = body[:start] + put + body[start + length :]
    try:
        assert len(inflate(body, encoding, limit)) <= limit
    except InferryError as exc:
        assert str(exc)  # noqa: PT017
