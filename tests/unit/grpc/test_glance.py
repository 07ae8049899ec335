"""What is seen of a large message, and what is refused before it is made."""

from typing import Any

import pytest
from inferry.errors import InvalidRequest
from inferry.grpc.glance import Glance, glance
from inferry.runtime.protobuf import encoded
from tritonclient.grpc.service_pb2 import ModelInferRequest


def message(*inputs: dict[str, Any], **members: Any) -> bytes:
    made = ModelInferRequest(model_name="m", model_version="2", **members)
    for given in inputs:
        made.inputs.add(name="x", **given)
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("data", "raw"),
    [
        (message({"datatype": "FP32", "shape": [1]}, raw_input_contents=[b"\0\0\0\0"]), True),
        (message({"datatype": "FP32", "shape": [1]}, {"datatype": "INT8", "shape": [0]}, id="7"), True),
        (message({"datatype": "BYTES", "shape": [1]}, raw_input_contents=[b"\0\0\0\0"]), False),
        (message({"datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}), False),
    ],
)
def test_glance(data: bytes, raw: bool) -> None:
    assert glance(data) == Glance("m", "2", raw)


def test_the_last_name_counts_as_in_protobuf() -> None:
    assert glance(message() + encoded(1, b"n")).model == "n"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        encoded(1, b"\xff"),
        encoded(5, b"\xff"),
        message()[:-1],
        encoded(5, 1),
        b"\x2b",  # a group that ends nowhere
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="these bytes are no inference"):
        glance(data)


@pytest.mark.parametrize(
    "data",
    [
        encoded(5, b"") * 5000,
        encoded(6, b"") * 5000,
        encoded(4, b"") * 5000,
        encoded(5, encoded(4, b"") * 5000),
        encoded(5, encoded(3, 1) * 5000),
        encoded(6, encoded(2, b"") * 5000),
        encoded(99, b"") * 5000,
    ],
    ids=["inputs", "outputs", "parameters", "an input's parameters", "dimensions", "an output's parameters", "unknown"],
)
def test_too_many_parts(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="more than 4096 fields"):
        glance(data)


def test_too_many_dimensions() -> None:
    with pytest.raises(InvalidRequest, match="more than 64 dimensions"):
        glance(encoded(5, encoded(3, b"\1" * 641)))
    assert glance(encoded(5, encoded(3, b"\1" * 640))).is_raw
