"""functions/marshaller.py: what Lambda's runtime reads and writes as JSON is the same with orjson."""

import json
from decimal import Decimal
from typing import Any

import lambda_events as events
import pytest
from awslambdaric.lambda_runtime_exception import FaultException
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

from functions.marshaller import Marshaller
from functions.runtime import RuntimeClient

OURS, THEIRS = Marshaller(), LambdaMarshaller()
REQUESTS = {
    **{name: json.dumps(events.load(name)).encode() for name in events.HTTP},
    "text that isn't ASCII": '{"body": "ü😀\\u00fc\\n"}'.encode(),
    "half a surrogate pair": b'{"body": "\\ud800"}',
    "a number alone": b"1",
}
RESPONSES: dict[str, Any] = {
    "an answer": {"statusCode": 200, "body": '{"a":"\u00fc"}', "headers": {"a": "b"}, "isBase64Encoded": False},
    "nothing": None,
    "a decimal": {"x": Decimal("1.50")},
    "keys that are no text": {1: "x"},
    "half a surrogate pair": {"body": "\ud800"},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_events_are_read_as_the_runtime_reads_them(name: str) -> None:
    assert OURS.unmarshal_request(REQUESTS[name]) == THEIRS.unmarshal_request(REQUESTS[name])


def test_other_types_of_events_stay_as_they_are() -> None:
    assert OURS.unmarshal_request(b"{}", "text/plain") == b"{}"


@pytest.mark.parametrize("name", RESPONSES)
def test_answers_are_written_as_the_runtime_writes_them(name: str) -> None:
    ours, theirs = OURS.marshal_response(RESPONSES[name]), THEIRS.marshal_response(RESPONSES[name])
    assert (json.loads(ours[0]), ours[1]) == (json.loads(theirs[0]), theirs[1])


def test_bytes_are_an_answer_as_they_are() -> None:
    assert (
        OURS.marshal_response(b"\x00\xff")
        == THEIRS.marshal_response(b"\x00\xff")
        == (b"\x00\xff", "application/unknown")
    )


@pytest.mark.parametrize("request_", [b"{", b"", b"\xff", b'{"x": NaN}', b"[" * 100_000 + b"]" * 100_000])
def test_events_that_are_no_json(request_: bytes) -> None:
    with pytest.raises(FaultException) as theirs:
        THEIRS.unmarshal_request(request_)
    with pytest.raises(FaultException) as ours:
        OURS.unmarshal_request(request_)
    assert (ours.value.msg, ours.value.exception_type) == (theirs.value.msg, theirs.value.exception_type)


def test_answers_that_cannot_be_json() -> None:
    with pytest.raises(FaultException, match="Unable to marshal response"):
        OURS.marshal_response({"x": object()})


def test_the_runtime_uses_it() -> None:
    assert isinstance(RuntimeClient("127.0.0.1:1").marshaller, Marshaller)
