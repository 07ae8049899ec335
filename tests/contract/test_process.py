"""The server as a process: how it starts, shares a port, runs out of time or room, and ends."""

import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_models
import pytest
from inferry.runtime.session import Session
from inferry.server.connection import _Joined, _Turn
from servers import JSON, Answer, Server, environment, received, serving, started, tensor

SLOW = {"slow.onnx": onnx_models.slow()}


def turns(count: int) -> dict[str, Any]:
    return tensor("turns", "INT64", [1], [count])


def turns_for(server: Server, seconds: float) -> int:
    """How many turns of the slow model take this long here, or longer while others use the machine."""

    def took() -> float:
        start = time.monotonic()
        assert server.infer("slow", turns(100)).status == 200
        return time.monotonic() - start

    return int(seconds / min(took() for _ in range(5)) * 100)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_a_request_in_flight_end(
    repository: Callable[..., str], threads: ThreadPoolExecutor, workers: str
) -> None:
    with serving(repository(SLOW), "--workers", workers) as server:
        count = turns_for(server, 1.5)
        answer: Future[Answer] = threads.submit(server.infer, "slow", turns(count))
        time.sleep(0.3)
        assert not answer.done()
        server.terminate()
        assert answer.result().status == 200
        assert answer.result().json["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}]
        assert server.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/v2/health/live")
    assert "Traceback" not in server.final_log


def test_sigint_ends_the_server_too(repository: Callable[..., str]) -> None:
    with serving(repository(SLOW)) as server:
        server.process.send_signal(2)
        assert server.wait() == 0
    assert "Traceback" not in server.final_log


def warm_up_of(seconds: float, session: Callable[..., Session]) -> bytes:
    """A config whose warm-up takes the SLOW model at least as long, however busy the machine is then."""
    few = 200
    start = time.monotonic()
    session(onnx_models.slow()).run({"turns": np.array([few])}, ["y"], start + 60)
    count = int(few * seconds / (time.monotonic() - start)) + few
    return json.dumps({"warm_up": True, "example": {"inputs": [turns(count)]}}).encode()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_port_opens_before_the_models_are_loaded(
    repository: Callable[..., str], session: Callable[..., Session], tmp_path: Path, workers: str
) -> None:
    path = repository({**SLOW, "slow/config.json": warm_up_of(3, session)})
    server = started(path, ["--workers", workers], {}, tmp_path, None)
    try:
        assert server.ask("GET", "/v2/health/live").json == {"live": True}
        answer = server.ask("GET", "/v2/health/ready")
        error = "not ready: the models are being loaded; POST /v2/repository/index says more"
        assert (answer.status, answer.json) == (503, {"error": error})
        # Who doesn't ask first waits for the model.
        assert server.infer("slow", turns(1)).status == 200
        deadline = time.monotonic() + 60
        while server.ask("GET", "/v2/health/ready").status != 200:
            assert time.monotonic() < deadline
    finally:
        server.terminate()
        server.wait()
    assert server.stopped == 0


def test_strict_readiness(repository: Callable[..., str]) -> None:
    path = repository({"a.onnx": onnx_models.identity(), "b.onnx": b"not a model"})
    with serving(path, STRICT_READINESS="true", MODEL_CONTROL="true") as server:
        answer = server.ask("GET", "/v2/health/ready")
        error = "not ready: a model can't be served; POST /v2/repository/index says more"
        assert (answer.status, answer.json) == (503, {"error": error})
        assert server.ask("GET", "/v2/health/live").status == 200
        onnx_models.write(Path(path), {"b.onnx": onnx_models.identity()})
        assert server.post("/v2/repository/models/b/load", {}).status == 200
        assert server.ask("GET", "/v2/health/ready").json == {"live": True, "ready": True}


@pytest.mark.parametrize("option", ["--model-name", "--model_name"])
def test_what_kserve_mounts(repository: Callable[..., str], option: str) -> None:
    """A folder with the model's file in it; its runtimes pass the name."""
    path = repository({"model.onnx": onnx_models.identity()})
    with serving(path, option, "iris", METRICS_PORT="tcp://10.96.0.7:9090") as server:
        assert server.ask("GET", "/v2/models").json == {"models": ["iris"]}
        assert server.ask("GET", "/v2/models/iris/ready").status == 200


def counted(server: Server) -> int:
    """Asks for a prediction, and how many the process that gave it has given by now."""
    with server.connected() as connection:
        body = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]})
        connection.request("POST", "/v2/models/quick/infer", body)
        assert received(connection).status == 200
        connection.request("GET", "/v2/models/quick/stats")
        (stats,) = received(connection).json["model_stats"]
    count: int = stats["inference_count"]
    return count


def test_two_workers_serve_on_one_port(tmp_path: Path) -> None:
    onnx_models.write(tmp_path / "models", {"quick.onnx": onnx_models.identity()})
    # The command line's settings win over the environment's in the workers as well, also where they are the defaults.
    env = {"MODEL_PATH": "/nowhere", "WORKERS": "1", "APP_NAME": "both"}
    with serving("models", "--workers", "2", cwd=tmp_path, **env) as server:
        # One process alone would have given as many predictions as were asked for.
        deadline = time.monotonic() + 30
        asked = 1
        while counted(server) == asked:
            assert time.monotonic() < deadline
            asked += 1
        assert {server.ask("GET", "/health").json["name"] for _ in range(8)} == {"both"}


def test_descriptors_that_ran_out_are_told(repository: Callable[..., str]) -> None:
    with serving(repository({"quick.onnx": onnx_models.identity()})) as server, ExitStack() as connections:
        pid = server.process.pid
        left = len([*Path(f"/proc/{pid}/fd").iterdir()]) + 2
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (left, hard))
        for _ in range(8):
            connections.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        deadline = time.monotonic() + 30
        while "ERROR inferry: no file descriptor is left, with " not in server.log:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert server.infer("quick", tensor("x", "FP32", [1, 3], [1, 2, 3])).status == 200


def run(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "inferry", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(env),
        check=False,
    )


def test_a_port_in_use(repository: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("serve", repository(SLOW), "--port", str(port), "--workers", "2")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"inferry: can't listen on 127.0.0.1:{port}: Address already in use; choose another with --port or PORT\n"
    )


CANT_SERVE = {
    "a folder that isn't there": (["serve", "/no/such/folder", "--port", "0"], {}, "/no/such/folder"),
    "a folder that isn't there, for two workers": (
        ["serve", "/no/such/folder", "--port", "0", "--workers", "2"],
        {},
        "/no/such/folder",
    ),
    "a file that isn't there": (["serve", "/no/such/model.onnx", "--port", "0"], {}, "/no/such"),
    "an unknown kind of URL": (["serve", "ftp://models", "--port", "0"], {}, "ftp"),
    "a host that isn't ours": (["serve", "--host", "192.0.2.1", "--port", "0"], {}, "192.0.2.1"),
    "PORT that is a word": (["serve"], {"PORT": "http"}, "PORT must be a whole number, got 'http'"),
}


@pytest.mark.parametrize("name", CANT_SERVE)
def test_what_keeps_a_server_from_starting_is_one_line(name: str) -> None:
    arguments, env, words = CANT_SERVE[name]
    ended = run(*arguments, **env)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"inferry: [^\n]+\n", ended.stderr), ended.stderr
    assert words in ended.stderr


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose predictions may take 0.6 s, over slow models that run at once, one by one, and in batches."""
    files = {
        "slow/1/model.onnx": onnx_models.slow(),
        "narrow/1/model.onnx": onnx_models.slow(),
        "narrow/config.json": b'{"max_queue_size": 1}',
    }
    folder = onnx_models.write(tmp_path_factory.mktemp("hurried"), files)
    with serving(folder, MODEL_TIMEOUT="0.6") as server:
        yield server


FOREVER = 10**9
TIMEOUTS = {
    "MODEL_TIMEOUT": ({}, 0.6),
    "the request's timeout": ({"parameters": {"timeout": 200_000}}, 0.2),
    "a timeout that is longer than MODEL_TIMEOUT": ({"parameters": {"timeout": 60_000_000}}, 0.6),
    "a timeout of 0 is none": ({"parameters": {"timeout": 0}}, 0.6),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_prediction_that_takes_too_long(hurried: Server, name: str) -> None:
    members, seconds = TIMEOUTS[name]
    start = time.monotonic()
    answer = hurried.infer("slow", turns(FOREVER), **members)
    took = time.monotonic() - start
    assert (answer.status, answer.headers["content-type"]) == (504, JSON)
    assert "model 'slow'" in answer.json["error"]
    assert seconds * 0.9 < took < seconds + 10
    # The session is as good as before, and free.
    assert hurried.infer("slow", turns(1)).json["outputs"][0]["data"] == [1.0]


def test_a_timeout_of_predict(hurried: Server) -> None:
    answer = hurried.post("/predict", {"features": [FOREVER], "model_name": "slow"})
    assert (answer.status, "model 'slow'" in answer.json["error"]) == (504, True)


def test_other_models_answer_while_one_is_slow(tiny: Server, threads: ThreadPoolExecutor) -> None:
    slow = threads.submit(tiny.infer, "slow", turns(FOREVER), parameters={"timeout": 2_000_000})
    time.sleep(0.2)
    for _ in range(3):
        assert tiny.infer("echo", tensor("x", "FP32", [1], [1])).status == 200
        assert tiny.ask("GET", "/v2/health/live").status == 200
    assert not slow.done()
    assert slow.result().status == 504


def test_a_queue_that_is_full(hurried: Server, threads: ThreadPoolExecutor) -> None:
    answers = list(threads.map(lambda _: hurried.infer("narrow", turns(FOREVER)), range(6)))
    assert {answer.status for answer in answers} == {429, 504}
    refused = [answer for answer in answers if answer.status == 429]
    error = refused[0].json["error"]
    assert "model 'narrow'" in error
    assert "max_queue_size" in error
    length = str(len(refused[0].body))
    assert refused[0].headers == {"content-type": JSON, "retry-after": "1", "content-length": length}
    assert hurried.infer("narrow", turns(1)).status == 200


REASONS = {
    "broken": "can't be loaded",
    "sequence": "output 'y' of model 'sequence' is of type seq(tensor(float))",
    "complex": "complex64",
}


@pytest.mark.parametrize("model", REASONS)
def test_a_model_that_can_not_be_served_says_why_and_others_serve(tiny: Server, model: str) -> None:
    index = {item["name"]: item for item in tiny.ask("POST", "/v2/repository/index").json}
    entry = index[model]
    assert {**entry, "reason": ""} == {"name": model, "version": "1", "state": "UNAVAILABLE", "reason": ""}
    assert REASONS[model] in entry["reason"]
    assert "\n" not in entry["reason"]
    error = {"error": entry["reason"]}
    for method, path, body in (
        ("GET", f"/v2/models/{model}", None),
        ("GET", f"/v2/models/{model}/ready", None),
        ("GET", f"/v2/models/{model}/versions/1/config", None),
        ("POST", f"/v2/models/{model}/infer", b"{}"),
        ("POST", f"/v1/models/{model}:predict", b'{"instances":[1]}'),
    ):
        answer = tiny.ask(method, path, body)
        assert (answer.status, answer.json) == (503, error), path
    assert len([line for line in tiny.log.splitlines() if f"'{model}'" in line and REASONS[model] in line]) == 1
    assert tiny.infer("echo", tensor("x", "FP32", [1], [1])).status == 200


def test_broken_configs_and_files_in_wrong_places(repository: Callable[..., str]) -> None:
    files = {
        "good/1/model.onnx": onnx_models.identity(),
        "text/1/model.onnx": onnx_models.identity(),
        "text/config.json": b"max_batch_size: 8",
        "typo/1/model.onnx": onnx_models.identity(),
        "typo/config.json": b'{"max_batchsize": 8}',
        "fixed/1/model.onnx": onnx_models.identity("FP32", (1, 3)),
        "fixed/config.json": b'{"max_batch_size": 8}',
        "digest/1/model.onnx": onnx_models.identity(),
        "digest/config.json": b'{"sha256": {"1": "%s"}}' % (b"0" * 64),
        "misnamed/1/net.onnx": onnx_models.identity(),
        "bad name/1/model.onnx": onnx_models.identity(),
    }
    with serving(repository(files)) as server:
        index = {item["name"]: item for item in server.ask("POST", "/v2/repository/index").json}
        words = {
            "text": "config.json of model 'text' is not JSON",
            "typo": "unknown key 'max_batchsize'",
            "fixed": "first axis of 'x' is not symbolic",
            "digest": "SHA-256",
        }
        assert index.keys() == words.keys() | {"good"}
        assert index["good"] == {"name": "good", "version": "1", "state": "READY"}
        for name, text in words.items():
            assert index[name]["state"] == "UNAVAILABLE"
            assert text in index[name]["reason"]
        assert "misnamed/1 has no model.onnx" in server.log
        assert "bad name/1: 'bad name'" in server.log


def test_the_greeting_names_what_to_open(tiny: Server, examples: Server) -> None:
    assert f"docs     {tiny.url}/docs\n" in tiny.output
    (curl,) = re.findall(r"predict  curl (\S+) -d '(.*)'", examples.output)
    answer = examples.ask("POST", curl[0].removeprefix(examples.url), curl[1].encode())
    assert answer.status == 200
    assert answer.json["predictions"][0]["label"] == 7


def test_the_greeting_is_json_where_the_log_is(repository: Callable[..., str]) -> None:
    with serving(repository({"m.onnx": onnx_models.identity()}), LOG_FORMAT="json", APP_NAME="mine") as server:
        (line,) = [json.loads(line) for line in server.output.splitlines()]
    assert (line["level"], line["service"], line["url"]) == ("INFO", "mine", server.url)
    assert re.fullmatch(rf"inferry \S+ serves \S+ at {server.url}", line["message"])


def test_a_single_file_is_a_repository(repository: Callable[..., str]) -> None:
    folder = repository(
        {"one.onnx": onnx_models.identity(), "one.onnx.data": b"weights", "two.onnx": onnx_models.add()}
    )
    with serving(Path(folder, "one.onnx")) as server:
        assert server.ask("GET", "/v2/models").json == {"models": ["one"]}
        answer = server.post("/predict", {"features": [1, 2, 3]})
        assert answer.json == {"model_name": "one", "model_version": "1", "predictions": [{"y": [1.0, 2.0, 3.0]}]}


def test_the_environment_is_enough(repository: Callable[..., str]) -> None:
    env = {"MODEL_PATH": repository({"m.onnx": onnx_models.identity()}), "PORT": "0", "HOST": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "inferry", "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(env),
        text=True,
    )
    try:
        assert process.stdout is not None
        (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert Server(int(port), process, Path()).ask("GET", "/v2/models").json == {"models": ["m"]}  # type: ignore[arg-type]
    finally:
        process.terminate()
        status = process.wait(30)
        assert process.stdout
        process.stdout.close()
    assert status == 0


def test_the_answers_of_a_turn_come_though_a_connection_is_lost() -> None:
    """Each connection's parts in one write, and one call of the loop for all of them."""

    class Loop:
        calls: ClassVar[list[Callable[[], None]]] = []

        def call_soon(self, call: Callable[[], None]) -> None:
            self.calls.append(call)

    class Transport:
        def __init__(self, lost: bool) -> None:
            self.lost, self.sent = lost, list[bytes]()

        def is_closing(self) -> bool:
            return False

        def write(self, data: bytes) -> None:
            if self.lost:
                raise RuntimeError("unable to perform operation; the handler is closed")  # as uvloop
            self.sent.append(data)

    turn = _Turn(Loop())  # type: ignore[arg-type]
    transports = [Transport(lost) for lost in (False, True, False)]
    for transport in transports:
        joined = _Joined(transport, turn)  # type: ignore[arg-type]
        joined.write(b"head ")
        joined.write(b"body")
    (call,) = Loop.calls
    call()
    assert [transport.sent for transport in transports] == [[b"head body"], [], [b"head body"]]
