"""Requests that are answered later, over every store and under a host that answers them itself."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from contract.servers import EXAMPLES, Answer, Server, serving
from inferry import jobs
from inferry.deferred import Deferred
from inferry.errors import DeferredNotFound, InvalidRequest
from inferry.messages import Messages
from inferry.service import Service
from inferry.settings import Settings

pytestmark = pytest.mark.local

REQUEST = json.loads((EXAMPLES / "digits/config.json").read_text())["example"]["inputs"]
BODY = json.dumps({"id": "seven", "inputs": REQUEST}).encode()
BINARY_OUT = BODY[:-1] + b',"parameters":{"binary_data_output":true}}'
ASYNC = {"prefer": "respond-async"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("deferred")
    with serving(EXAMPLES, BATCH_INPUT=f"{folder}/in", BATCH_OUTPUT=f"{folder}/out") as server:
        yield server


def fetched(server: Server, url: str) -> Answer:
    deadline = time.monotonic() + 20
    while (answer := server.ask("GET", url)).status == 202 and time.monotonic() < deadline:
        assert answer.json["status"] == "pending"
        time.sleep(0.05)
    return answer


@pytest.mark.parametrize(
    ("path", "headers"),
    [("infer", ASYNC), ("infer", {"Prefer": "wait=5, Respond-Async"}), ("requests", {})],
    ids=["preferred", "among others", "route of its own"],
)
def test_the_answer_is_that_of_infer(server: Server, path: str, headers: dict[str, str]) -> None:
    accepted = server.ask("POST", f"/v2/models/digits/{path}", BODY, headers)
    found = accepted.json["id"]
    url = f"/v2/models/digits/requests/{found}"
    assert (accepted.status, accepted.json) == (
        202,
        {"id": found, "model_name": "digits", "status": "pending", "url": url},
    )
    assert (accepted.headers["location"], accepted.headers["retry-after"]) == (url, "1")
    answer, now = fetched(server, url), server.ask("POST", "/v2/models/digits/infer", BODY)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == now.json


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    {
        "a wrong shape": ("digits/infer", BODY.replace(b"[1, 64]", b"[2, 32]"), 400, "[-1, 64]"),
        "not JSON": ("digits/infer", b"{", 400, "not JSON"),
        "an unknown model": ("nobody/infer", BODY, 404, "unknown model 'nobody'"),
        "a version": ("digits/versions/1/infer", BODY, 501, "leave the version out"),
        "binary outputs": ("digits/infer", BINARY_OUT, 400, "in its JSON"),
    }.values(),
)
def test_what_can_have_no_answer_is_refused_at_once(
    server: Server, path: str, body: bytes, status: int, words: str
) -> None:
    answer = server.ask("POST", f"/v2/models/{path}", body, ASYNC)
    assert answer.status == status
    assert words in answer.json["error"]


@pytest.mark.parametrize("found", ["0" * 32, "..", "%2e%2e%2fx", "A" * 200])
def test_unknown_requests(server: Server, found: str) -> None:
    answer = server.ask("GET", f"/v2/models/digits/requests/{found}")
    assert answer.status == 404
    assert set(answer.json) == {"error"}


def test_without_places_for_them() -> None:
    with serving(EXAMPLES) as server:
        answer = server.ask("POST", "/v2/models/digits/infer", BODY, ASYNC)
    assert answer.status == 501
    assert "BATCH_INPUT" in answer.json["error"]


@pytest.fixture(params=["local", "s3", "az", "gs"])
def deferred(
    request: pytest.FixtureRequest, tmp_path: Path, new_bucket: Callable[[str], str]
) -> Iterator[tuple[Deferred, Service]]:
    """Under a host that answers nothing itself."""
    place = str(tmp_path) if request.param == "local" else new_bucket(request.param)
    settings = Settings(
        model_path=str(EXAMPLES), batch_input=f"{place}/in", batch_output=f"{place}/out", batch_model="diabetes"
    )
    service = Service.from_settings(settings)
    yield Deferred(settings), service
    service.close()


def test_whoever_finds_the_file_answers(deferred: tuple[Deferred, Service]) -> None:
    subject, service = deferred
    model = service.repository.get("digits")
    found = subject.submit(model, BODY, None)
    assert subject.answer("digits", found) is None
    job = Messages(service.settings).of_file(subject.job("digits", found).input)
    assert job is not None
    assert job.model == "digits"  # whatever BATCH_MODEL says
    assert jobs.run(job, service).finished
    answer = subject.answer("digits", found)
    assert answer is not None
    content: Any = json.loads(answer.content)
    assert (answer.failed, content["id"], content["outputs"][0]["data"]) == (False, "seven", [7])
    with pytest.raises(DeferredNotFound):
        subject.answer("newsline", found)


def test_a_request_without_its_tensors_in_json_is_refused(deferred: tuple[Deferred, Service]) -> None:
    subject, service = deferred
    model = service.repository.get("digits")
    tensor = {"name": "pixels", "shape": [1, 64], "datatype": "FP32"}
    binary = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 256}}]}).encode()
    with pytest.raises(InvalidRequest, match="in its JSON"):
        subject.submit(model, binary + bytes(256), b"%d" % len(binary))
    by_reference = json.dumps({"inputs": [{**tensor, "parameters": {"uri": "s3://data/x.npy"}}]}).encode()
    with pytest.raises(InvalidRequest, match="in its JSON"):
        subject.submit(model, by_reference, None)


def test_a_request_that_fails_later_says_why(tmp_path: Path, repository: Callable[..., str]) -> None:
    path = repository({"failing.onnx": onnx_models.failing()})
    with serving(Path(path), BATCH_INPUT=f"{tmp_path}/in", BATCH_OUTPUT=f"{tmp_path}/out") as server:
        inputs = server.ask("GET", "/v2/models/failing").json["inputs"]
        tensor = {**inputs[0], "shape": [1] * len(inputs[0]["shape"]), "data": [1]}
        accepted = server.ask("POST", "/v2/models/failing/infer", json.dumps({"inputs": [tensor]}).encode(), ASYNC)
        answer = fetched(server, accepted.headers["location"])
    assert answer.status == 500
    assert "'failing'" in answer.json["error"]
