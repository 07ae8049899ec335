"""What a client gives with its request to load a model."""

import pickle
from typing import Any

import pytest
from inferry.errors import InvalidRequest
from inferry.http.uploads import read
from inferry.runtime.model_config import ModelConfig


def of(parameters: Any, model: str) -> Any:
    """What is read of a request with these parameters."""
    return read({"parameters": parameters}, model)


BATCHED = '{"max_batch_size": 4}'


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, (None, {})),
        ({"unload_dependents": False}, (None, {})),
        ({"config": BATCHED}, (ModelConfig(max_batch_size=4), {})),
        ({"config": "{}", "file:1/model.onnx": "AAH/"}, (ModelConfig(), {"1/model.onnx": b"\0\1\xff"})),
        (
            {"config": "{}", "file:1/model.onnx": "", "file:1/w/b": "QQ=="},
            (ModelConfig(), {"1/model.onnx": b"", "1/w/b": b"A"}),
        ),
    ],
)
def test_read(parameters: Any, expected: Any) -> None:
    assert of(parameters, "m") == expected


def test_what_is_read_in_another_process_comes_back() -> None:
    """Large uploads are: see `server.helper`."""
    found = of({"config": "{}", "file:1/model.onnx": "AAH/"}, "m")
    assert pickle.loads(pickle.dumps(found)) == found


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
        of(parameters, "m")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["..", ".", "a b", "a\nb", "a\0b", "\u00e9", "stats", "a" * 256, "nul\\"])
def test_names_that_no_model_and_no_version_can_have(name: str) -> None:
    """No store is asked to keep them: what it says of them is about its own folders."""
    with pytest.raises(InvalidRequest, match="a model can't be called so"):
        of({"config": "{}", "file:1/model.onnx": ""}, name)
    with pytest.raises(InvalidRequest, match=r"is no file of a version|is in no version"):
        of({"config": "{}", f"file:{name}/model.onnx": ""}, "m")
    assert of({"config": "{}"}, name) == (ModelConfig(), {})


@pytest.mark.parametrize(
    "path",
    ["", "1", "model.onnx", "/model.onnx", "1//model.onnx", "1/../../model.onnx", "1/.h/x", "1/a\0", f"1/{'a' * 256}"],
)
def test_paths_that_no_file_of_a_version_has(path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        of({"config": "{}", "file:1/model.onnx": "", f"file:{path}": ""}, "m")
    assert str(caught.value) == f"'file:{path[:100]}' is no file of a version: give it as 'file:1/model.onnx'"


@pytest.mark.parametrize("path", ["1/net.onnx", "1/w/model.onnx"])
def test_an_upload_without_a_model(path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        of({"config": "{}", f"file:{path}": ""}, "m")
    assert str(caught.value) == "'parameters' hold no model.onnx: give it as 'file:1/model.onnx'"
