"""The app as the host serves it: keys, limits, failures, and many requests at once."""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import onnx_models
import pytest
import tritonclient.http
from servers import EXAMPLES, HEADER_LENGTH, JSON, Answer, Server, received, serving, tensor

KEY = "a-function-key"
MASTER = "a-master-key"
# What is sent at once need not arrive so on a busy machine.
ROUNDS = 20
PLAIN = json.dumps({"inputs": [tensor("x", "FP32", [2], [1, 2])]}).encode()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app with its function's key asked for, as in the cloud, and bodies of up to 1,000 bytes."""
    files = {"m.onnx": onnx_models.identity("FP32", ("n",)), "failing.onnx": onnx_models.failing()}
    files["slow.onnx"] = onnx_models.slow()
    folder = onnx_models.write(tmp_path_factory.mktemp("keyed"), files)
    with serving(folder, "--key", KEY, "--admin-key", MASTER, MAX_REQUEST_BYTES="1000") as server:
        yield server


def status(server: Server, method: str, path: str, **headers: str) -> int:
    return server.ask(method, path, headers=headers).status


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/models/m", "/v2/models/m/ready", "/predict", "/docs", "/nothing", "/v2/health"]
)
def test_without_a_key_there_is_nothing(keyed: Server, path: str) -> None:
    assert keyed.ask("GET", path) == Answer(401, {"content-length": "0"}, b"")
    assert status(keyed, "GET", path, **{"x-functions-key": "wrong"}) == 401
    assert status(keyed, "GET", f"{path}?code=wrong") == 401


@pytest.mark.parametrize("path", ["/health", "/v2/health/live", "/v2/health/ready"])
def test_health_is_open(keyed: Server, path: str) -> None:
    assert status(keyed, "GET", path) == 200
    assert keyed.ask("HEAD", path).body == b""
    assert status(keyed, "POST", path) == 401


@pytest.mark.parametrize("key", [KEY, MASTER])
def test_a_key_in_the_header_or_the_query(keyed: Server, key: str) -> None:
    assert status(keyed, "GET", "/v2/models/m", **{"x-functions-key": key}) == 200
    assert status(keyed, "GET", f"/v2/models/m?code={key}") == 200


def test_a_function_key_does_not_open_what_asks_for_the_master(tmp_path: Any) -> None:
    folder = onnx_models.write(tmp_path, {"m.onnx": onnx_models.identity()})
    with serving(folder, "--key", KEY, "--admin-key", MASTER, AUTH_LEVEL="admin") as server:
        assert [status(server, "GET", "/v2", **{"x-functions-key": key}) for key in (KEY, MASTER)] == [401, 200]


def test_the_apps_own_keys(tmp_path: Any) -> None:
    folder = onnx_models.write(tmp_path, {"m.onnx": onnx_models.identity()})
    env = {"AUTH_LEVEL": "anonymous", "API_KEYS": hashlib.sha256(KEY.encode()).hexdigest()}
    with serving(folder, **env) as server:
        without = server.ask("GET", "/v2/models/m")
        assert (without.status, without.headers["content-type"], list(without.json)) == (401, JSON, ["error"])
        assert status(server, "GET", "/v2/models/m", **{"x-api-key": "wrong"}) == 403
        assert status(server, "GET", "/v2/models/m", **{"x-api-key": KEY}) == 200
        assert status(server, "GET", "/v2/models/m", Authorization=f"Bearer {KEY}") == 200
        assert [status(server, "GET", path) for path in ("/health", "/v2/health/live", "/v2/health/ready")] == [200] * 3


BAD: dict[str, tuple[int, str, str, bytes]] = {
    "a wrong route": (404, "there is nothing at '/v3'", "/v3", b""),
    "a body over the limit": (413, "MAX_REQUEST_BYTES", "/v2/models/m/infer", PLAIN + b" " * 1000),
    "a model that fails": (500, "model 'failing' failed", "/v2/models/failing/infer", PLAIN),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_in_the_protocol_form(keyed: Server, name: str) -> None:
    code, text, path, body = BAD[name]
    answer = keyed.ask("POST", path, body, {"x-functions-key": KEY})
    assert (answer.status, answer.headers["content-type"], list(answer.json)) == (code, JSON, ["error"])
    assert text in answer.json["error"]


def test_a_failure_has_the_id_of_its_invocation(keyed: Server) -> None:
    answer = keyed.ask("POST", "/v2/models/failing/infer", PLAIN, {"x-functions-key": KEY})
    request_id = answer.json["error"].rpartition("(request ")[2].rstrip(")")
    assert answer.headers == {"content-type": JSON, "content-length": str(len(answer.body))}
    assert len(request_id) == 36
    assert sum(request_id in line for line in keyed.log.splitlines()) == 1


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LINE = {
    *("level", "location", "message", "timestamp", "service", "request_id", "trace_id", "cold_start"),
    *("method", "path", "status", "outcome", "duration_ms", "request_bytes", "response_bytes"),
    *("model", "version", "rows", "decode_ms", "queue_ms", "infer_ms", "encode_ms"),
}


def test_a_request_has_its_line_in_the_log_of_the_host(tmp_path: Any) -> None:
    """With the fields that it has on Lambda; the host hands messages on, with its own words in front."""
    folder = onnx_models.write(tmp_path, {"m.onnx": onnx_models.identity("FP32", ("n",))})
    with serving(folder, LOG_FORMAT="json") as server:
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        answer = server.ask("POST", "/v2/models/m/infer", PLAIN, headers)
        assert answer.status == 200
        (line,) = [json.loads(found) for found in re.findall(r'inferry: (\{.*"POST".*\})', server.log)]
    assert line.keys() == LINE
    assert (line["trace_id"], line["model"], line["status"]) == (TRACE, "m", 200)
    assert re.fullmatch("[0-9a-f-]{36}", line["request_id"])


def test_a_body_over_100_mb_does_not_reach_the_app(keyed: Server) -> None:
    answer = keyed.ask("POST", "/v2/models/m/infer", bytes(100 * 2**20 + 1), {"x-functions-key": KEY})
    assert (answer.status, answer.body) == (413, b"")


def test_a_long_run_holds_up_nobody(keyed: Server) -> None:
    """A run of ONNX Runtime is no coroutine: a long one has a thread."""

    def run(turns: int) -> float:
        start = time.monotonic()
        body = json.dumps({"inputs": [tensor("turns", "INT64", [1], [turns])]}).encode()
        assert keyed.ask("POST", "/v2/models/slow/infer", body, {"x-functions-key": KEY}).status == 200
        return time.monotonic() - start

    turns = int(1.5 / run(100) * 100)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run, turns)
        waits = []
        while not running.done():
            start = time.monotonic()
            assert status(keyed, "GET", "/health") == 200
            waits.append(time.monotonic() - start)
    assert max(waits) < running.result() / 3


def test_16_at_once() -> None:
    """One instance, one event loop: answers don't depend on who else asks, and what comes together runs together."""
    with (
        serving(EXAMPLES, MODEL_CACHE_SIZE="8") as server,
        tritonclient.http.InferenceServerClient(server.address) as client,
    ):
        given = [row(seed) for seed in range(16)]
        alone = [client.infer("encoder", [one]).as_numpy("embedding") for one in given]
        for _ in range(ROUNDS):
            for single, together in zip(alone, at_once(server, given), strict=True):
                np.testing.assert_allclose(together, single, rtol=1e-4, atol=1e-5)
            (stats,) = client.get_inference_statistics("encoder")["model_stats"]
            if max(batch["batch_size"] for batch in stats["batch_stats"]) > 1:
                break
        else:
            raise AssertionError(f"no batch in {ROUNDS} rounds: {stats}")
        loads = re.findall(
            rb'inferry_model_loads_total\{model="encoder",version="1",outcome="success"\} (\d+)', scrape(server)
        )
        assert loads == [b"1"]


def scrape(server: Server) -> bytes:
    return server.ask("GET", "/metrics").body


def at_once(server: Server, given: list[Any]) -> list[Any]:
    """tritonclient's requests, sent before an answer is read: its own threads of execution send at their leisure."""
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connected()) for _ in given]
        for connection in connections:
            connection.connect()
        for connection, one in zip(connections, given, strict=True):
            body, size = tritonclient.http.InferenceServerClient.generate_request_body([one])
            connection.request("POST", "/v2/models/encoder/infer", body, {HEADER_LENGTH: str(size)})
        answers = [received(connection) for connection in connections]
    parse = tritonclient.http.InferenceServerClient.parse_response_body
    lengths = [int(answer.headers[HEADER_LENGTH]) for answer in answers]
    return [
        parse(answer.body, header_length=length).as_numpy("embedding")
        for answer, length in zip(answers, lengths, strict=True)
    ]


def row(seed: int) -> Any:
    tokens = np.random.default_rng(seed).integers(1, 100, (1, 64))
    return tritonclient.http.InferInput("input_ids", list(tokens.shape), "INT64").set_data_from_numpy(tokens)
