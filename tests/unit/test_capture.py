"""Which requests' inputs and outputs are kept, and as what."""

from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from inferry.capture import Capture, open_capture, shares
from inferry.errors import InvalidSettings
from inferry.observability.record import CapturedTensor, RequestRecord
from inferry.protocol.tensors import DATATYPES, Tensor
from inferry.protocol.types import InferRequest, InferResponse
from inferry.settings import Settings

X = np.array([[1, 2, 3]], np.float32)
Y = np.array([["a", "é"]], object)


def tensor(name: str, datatype: str, array: Any) -> Tensor:
    return Tensor(name, DATATYPES[datatype], array)


REQUEST = InferRequest({"x": tensor("x", "FP32", X)})
RESPONSE = InferResponse("m", "1", [tensor("y", "BYTES", Y)], frozenset(), None)


def taken(draw: float = 0.5, model: str = "m", failed: bool = False, infer: int = 0, **settings: Any) -> Any:
    """What is kept of a request with this draw of the dice."""
    record = RequestRecord("POST", "/v2/models/m/infer", b"42", b"", 0)
    record.model, record.infer = model, infer
    responses = () if failed else (RESPONSE,)
    Capture(Settings(**settings), lambda: draw).take(record, REQUEST, responses, failed)
    return record.captured


def test_tensors_are_kept_in_their_binary_form() -> None:
    text = b"\1\0\0\0a\2\0\0\0\xc3\xa9"
    assert taken(capture=("m=1",)) == (
        CapturedTensor("input", "x", "FP32", [1, 3], X.tobytes(), sha256(X.tobytes()).hexdigest()),
        CapturedTensor("output", "y", "BYTES", [1, 2], text, sha256(text).hexdigest()),
    )


def test_of_large_tensors_the_digest_is_kept() -> None:
    x, y = taken(capture=("m=1",), capture_max_bytes=11)
    assert (x.data, x.sha256) == (None, sha256(X.tobytes()).hexdigest())
    assert y.data is not None


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"capture": ("m=0.51",)}, True),
        ({"capture": ("m=0.5",)}, False),
        ({"capture": ("n=1",)}, False),
        ({"capture": ("*=0.51",)}, True),
        ({"capture": ("*=1", "m=0")}, False),
        ({"capture": ("m=0",), "capture_errors": True}, False),
        ({"capture": ("m=0",), "capture_errors": True, "failed": True}, True),
        ({"capture": ("m=0",), "failed": True}, False),
        ({"capture": ("n=0",), "capture_errors": True, "failed": True}, False),
        ({"capture": ("m=0",), "capture_slow": 0.5, "infer": 500_000_000}, True),
        ({"capture": ("m=0",), "capture_slow": 0.5, "infer": 499_999_999}, False),
        ({"capture": ("n=0",), "capture_slow": 0.5, "infer": 500_000_000}, False),
    ],
)
def test_which_are_kept(settings: dict[str, Any], kept: bool) -> None:
    assert bool(taken(**settings)) is kept


def test_of_one_that_failed_there_are_inputs() -> None:
    assert [one.kind for one in taken(capture=("m=1",), failed=True)] == ["input"]


def test_outputs_of_rows_that_ran_one_by_one_are_numbered() -> None:
    record = RequestRecord("POST", "/predict", b"42", b"", 0)
    Capture(Settings(capture=("*=1",))).take(record, REQUEST, (RESPONSE, RESPONSE), False)
    assert [one.name for one in record.captured] == ["x", "y[0]", "y[1]"]


def test_what_can_not_be_kept_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    record = RequestRecord("POST", "/v2", b"42", b"", 0)
    bad: Any = InferRequest({"x": tensor("x", "FP32", None)})
    Capture(Settings(capture=("*=1",))).take(record, bad, (), False)
    assert record.captured == ()
    assert caplog.messages == ["the inputs and outputs of request 42 can't be kept"]


@pytest.mark.parametrize("rule", ["digits", "=0.5", "digits=", "digits=1.1", "digits=-0.1", "digits=nan", "a=b"])
def test_bad_shares(rule: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        shares([rule])
    assert str(caught.value) == f"CAPTURE must have shares from 0 to 1 such as digits=0.01 or *=0.001, got {rule!r}"


def test_it_needs_a_place() -> None:
    assert open_capture(Settings()) is None
    with pytest.raises(InvalidSettings, match="CAPTURE needs REQUEST_LOG_URL"):
        open_capture(Settings(capture=("*=1",)))
