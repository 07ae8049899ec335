"""Responses that a Lambda function keeps: in its own memory, and in a Redis that its environments share."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import lambda_events as events
import onnx_models
import pytest
import redis_server
from redis_server import RedisServer
from wrappers.conftest import Function

CONFIG = {
    "response_cache": {"enable": True},
    "warm_up": True,
    "example": {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 0, 0]}]},
}
FILES = {"a/1/model.onnx": onnx_models.scaled(2.0), "a/config.json": json.dumps(CONFIG).encode()}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server.running() as server:
        yield server


def inputs(*values: float) -> list[dict[str, Any]]:
    return [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": values}]


def through_a_gateway(function: Function, *values: float) -> list[float]:
    body = json.dumps({"inputs": inputs(*values)}).encode()
    headers = {"content-type": "application/json"}
    answer = function(events.http_api("POST", "/v2/models/a/infer", body, headers))
    assert answer["statusCode"] == 200, answer
    found: list[float] = json.loads(answer["body"])["outputs"][0]["data"]
    return found


def directly(function: Function, *values: float) -> list[float]:
    answer = function({"model_name": "a", "id": "mine", "inputs": inputs(*values)})
    assert answer["id"] == "mine"
    found: list[float] = answer["outputs"][0]["data"]
    return found


def lookups(function: Function) -> tuple[int, int]:
    found = function.module.service.metrics.model("a", "1").as_dict()["inference_stats"]
    return found["cache_hit"]["count"], found["cache_miss"]["count"]


def close(function: Function) -> None:
    store = function.module.service._response_cache._store
    function.module.gateway.open_loop().run_until_complete(store.close())


def test_in_memory(repository: Callable[..., str], function: Callable[..., Function]) -> None:
    made = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="a")
    for ask in (through_a_gateway, through_a_gateway, directly):
        assert ask(made, 1, 2, 3) == [2, 4, 6]
    assert lookups(made) == (2, 1)


def test_in_redis(repository: Callable[..., str], function: Callable[..., Function], redis: RedisServer) -> None:
    """What one environment keeps is there for the next, cold as it is."""
    env = {"RESPONSE_CACHE_URL": redis.url, "RESPONSE_CACHE_TIMEOUT": "5"}
    first = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="a", **env)
    assert through_a_gateway(first, 1, 2, 3) == [2, 4, 6]
    assert directly(first, 1, 2, 3) == [2, 4, 6]
    assert lookups(first) == (1, 1)
    close(first)
    second = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="a", **env)
    assert directly(second, 1, 2, 3) == [2, 4, 6]
    assert lookups(second) == (1, 0)
    close(second)


def test_a_redis_that_is_stopped(
    repository: Callable[..., str], function: Callable[..., Function], redis: RedisServer
) -> None:
    env = {"RESPONSE_CACHE_URL": redis.url, "RESPONSE_CACHE_TIMEOUT": "0.2"}
    made = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="a", **env)
    assert through_a_gateway(made, 4, 5, 6) == [8, 10, 12]
    with redis.stopped():
        for _ in range(3):
            assert through_a_gateway(made, 4, 5, 6) == [8, 10, 12]
    close(made)


def test_invocations_have_none_of_what_is_a_key_s(
    repository: Callable[..., str], function: Callable[..., Function]
) -> None:
    """IAM guards them: their responses are no key's, and those of keys are not theirs."""
    from inferry.http import api_keys

    key, digest = api_keys.new()
    made = function(MODEL_PATH=repository(FILES), DEFAULT_MODEL="a", API_KEYS=digest)
    body = json.dumps({"inputs": inputs(7, 8, 9)}).encode()
    headers = {"content-type": "application/json", "x-api-key": key}
    event = events.http_api("POST", "/v2/models/a/infer", body, headers)
    assert [made(event)["statusCode"] for _ in range(2)] == [200, 200]
    assert lookups(made) == (1, 1)
    assert directly(made, 7, 8, 9) == [14, 16, 18]
    assert lookups(made) == (1, 2)
