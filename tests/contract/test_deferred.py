"""Requests that are answered later, over every store and under a host that answers them itself."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from inferry.errors import (
    DeferredNotFound,
    InferenceTimeout,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    RequestTooLarge,
)
from inferry.http import management
from inferry.jobs import runner
from inferry.jobs.deferred import Deferred
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.messages import MessageReader
from inferry.worker.worker import Worker
from servers import EXAMPLES, Answer, Server, serving

pytestmark = pytest.mark.local

REQUEST = json.loads((EXAMPLES / "digits/config.json").read_text())["example"]["inputs"]
BODY = json.dumps({"id": "seven", "inputs": REQUEST}).encode()
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
    assert subject.response("digits", found) is None
    job = MessageReader(service.settings).of_file(subject.job("digits", found).input)
    assert job is not None
    assert job.model == "digits"  # whatever BATCH_MODEL says
    assert runner.run(job, service).finished
    answer = subject.response("digits", found)
    assert answer is not None
    content: Any = json.loads(answer.content)
    assert (answer.failed, content["id"], content["outputs"][0]["data"]) == (False, "seven", [7])
    with pytest.raises(DeferredNotFound):
        subject.response("newsline", found)


def test_a_request_with_references_is_refused(tmp_path: Path) -> None:
    settings = Settings(model_path=str(EXAMPLES), batch_input=f"{tmp_path}/in", batch_output=f"{tmp_path}/out")
    service = Service.from_settings(settings)
    tensor = {"name": "pixels", "shape": [1, 64], "datatype": "FP32", "parameters": {"uri": "s3://data/x.npy"}}
    with pytest.raises(InvalidRequest, match="none by reference"):
        Deferred(settings).submit(service.repository.get("digits"), json.dumps({"inputs": [tensor]}).encode(), None)
    service.close()


MODELS = {
    "failing.onnx": onnx_models.failing(),
    "state.onnx": onnx_models.echo({"x": ("FP32", ("n", 2)), "state": ("FP32", (2, "n", 1)), "rate": ("INT64", ())}),
    "text.onnx": onnx_models.identity("BYTES", ("n",)),
    **{f"{name}.onnx": onnx_models.identity(name, ("n",)) for name in ("FP16", "BF16", "FP32", "FP64", "UINT64")},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("small")
    models = onnx_models.write(folder / "models", MODELS)
    with serving(models, BATCH_INPUT=f"{folder}/in", BATCH_OUTPUT=f"{folder}/out", MODEL_CONTROL="true") as server:
        yield server


def later(server: Server, model: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    accepted = server.ask("POST", f"/v2/models/{model}/infer", body, ASYNC | (headers or {}))
    assert accepted.status == 202, accepted
    return fetched(server, accepted.headers["location"])


def vector(model: str, data: str, **members: Any) -> bytes:
    count = data.count(",") + 1
    head = {"name": "x", "datatype": model, "shape": [count], "data": []}
    return json.dumps({"inputs": [head], **members}).replace("[]", f"[{data}]").encode()


def test_a_request_without_rows(small: Server) -> None:
    body = json.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.5]},
                {"name": "state", "datatype": "FP32", "shape": [2, 1, 1], "data": [7, 8]},
                {"name": "rate", "datatype": "INT64", "shape": [], "data": [16000]},
            ]
        }
    ).encode()
    answer, now = later(small, "state", body), small.ask("POST", "/v2/models/state/infer", body)
    assert (answer.status, answer.json) == (200, now.json)
    assert answer.json["outputs"][2] == {"name": "rate_out", "datatype": "INT64", "shape": [], "data": [16000]}


EXACT = {
    "infinity": ("FP32", "Infinity,-Infinity,NaN,3,-0.0", [0x7F800000, 0xFF800000, 0x7FC00000, 0x40400000, 1 << 31]),
    "doubles": ("FP64", "0.1,1e308,5e-324", [0x3FB999999999999A, 0x7FE1CCF385EBC8A0, 1]),
    "an integer over 64 bits beside NaN": ("FP64", f"{2**64},NaN", [0x43F0000000000000, 0x7FF8000000000000]),
    "half": ("FP16", "65504,Infinity,6e-8", [0x7BFF, 0x7C00, 1]),
    "bfloat16": ("BF16", "1.5,-Infinity", [0x3FC0, 0xFF80]),
    "integers": ("UINT64", f"{2**64 - 1},0", [2**64 - 1, 0]),
}
BITS = {"FP16": "<u2", "BF16": "<u2", "FP32": "<u4", "FP64": "<u8", "UINT64": "<u8"}


@pytest.mark.parametrize("name", EXACT)
def test_every_bit_is_kept(small: Server, name: str) -> None:
    """The answer in binary has the bits, and that in JSON is what `infer` says."""
    model, data, bits = EXACT[name]
    plain, binary = vector(model, data), vector(model, data, parameters={"binary_data_output": True})
    now, answer = small.ask("POST", f"/v2/models/{model}/infer", plain), later(small, model, plain)
    assert (answer.status, answer.json) == (200, now.json)
    answer = later(small, model, binary)
    size = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert np.frombuffer(answer.body[size:], BITS[model]).tolist() == bits
    assert answer.body == small.ask("POST", f"/v2/models/{model}/infer", binary).body


def test_binary_inputs(small: Server) -> None:
    bits = np.array([0x7FC00001, 0xFF800000], np.uint32).tobytes()  # a NaN with a payload
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    text = json.dumps({"id": "b", "inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]})
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = later(small, "FP32", text.encode() + bits, headers)
    assert answer.body == small.ask("POST", "/v2/models/FP32/infer", text.encode() + bits, headers).body
    assert answer.body.endswith(bits)
    raw = later(small, "FP32", bits, {"Inference-Header-Content-Length": "0"})
    assert raw.body.endswith(bits)


def test_texts(small: Server) -> None:
    body = vector("BYTES", '"ü","","a\\n\\""', id=',"binary_tail":"')
    answer = later(small, "text", body)
    assert answer.json == small.ask("POST", "/v2/models/text/infer", body).json
    assert answer.json["outputs"][0]["data"] == ["ü", "", 'a\n"']


BEYOND = {
    "small": vector("FP64", "1e400"),
    "negative": vector("FP64", "-1e400"),
    "with NaN in an id": vector("FP64", "1e400", id="NaN"),
    "negative with NaN in an id": vector("FP64", "-1e400", id="NaN"),
    "beside NaN": vector("FP64", "NaN,-1e400"),
    "an integer beside Infinity": vector("FP64", f"Infinity,1{'0' * 400}"),
    "large": vector("FP64", ",".join(["1"] * 5000) + ",-1e400", id="Infinity"),
}


@pytest.mark.parametrize("headers", [{}, ASYNC], ids=["now", "later"])
@pytest.mark.parametrize("name", BEYOND)
def test_numbers_beyond_all_are_refused(small: Server, name: str, headers: dict[str, str]) -> None:
    answer = small.ask("POST", "/v2/models/FP64/infer", BEYOND[name], headers)
    assert answer.status == 400
    assert answer.json["error"].startswith("the request is not JSON: ")


def test_a_request_whose_line_would_be_too_long_is_refused(tmp_path: Path) -> None:
    models = onnx_models.write(tmp_path / "models", {"m.onnx": onnx_models.identity("FP32", ("n",))})
    settings = Settings(model_path=str(models), batch_input=f"{tmp_path}/in", batch_output=f"{tmp_path}/out")
    service = Service.from_settings(settings)
    tensor = {"name": "x", "shape": [4 << 20], "datatype": "FP32", "parameters": {"binary_data_size": 16 << 20}}
    text = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(RequestTooLarge, match="send fewer rows at a time"):
        Deferred(settings).submit(service.repository.get("m"), text + bytes(16 << 20), b"%d" % len(text))
    assert not (tmp_path / "in").exists()
    service.close()


class Host:
    """Keeps one request for `model`, which a worker then tries."""

    def __init__(self, folder: Path, model: bytes) -> None:
        self.models = onnx_models.write(folder / "models", {"m.onnx": model})
        self.settings = Settings(
            model_path=str(self.models), batch_input=f"{folder}/in", batch_output=f"{folder}/out", intra_op_threads=1
        )
        self.deferred = Deferred(self.settings)
        service = Service.from_settings(self.settings)
        self.found = self.deferred.submit(service.repository.get("m"), vector("FP32", "1,2,3"), None)
        service.close()
        self.job = self.deferred.job("m", self.found)

    def worker(self) -> Worker:
        """One that has nothing loaded yet."""
        return Worker(Service.from_settings(self.settings))

    @property
    def answer(self) -> tuple[bool, Any] | None:
        answer = self.deferred.response("m", self.found)
        return None if answer is None else (answer.failed, json.loads(answer.content))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, onnx_models.identity("FP32", ("n",)))


def test_what_may_go_well_another_time_is_no_answer_until_the_last(host: Host) -> None:
    good = (host.models / "m.onnx").read_bytes()
    (host.models / "m.onnx").write_bytes(b"broken")
    with pytest.raises(ModelUnavailable):
        host.worker().run(host.job, time.monotonic() + 60)
    assert host.answer is None
    with pytest.raises(ModelUnavailable):
        host.worker().run(host.job, time.monotonic() + 60, last=True)
    assert host.answer is not None
    failed, content = host.answer
    assert (failed, list(content), "'m' can't be loaded" in content["error"]) == (True, ["error"], True)
    # Somebody sends the message again from the queue of dead letters.
    (host.models / "m.onnx").write_bytes(good)
    assert host.worker().run(host.job).state == "finished"
    assert host.answer is not None
    assert host.answer[1]["outputs"][0]["data"] == [1, 2, 3]


def test_what_is_in_vain_is_an_answer_at_once(host: Host) -> None:
    (host.models / "m.onnx").unlink()
    with pytest.raises(ModelNotFound):
        host.worker().run(host.job, time.monotonic() + 60)
    assert host.answer is not None
    assert host.answer[0]


@pytest.mark.parametrize("broken", [True, False], ids=["a model that can't be loaded", "an error of ours"])
def test_a_server_that_answers_itself_has_no_other_time(
    host: Host, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    if broken:
        (host.models / "m.onnx").write_bytes(b"broken")
    else:
        monkeypatch.setattr(runner, "run", lambda *_, **__: dict[str, None]()["?"])
    service = Service.from_settings(host.settings)
    management._work(host.deferred, host.job, service)
    service.close()
    assert host.answer is not None
    failed, content = host.answer
    assert failed
    assert ("'m' can't be loaded" if broken else "internal error") in content["error"]


def test_what_nobody_expected_is_an_answer_the_last_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "run", lambda *_, **__: dict[str, None]()["?"])
    with pytest.raises(KeyError):
        host.worker().run(host.job)
    assert host.answer is None
    with pytest.raises(KeyError):
        host.worker().run(host.job, last=True)
    assert host.answer == (True, {"error": "internal error"})


def test_a_last_try_that_is_killed_is_an_answer_when_its_time_is_over(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        assert host.answer is None  # it may have one yet
        raise Killed

    monkeypatch.setattr(runner, "run", die)
    with pytest.raises(Killed):
        host.worker().run(host.job, time.monotonic() + 5, last=True)
    assert host.answer is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    assert host.answer == (True, {"error": "every try to answer the request was ended"})
    monkeypatch.undo()
    assert host.worker().run(host.job, time.monotonic() + 60).state == "finished"
    assert host.answer is not None
    assert not host.answer[0]


def test_a_failure_replaces_no_answer(host: Host) -> None:
    assert host.worker().run(host.job).state == "finished"
    host.worker().give_up(host.job, InferenceTimeout("late"))
    assert host.answer is not None
    assert not host.answer[0]


def test_jobs_of_files_leave_no_answers(host: Host, tmp_path: Path) -> None:
    (tmp_path / "in/m").mkdir(parents=True)
    (tmp_path / "in/m/a.jsonl").write_text('{"x": 1}\n')
    (host.models / "m.onnx").write_bytes(b"broken")
    job = host.worker().messages.of_file(f"{tmp_path}/in/m/a.jsonl")
    assert job
    with pytest.raises(ModelUnavailable):
        host.worker().run(job, time.monotonic() + 60, last=True)
    assert not (tmp_path / "out").exists()


def test_a_request_that_fails_later_says_why(tmp_path: Path, repository: Callable[..., str]) -> None:
    path = repository({"failing.onnx": onnx_models.failing()})
    with serving(Path(path), BATCH_INPUT=f"{tmp_path}/in", BATCH_OUTPUT=f"{tmp_path}/out") as server:
        inputs = server.ask("GET", "/v2/models/failing").json["inputs"]
        tensor = {**inputs[0], "shape": [1] * len(inputs[0]["shape"]), "data": [1]}
        accepted = server.ask("POST", "/v2/models/failing/infer", json.dumps({"inputs": [tensor]}).encode(), ASYNC)
        answer = fetched(server, accepted.headers["location"])
    assert answer.status == 500
    assert "'failing'" in answer.json["error"]
