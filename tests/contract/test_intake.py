"""Large requests of one client, slow ones, and many of them, take nobody else's turn, memory or place."""

import asyncio
import base64
import gzip
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from inferry.app import create_app
from inferry.concurrency import Helper
from inferry.errors import InferenceTimeout
from inferry.http import content, intake
from inferry.http.host import Host
from inferry.http.intake import Intake
from inferry.service import Service
from inferry.settings import Settings
from servers import Answer, Server, ask, received, serving, tensor

pytestmark = pytest.mark.local

SECONDS = 60.0
FOREVER = 10**9
KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "other")}
# A few kB, and a tenth of a second and more of the process for large bodies.
ROWS = gzip.compress(b'{"model_name":"nobody","features":[%b]}' % b",".join([b"[1]"] * 300_000))
ASYNC = {"prefer": "respond-async"}


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"floats.onnx": onnx_models.identity("FP32", ("n",)), "slow.onnx": onnx_models.slow()}
    return onnx_models.write(tmp_path_factory.mktemp("intake"), files)


def rejected(server: Server) -> int:
    text = server.ask("GET", "/metrics", headers={"x-api-key": "one"}).body.decode()
    name = 'inferry_request_failures_total{model="",version="",reason="rejected"} '
    return next((int(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0)


class Flood:
    """A client whose large requests all come at once."""

    def __init__(self, server: Server, count: int) -> None:
        self.answers: list[Answer] = []
        self._server = server
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with self._server.connected() as connection:
            connection.timeout = SECONDS
            headers = {"content-encoding": "gzip", "x-api-key": "one"}
            connection.request("POST", "/predict", ROWS, headers)
            self.answers.append(received(connection))

    def wait(self) -> list[int]:
        for thread in self._threads:
            thread.join()
        return sorted(answer.status for answer in self.answers)


@contextmanager
def flooded(server: Server, count: int) -> Iterator[Flood]:
    """The block begins when the first request is answered, and the others wait."""
    flood = Flood(server, count)
    until(lambda: flood.answers)
    yield flood
    flood.wait()


def test_one_client_has_its_turn_between_those_of_another(models: Path) -> None:
    with serving(models, API_KEYS=",".join(KEYS.values()), MODEL_TIMEOUT="120") as server, flooded(server, 16) as flood:
        headers = {"content-encoding": "gzip", "x-api-key": "other"}
        assert server.ask("POST", "/predict", ROWS, headers).status == 404
        assert len(flood.answers) < 10
    assert flood.wait() == [404] * 16


def test_an_uploaded_model_waits_for_no_request(models: Path) -> None:
    upload = {"file:1/model.onnx": base64.b64encode(b"text" * 100_000).decode(), "config": "{}"}
    with serving(models, API_KEYS=",".join(KEYS.values()), MODEL_TIMEOUT="120", MODEL_CONTROL="true") as server:
        load = json.dumps({"parameters": upload}).encode()
        path, headers = "/v2/repository/models/new/load", {"x-api-key": "one"}
        before = server.ask("POST", path, load, headers)
        assert (before.status, "is not an ONNX file" in before.json["error"]) == (503, True)
        with flooded(server, 1 + intake.MOST_WAITING) as flood:
            assert server.ask("POST", path, load, headers).json == before.json
            assert len(flood.answers) < 10


def test_a_client_that_has_too_many_waiting_is_told(models: Path) -> None:
    with serving(models, API_KEYS=",".join(KEYS.values()), MODEL_TIMEOUT="120") as server:
        flood = Flood(server, 40)
        statuses = flood.wait()
        assert set(statuses) == {404, 429}
        (refused, *_) = [answer for answer in flood.answers if answer.status == 429]
        count = intake.MOST_WAITING
        assert refused.json == {"error": f"{count} large requests of this client wait already; try later"}
        assert refused.headers["retry-after"] == "1"
        assert rejected(server) == statuses.count(429)


SLOW = {
    "slow/1/model.onnx": onnx_models.slow(),
    "slow/config.json": b'{"max_queue_size":8}',
    "batched/1/model.onnx": onnx_models.slow_rows(),
    "batched/config.json": b'{"max_batch_size":2,"dynamic_batching":{},"max_queue_size":8,"rows":"joined"}',
}


@pytest.mark.parametrize("model", ["slow", "batched"])
def test_who_fills_the_queue_of_a_model_keeps_nobody_out(tmp_path: Path, model: str) -> None:
    """In threads, and in batches: others have a place, and their turn."""
    answers: list[Answer] = []
    with serving(onnx_models.write(tmp_path, SLOW), API_KEYS=",".join(KEYS.values()), MODEL_TIMEOUT="120") as server:
        body = json.dumps({"inputs": [tensor("turns", "INT64", [1], [200])]}).encode()

        def asked(key: str) -> Answer:
            with server.connected() as connection:
                connection.timeout = SECONDS
                connection.request("POST", f"/v2/models/{model}/infer", body, {"x-api-key": key})
                return received(connection)

        threads = [threading.Thread(target=lambda: answers.append(asked("one"))) for _ in range(20)]
        for thread in threads:
            thread.start()
        until(lambda: 429 in [answer.status for answer in answers])
        assert asked("other").status == 200
        before = [answer.status for answer in answers].count(200)
        for thread in threads:
            thread.join()
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 429}
    # What ran when the other came, and one turn more.
    assert before < statuses.count(200) - 1


HEAD = "POST /v2/models/floats/infer HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {}\r\n{}\r\n\r\n"


def uploading(server: Server, key: str, declared: str, size: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), SECONDS)
    client.sendall(HEAD.format(key, declared).encode() + bytes(size))
    return client


def test_memory_for_all_bodies_has_a_bound_and_one_client_half_of_it(models: Path) -> None:
    limits = {"MAX_REQUEST_BYTES": "1000000", "MAX_BUFFERED_BYTES": "2000000", "API_KEYS": ",".join(KEYS.values())}
    with serving(models, BODY_TIMEOUT="60", **limits) as server, ExitStack() as stack:
        body = b'{"inputs":[' + b" " * 900_000

        def asked(key: str) -> Answer:
            return server.ask("POST", "/v2/models/floats/infer", body, {"x-api-key": key})

        # Not JSON, which is looked at when all of it has come.
        assert asked("one").status == 400
        held = stack.enter_context(uploading(server, "one", "Content-Length: 1000000", 900_000))
        until(lambda: asked("one").status == 503)
        refused = asked("one")
        assert refused.headers["retry-after"] == "1"
        assert (
            "of bodies, and may 2000000, half of it of one client (MAX_BUFFERED_BYTES): try later"
            in (refused.json["error"])
        )
        # What comes in chunks says only then how much it is.
        chunk = b"30d40\r\n" + bytes(200_000) + b"\r\n"
        with uploading(server, "one", "Transfer-Encoding: chunked", 0) as client:
            client.sendall(chunk)
            assert client.recv(12) == b"HTTP/1.1 503"
        assert asked("other").status == 400
        assert rejected(server) >= 3
        held.close()
        until(lambda: asked("one").status == 400)


def test_a_response_has_the_place_of_its_request(models: Path) -> None:
    """One that is larger than that needs another, unless nobody has any."""
    count = 500_000
    x = {"name": "x", "shape": [count], "datatype": "FP32", "parameters": {"binary_data_size": 4 * count}}
    text = json.dumps({"inputs": [x]}).encode()
    values = np.full(count, 1e-20, np.float32).tobytes()
    limits = {"MAX_REQUEST_BYTES": "2100000", "MAX_BUFFERED_BYTES": "4200000", "API_KEYS": ",".join(KEYS.values())}
    with serving(models, BODY_TIMEOUT="60", **limits) as server:

        def asked(content: bytes) -> Answer:
            headers = {"Inference-Header-Content-Length": str(len(text)), "x-api-key": "one"}
            return server.ask("POST", "/v2/models/floats/infer", text + content, headers)

        answer = asked(values)
        assert (answer.status, len(answer.body) > 3_000_000) == (200, True)
        with uploading(server, "other", "Content-Length: 1000000", 900_000):
            until(lambda: asked(values).status == 503)
            refused = asked(values)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert "(MAX_BUFFERED_BYTES): try later" in refused.json["error"]
            assert asked(bytes(4 * count)).status == 200
        until(lambda: asked(values).status == 200)


def test_tensors_by_reference_have_a_place_before_they_are_read(models: Path, tmp_path: Path) -> None:
    count = 500_000
    np.full(count, 1e-20, np.float32).tofile(tmp_path / "x.bin")
    x = {"name": "x", "shape": [count], "datatype": "FP32", "parameters": {"uri": f"{tmp_path}/x.bin"}}
    outputs = [{"name": "y", "parameters": {"uri": f"{tmp_path}/y.bin"}}]
    body = json.dumps({"inputs": [x], "outputs": outputs}).encode()
    limits = {"MAX_REQUEST_BYTES": "1000000", "MAX_BUFFERED_BYTES": "2000000", "API_KEYS": ",".join(KEYS.values())}
    with serving(models, BODY_TIMEOUT="60", DATA_PREFIXES=str(tmp_path), **limits) as server:

        def asked() -> Answer:
            return server.ask("POST", "/v2/models/floats/infer", body, {"x-api-key": "one"})

        assert asked().status == 200
        with uploading(server, "other", "Content-Length: 1000000", 900_000):
            until(lambda: asked().status == 503)
            assert "(MAX_BUFFERED_BYTES): try later" in asked().json["error"]
        until(lambda: asked().status == 200)


def test_requests_to_be_answered_later_have_a_bound(models: Path, tmp_path: Path) -> None:
    limits = {"MAX_DEFERRED": "2", "MODEL_TIMEOUT": "3", "API_KEYS": ",".join(KEYS.values())}
    with serving(models, BATCH_INPUT=f"{tmp_path}/in", BATCH_OUTPUT=f"{tmp_path}/out", **limits) as server:

        def deferred(key: str, turns: object) -> Answer:
            body = json.dumps({"inputs": [tensor("turns", "INT64", [1], [turns])]}).encode()
            return server.ask("POST", "/v2/models/slow/infer", body, {**ASYNC, "x-api-key": key})

        assert deferred("one", "a").status == 400
        assert deferred("one", FOREVER).status == 202
        refused = deferred("one", 1)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert refused.json["error"] == (
            "1 requests wait for their responses, of 2 that may, half of them of one client (MAX_DEFERRED): try later, "
            "or without 'Prefer: respond-async'"
        )
        assert rejected(server) == 1
        assert len([*tmp_path.glob("in/requests/slow/*")]) == 1
        assert deferred("other", 1).status == 202
        # One that is no request has no place, nor has one that was answered.
        until(lambda: deferred("one", 1).status == 202)


def test_waiting_for_a_turn_is_a_part_of_the_time() -> None:
    async def scenario() -> None:
        found = Intake(Settings(model_timeout=0.05))
        await found._turns._lock.acquire()
        with pytest.raises(InferenceTimeout, match="before it had its turn"):
            await found.turn()
        found._turns._lock.release()
        await found.turn()

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


@pytest.mark.parametrize("path", ["/predict", "/v1/models/floats:predict"])
@pytest.mark.parametrize(("rows", "turns"), [(3, 0), (60, 1), (400, 2)])
def test_rows_are_read_and_written_in_turns(models: Path, path: str, rows: int, turns: int) -> None:
    """But for a few."""
    taken: list[str] = []

    class Counted(Intake):
        async def turn(self) -> None:
            taken.append("turn")
            await super().turn()

    settings = Settings(model_path=str(models))
    service = Service.from_settings(settings)
    app = create_app(service, Host(intake=Counted(settings)))
    name = "features" if path == "/predict" else "instances"
    answer = ask(app, "POST", path, json={"model_name": "floats", name: [[12345678.5]] * rows})
    service.close()
    assert (answer.status_code, len(answer.json()["predictions"])) == (200, rows)
    assert len(taken) == turns


@pytest.mark.parametrize("path", ["/predict", "/v1/models/floats:predict"])
def test_all_that_is_made_of_a_body_has_one_time(models: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "LARGE", -1)
    deadlines: list[float] = []

    async def helper(function: Callable[..., Any], *arguments: Any, deadline: float) -> Any:
        deadlines.append(deadline)
        await asyncio.sleep(0.2)
        return function(*arguments)

    found: Helper = helper
    service = Service.from_settings(Settings(model_path=str(models), model_timeout=5))
    app = create_app(service, Host(helper=found))
    body = {"model_name": "floats", "features": [[1.0]], "instances": [1.0]}
    before = time.monotonic()
    assert ask(app, "GET", "/v2/models/floats/ready").status_code == 200
    ask(app, "POST", path, json=body)
    service.close()
    first, second, *_ = deadlines
    assert second - first < 0.1
    assert before + 5 <= second
