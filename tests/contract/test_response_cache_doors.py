"""The response cache through every door: a server that keeps responses in memory, and two that share a Redis."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
import redis_server
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from inferry.http import api_keys
from loopback import free_port
from redis_server import RedisServer
from servers import JSON, Answer, Server, serving, tensor

pytestmark = pytest.mark.local

KEEPS = b'{"response_cache": {"enable": true}}'
FILES = {"a/1/model.onnx": onnx_models.scaled(2.0), "a/config.json": KEEPS, "plain.onnx": onnx_models.scaled(2.0)}
FILES |= {"text/1/model.onnx": onnx_models.identity("BYTES", ("batch", 1)), "text/config.json": KEEPS}
KEYS = dict(api_keys.new() for _ in range(2))


def row(*values: float) -> dict[str, Any]:
    return tensor("x", "FP32", [1, 3], values)


def lookups(server: Server, model: str = "a", headers: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Hits and misses, as Triton's statistics have them."""
    answer = server.ask("GET", f"/v2/models/{model}/stats", headers=headers)
    found = answer.json["model_stats"][0]["inference_stats"]
    return found["cache_hit"]["count"], found["cache_miss"]["count"]


def metrics(server: Server) -> dict[str, float]:
    """By name and labels, as they are written."""
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), FILES)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server.running() as server:
        yield server


@pytest.fixture(scope="module", params=["memory", "redis"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    env = {"GRPC_PORT": str(free_port()), "LOG_FORMAT": "json"}
    if request.param == "redis":
        # A busy machine is no slow Redis.
        url = request.getfixturevalue("redis").url
        env |= {"RESPONSE_CACHE_URL": url, "RESPONSE_CACHE_TIMEOUT": "5"}
    with serving(folder, **env) as running:
        yield running


def test_every_door_has_the_same(server: Server) -> None:
    """What one asked for first is there for the others: each with its own form, and its own id."""
    before = lookups(server)
    body = {"inputs": [row(1, 2, 3)], "id": "first"}
    first = server.post("/v2/models/a/infer", body)
    assert first.json == {
        "model_name": "a",
        "model_version": "1",
        "id": "first",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2, 4, 6]}],
    }
    # In JSON, bytes, of a version, and with another id or none: the whole response is as it would be.
    assert server.post("/v2/models/a/infer", body).body == first.body
    assert server.post("/v2/models/a/versions/1/infer", {**body, "id": "x"}).json == {**first.json, "id": "x"}
    without = server.post("/v2/models/a/infer", {"inputs": [row(1, 2, 3)]}).json
    assert without == {name: value for name, value in first.json.items() if name != "id"}
    parameters = {"parameters": {"binary_data_output": True}}
    assert np.frombuffer(server.post("/v2/models/a/infer", {**body, **parameters}).tail, "<f4").tolist() == [2, 4, 6]
    classes = {"outputs": [{"name": "y", "parameters": {"classification": 2}}]}
    answer = server.post("/v2/models/a/infer", {**body, **classes})
    assert answer.json["outputs"][0]["data"] == ["6.000000:2", "4.000000:1"]
    assert server.post("/predict", {"model_name": "a", "features": [1, 2, 3]}).json["predictions"] == [{"y": [2, 4, 6]}]
    assert server.post("/v1/models/a:predict", {"instances": [[1, 2, 3]]}).json == {"predictions": [[2, 4, 6]]}
    values = np.array([[1, 2, 3]], np.float32)
    with http_client.InferenceServerClient(server.address) as client:
        given = http_client.InferInput("x", [1, 3], "FP32").set_data_from_numpy(values)
        assert client.infer("a", [given]).as_numpy("y").tolist() == [[2, 4, 6]]
    with grpc_client.InferenceServerClient(server.grpc) as stub:
        asked = grpc_client.InferInput("x", [1, 3], "FP32").set_data_from_numpy(values)
        response = stub.infer("a", [asked], request_id="by gRPC")
        assert response.as_numpy("y").tolist() == [[2, 4, 6]]
        assert response.get_response().id == "by gRPC"
        found = stub.get_inference_statistics("a").model_stats[0].inference_stats
        assert found.cache_miss.count - before[1] == 1
    hits, misses = lookups(server)
    assert (hits - before[0], misses - before[1]) == (9, 1)


def test_triton_s_metrics(server: Server) -> None:
    for _ in range(2):
        server.infer("a", row(7, 8, 9))
    found, (hits, misses) = metrics(server), lookups(server)
    labels = '{model="a",version="1"}'
    assert found[f"nv_cache_num_hits_per_model{labels}"] == hits
    assert found[f"nv_cache_num_misses_per_model{labels}"] == misses
    assert found[f"nv_cache_hit_duration_per_model{labels}"] > 0
    assert found[f"nv_cache_miss_duration_per_model{labels}"] > 0
    assert found[f"nv_inference_exec_count{labels}"] == found[f"nv_inference_count{labels}"] == misses
    assert found[f"nv_inference_request_success{labels}"] == hits + misses
    assert not any(name.startswith("nv_cache") and 'model="plain"' in name for name in found)


def test_the_configuration_says_so(server: Server) -> None:
    """As Triton's clients read it, over both protocols; of other models it says nothing."""
    assert server.ask("GET", "/v2/models/a/config").json["response_cache"] == {"enable": True}
    assert "response_cache" not in server.ask("GET", "/v2/models/plain/config").json
    with grpc_client.InferenceServerClient(server.grpc) as client:
        assert client.get_model_config("a").config.response_cache.enable
        assert not client.get_model_config("plain").config.HasField("response_cache")


def test_the_log_says_so(server: Server) -> None:
    path = "/v2/models/a/infer"
    for name in ("ran", "kept"):
        body = json.dumps({"inputs": [row(4, 4, 4)]}).encode()
        server.ask("POST", path, body, {"Content-Type": JSON, "X-Request-Id": name})
    server.infer("plain", row(4, 4, 4))

    def lines() -> dict[str, dict[str, Any]]:
        written = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
        return {line["request_id"]: line for line in written if line.get("request_id") in ("ran", "kept")}

    deadline = time.monotonic() + 20
    while len(lines()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {name: line["cached"] for name, line in lines().items()} == {"ran": False, "kept": True}
    assert all(line["cache_ms"] > 0 for line in lines().values())
    assert (lines()["kept"]["infer_ms"], lines()["kept"]["queue_ms"]) == (0, 0)


def test_a_request_that_asks_for_something_wrong_is_told_so_each_time(server: Server) -> None:
    def wrong() -> Answer:
        return server.post("/v2/models/a/infer", {"inputs": [row(1, 2, 3)], "outputs": [{"name": "z"}]})

    assert [wrong().status for _ in range(2)] == [400, 400]
    labelled = {"outputs": [{"name": "y", "parameters": {"classification": 1}}]}
    text = {"inputs": [tensor("x", "BYTES", [1, 1], ["a"])], **labelled}
    assert [server.post("/v2/models/text/infer", text).status for _ in range(2)] == [400, 400]


def test_what_one_server_keeps_another_finds(folder: Path, redis: RedisServer) -> None:
    env = {"RESPONSE_CACHE_URL": redis.url, "RESPONSE_CACHE_TIMEOUT": "5"}
    with serving(folder, "--workers", "2", **env) as one, serving(folder, **env) as two:
        first = one.infer("a", row(11, 12, 13))
        assert two.infer("a", row(11, 12, 13)) == first
        assert lookups(two) == (1, 0)


def test_each_key_has_its_own(folder: Path, redis: RedisServer) -> None:
    """Over HTTP, /predict and gRPC; all have the same where a setting says so."""
    env = {"API_KEYS": ",".join(KEYS.values()), "RESPONSE_CACHE_URL": redis.url, "RESPONSE_CACHE_TIMEOUT": "5"}
    for shared, expected in (("false", (4, 2)), ("true", (5, 1))):
        values = [21.0, 22.0, 23.0 if shared == "true" else 24.0]
        with serving(folder, RESPONSE_CACHE_SHARED=shared, GRPC_PORT=str(free_port()), **env) as server:
            for key in KEYS:
                headers = {"Content-Type": JSON, "X-Api-Key": key}
                body = json.dumps({"inputs": [row(*values)]}).encode()
                assert server.ask("POST", "/v2/models/a/infer", body, headers).status == 200
                body = json.dumps({"model_name": "a", "features": values}).encode()
                assert server.ask("POST", "/predict", body, headers).status == 200
                with grpc_client.InferenceServerClient(server.grpc) as client:
                    given = grpc_client.InferInput("x", [1, 3], "FP32")
                    given.set_data_from_numpy(np.array([values], np.float32))
                    client.infer("a", [given], headers={"x-api-key": key})
            assert lookups(server, headers=headers) == expected


def test_a_redis_that_goes_away_and_comes_back(folder: Path) -> None:
    """Whatever happens to it, every response is right."""
    port = free_port()
    env = {"RESPONSE_CACHE_URL": f"redis://:secret@127.0.0.1:{port}/0", "LOG_LEVEL": "DEBUG"}

    def right(server: Server) -> None:
        for number in range(20):
            answer = server.infer("a", row(number % 3, 1, 2))
            assert answer.json["outputs"][0]["data"] == [2.0 * (number % 3), 2, 4]

    with serving(folder, **env) as server:
        right(server)
        with redis_server.running("--requirepass", "secret", port=port, password="secret") as redis:
            right(server)
            with redis.stopped():
                right(server)
            right(server)
            redis.client.config_set("maxmemory", 1)
            redis.client.config_set("maxmemory-policy", "noeviction")
            right(server)
        right(server)
        found = {name: value for name, value in metrics(server).items() if "response_cache_failures" in name}
        assert found['inferry_response_cache_failures_total{reason="unreachable"}'] >= 1
        assert "secret" not in server.output
    assert "secret" not in server.final_log
    assert "Traceback" not in server.final_log
    assert f"127.0.0.1:{port} is of no use now" in server.final_log
