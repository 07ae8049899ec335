"""What `sound` of config.json says of a model's inputs, and what doesn't fit them."""

import json
from typing import Any

import pytest
from inferry.errors import InvalidModel
from inferry.protocol.signature import Signature, TensorSpec
from inferry.protocol.tensors import DATATYPES
from inferry.runtime.model_config import parse_config
from inferry.runtime.sound import settled

INPUTS = {
    name: TensorSpec(name, DATATYPES[datatype], (-1, -1)) for name, datatype in (("wave", "FP32"), ("ids", "INT64"))
}


def read(sound: Any, shared: bool = False) -> dict[str, int]:
    config = parse_config(json.dumps({"sound": sound}).encode(), "m")
    return settled(config.sound, Signature("m", INPUTS, {}), "model 'm'", shared)


def test_rates() -> None:
    assert read({"wave": 16000}) == {"wave": 16000}
    assert read({"wave": 16000, "voice": 8000}, shared=True) == {"wave": 16000}


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        (
            {"voice": 16000},
            "'sound' in config.json names input 'voice', which model 'm' doesn't have; its inputs are 'wave'",
        ),
        ({"ids": 16000}, "is about input 'ids' of INT64, but samples are FP32 or FP64 from -1 to 1"),
        ({"wave": 0}, "'sound' in .* must be an object of input names to samples per second, up to 96000, got"),
        ({"wave": 16000.0}, "samples per second"),
        ({"wave": 96001}, "samples per second"),
        (16000, "samples per second"),
    ],
)
def test_what_does_not_fit(sound: Any, expected: str) -> None:
    with pytest.raises(InvalidModel, match=expected):
        read(sound)
