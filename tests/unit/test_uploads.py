"""What a client gives with its request to load a model."""

from typing import Any

import pytest
from inferry.config import ModelConfig
from inferry.errors import InvalidRequest
from inferry.uploads import read

BATCHED = '{"max_batch_size": 4}'


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, (None, {})),
        ({"unload_dependents": False}, (None, {})),
        ({"config": BATCHED}, (ModelConfig(max_batch_size=4), {})),
        ({"config": "{}", "file:1/model.onnx": "AAH/"}, (ModelConfig(), {"1/model.onnx": b"\0\1\xff"})),
        ({"config": "{}", "file:1/a": "", "file:1/b": "QQ=="}, (ModelConfig(), {"1/a": b"", "1/b": b"A"})),
    ],
)
def test_read(parameters: Any, expected: Any) -> None:
    assert read(parameters, "m") == expected


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "'parameters' must be an object"),
        ("config", "'parameters' must be an object"),
        ({"config": {}}, "'config' must be a string that holds JSON, as config.json does"),
        ({"config": "{"}, "config.json of model 'm' is not JSON"),
        ({"config": '{"max_batchsize": 4}'}, "config.json of model 'm' has an unknown key 'max_batchsize'"),
        (
            {"config": '{"threads": 100000}'},
            "'threads' in config.json of model 'm' must be a whole number from 0 to 256",
        ),
        (
            {"config": '{"max_batch_size": 2, "dynamic_batching": {"max_queue_delay_us": 10000000000000}}'},
            "'dynamic_batching.max_queue_delay_us' in config.json of model 'm' must be a whole number of microseconds",
        ),
        ({"file:1/model.onnx": "QQ=="}, "'parameters' with files must hold 'config' as well"),
        ({"config": "{}", "file:1/x": "Q"}, "'file:1/x' must be a string in base64"),
        ({"config": "{}", "file:1/x": "Q!Q=="}, "'file:1/x' must be a string in base64"),
        ({"config": "{}", "file:1/x": "é"}, "'file:1/x' must be a string in base64"),
        ({"config": "{}", "file:1/x": 7}, "'file:1/x' must be a string in base64"),
        ({"config": "{}", "file:1/x": None}, "'file:1/x' must be a string in base64"),
    ],
)
def test_what_can_not_be_read(parameters: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(parameters, "m")
    assert str(caught.value).startswith(message)
