"""Which bodies are large ones, that the event loop must not be kept from others by."""

import numpy as np
import pytest
from inferry.http import bodies, content
from inferry.protocol.tensors import DATATYPES, Tensor
from inferry.protocol.types import InferResponse

LONG = "a" * (content.LARGE + 1)


@pytest.mark.parametrize(
    ("tensor", "id_", "large"),
    [
        (Tensor("y", DATATYPES["BYTES"], np.array([LONG], object)), None, True),
        (Tensor("y", DATATYPES["BYTES"], np.array([LONG[:-1]], object)), None, False),
        (Tensor("y", DATATYPES["FP32"], np.zeros(1, np.float32)), LONG, True),
        (Tensor("y", DATATYPES["FP32"], np.zeros(1, np.float32)), "a", False),
    ],
    ids=["a long string", "a shorter one", "a long id", "a short one"],
)
def test_what_has_much_text_is_large(tensor: Tensor, id_: str | None, large: bool) -> None:
    assert bodies.is_large(InferResponse("m", "1", [tensor], id=id_)) is large
