"""Messages through a worker: files to results, requests to answers, and what may be tried again."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from inferry.errors import (
    DataRefused,
    InferenceFailed,
    InferenceTimeout,
    InferryError,
    InvalidFile,
    InvalidRequest,
    JobFailed,
    ModelNotFound,
    ModelUnavailable,
    QueueFull,
    StoreError,
    TooManyErrors,
)
from inferry.jobs.runner import Job
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.messages import Prediction
from inferry.worker.worker import Worker, is_final

MODELS = {
    "m.onnx": onnx_models.scaled(2, 3),
    "slow.onnx": onnx_models.slow(),
    "failing.onnx": onnx_models.failing(),
    "broken.onnx": b"broken",
}


@pytest.fixture
def worker(tmp_path: Path, repository: Callable[..., str]) -> Iterator[Worker]:
    """Over the folders in/ and out/ of the test."""
    settings = Settings(
        model_path=repository(MODELS),
        batch_input=f"{tmp_path}/in",
        batch_output=f"{tmp_path}/out",
        api_keys=("0" * 64,),
        intra_op_threads=1,
    )
    service = Service.from_settings(settings)
    yield Worker(service)
    service.close()


def lines(rows: int) -> str:
    return "".join(f'{{"x": [{row}, 1, 2]}}\n' for row in range(rows))


def test_a_file(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "in/m/ü").mkdir(parents=True)
    (tmp_path / "in/m/ü/a.jsonl").write_text(lines(2))
    job = worker.messages.of_file(f"{tmp_path}/in/m/ü/a.jsonl")
    assert job
    report = worker.run(job)
    assert (report.state, report.rows, report.output) == ("finished", 2, f"{tmp_path}/out/m/ü/a.jsonl")
    assert (tmp_path / "out/m/ü/a.jsonl").read_text() == '{"y":[0.0,2.0,4.0]}\n{"y":[2.0,2.0,4.0]}\n'
    assert worker.run(job) == report


def test_a_message_names_columns_to_keep(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "in/m").mkdir(parents=True)
    (tmp_path / "in/m/a.jsonl").write_text('{"x": [0, 1, 2], "y": "no"}\n')
    for keep, said in ((["y"], "--keep y=truth"), (["y=truth"], "")):
        body = json.dumps({"input": f"{tmp_path}/in/m/a.jsonl", "keep": keep}).encode()
        job = worker.messages.read(body, "an-id")
        assert isinstance(job, Job)
        with pytest.raises(InvalidRequest, match=said) if said else nullcontext():
            worker.run(job)
    assert (tmp_path / "out/m/a.jsonl").read_text() == '{"truth":"no","y":[0.0,2.0,4.0]}\n'


ARRIVED: dict[str, tuple[bytes, bool]] = {
    "m/a.jsonl": (b'{"x": [1, 2, 3]}\n', True),
    "m/a.jsonl.errors.jsonl": (b'{"row":2,"column":null,"reason":"no","data":"?"}\n', False),
    "m/a.jsonl.report.json": (b'{\n  "state": "finished",\n  "input": "a.jsonl"}', False),
    "m/monday.run.json": (b'{"rows":2,"errors":0,"seconds":0.1}', False),
    "m/mine.errors.jsonl": (b'{"x": [1, 2, 3]}\n', True),
    "m/_SUCCESS": (b"", False),
    "m/_committed_12": (b"", False),
    "m/.part.csv.crc": (b"", False),
    "m/year=1_$folder$": (b"", False),
    "m/": (b"", False),
}


@pytest.mark.parametrize("name", ARRIVED)
def test_what_arrives_and_is_no_input_makes_no_job(worker: Worker, tmp_path: Path, name: str) -> None:
    """Another run's errors and reports, and marks of other tools; whatever else has such a name is refused."""
    content, is_input = ARRIVED[name]
    (tmp_path / "in/m").mkdir(parents=True)
    if not name.endswith("/"):
        (tmp_path / "in" / name).write_bytes(content)
    job = worker.arrival(f"{tmp_path}/in/{name}")
    assert (job is not None) == is_input
    if job and "errors" in name:
        with pytest.raises(InvalidRequest, match=r"names that end in \.errors\.jsonl are those of files"):
            worker.run(job)


def test_files_of_a_table_that_arrive_are_refused(worker: Worker, tmp_path: Path) -> None:
    """Its log, and a file of rows."""
    for name in ("t/_delta_log/00000000000000000000.json", "t/day=1/a.parquet"):
        (tmp_path / "in/m" / name).parent.mkdir(parents=True)
        (tmp_path / "in/m" / name).write_bytes(b"{}")
        job = worker.arrival(f"{tmp_path}/in/m/{name}")
        assert job
        with pytest.raises(InvalidRequest, match=f"{tmp_path}/in/m/t/ is a Delta table") as refused:
            worker.run(job)
        assert is_final(refused.value)


def test_a_job_whose_time_is_over_goes_on(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "in/m").mkdir(parents=True)
    (tmp_path / "in/m/a.jsonl").write_text(lines(1000))
    job = worker.messages.of_file(f"{tmp_path}/in/m/a.jsonl")
    assert job
    seen = [worker.run(job, until=time.monotonic())]
    while not seen[-1].finished:
        seen.append(worker.run(job, until=time.monotonic()))
    rows = [report.rows for report in seen]
    # Each run does a block and no row of it again; the last one has nothing left but to publish them.
    assert (rows[:-1], rows[-1]) == (sorted(set(rows)), 1000)
    assert len(rows) > 2


def request(data: list[float], **members: Any) -> bytes:
    inputs = [{"name": "x", "shape": [1, len(data)], "datatype": "FP32", "data": data}]
    return json.dumps({"model_name": "m", "inputs": inputs, **members}).encode()


def answer(worker: Worker, body: bytes, **known: Any) -> Any:
    prediction = worker.messages.read(body, "an-id")
    assert isinstance(prediction, Prediction)
    url = asyncio.run(worker.respond(prediction, **known))
    return url, json.loads(Path(url).read_text())


def test_a_request(worker: Worker, tmp_path: Path) -> None:
    answered = answer(worker, request([1, 2, 3], id="mine"))
    assert answered == (
        f"{tmp_path}/out/answers/mine.json",
        {
            "model_name": "m",
            "model_version": "1",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 4.0, 6.0]}],
            "id": "mine",
        },
    )
    again = request([0, 0, 1], id="mine")
    assert answer(worker, again)[1]["outputs"][0]["data"] == [0.0, 0.0, 2.0]


ERRORS: dict[str, tuple[bytes, int, str]] = {
    "shape": (request([1, 2]), 400, "shape"),
    "model": (request([1], model_name="absent"), 404, "absent"),
    "version": (request([1], model_version="7"), 404, "7"),
    "no model": (request([1], model_name=""), 400, "name a model"),
    "no route": (request([1], model_name="a/b"), 404, "a/b"),
    "binary": (request([1, 2, 3], parameters={"binary_data_output": True}), 501, "binary"),
    "run": (
        json.dumps(
            {"model_name": "failing", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
        ).encode(),
        500,
        "(request r-1)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_an_answer(worker: Worker, tmp_path: Path, name: str) -> None:
    body, status, words = ERRORS[name]
    url, said = answer(worker, body, request_id="r-1")
    assert (url, said) == (f"{tmp_path}/out/answers/an-id.json", {"error": said["error"], "status": status})
    assert words in said["error"]


def test_what_may_go_well_another_time_is_no_answer(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="broken"):
        answer(worker, request([1], model_name="broken"))
    turns = {"inputs": [{"name": "turns", "datatype": "INT64", "shape": [1], "data": [10**9]}]}
    with pytest.raises(InferenceTimeout, match="the platform would have ended the request"):
        answer(worker, json.dumps({"model_name": "slow", **turns}).encode(), deadline=time.monotonic() + 0.5)
    assert not (tmp_path / "out").exists()


def test_the_last_time_an_error_is_an_answer(worker: Worker, tmp_path: Path) -> None:
    body = request([1], model_name="broken")
    with pytest.raises(ModelUnavailable) as caught:
        answer(worker, body, last=True)
    said = json.loads((tmp_path / "out/answers/an-id.json").read_bytes())
    assert said == {"error": str(caught.value), "status": 503}
    turns = {"inputs": [{"name": "turns", "datatype": "INT64", "shape": [1], "data": [10**9]}]}
    late = json.dumps({"model_name": "slow", "id": "late", **turns}).encode()
    with pytest.raises(InferenceTimeout):
        answer(worker, late, deadline=time.monotonic() - 1, last=True)
    assert json.loads((tmp_path / "out/answers/late.json").read_bytes())["status"] == 504


def test_infinity_in_a_message(worker: Worker) -> None:
    body = request([1, 2, 3]).replace(b"[1, 2, 3]", b"[NaN, Infinity, 3]")
    assert answer(worker, body)[1]["outputs"][0]["data"] == [None, None, 6.0]
    with pytest.raises(InvalidRequest, match="this is no JSON"):
        worker.messages.read(request([1, 2, 3], id="NaN").replace(b"[1, 2, 3]", b"[-1e400, 2, 3]"), "an-id")


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (InvalidFile, True),
        (TooManyErrors, True),
        (DataRefused, True),
        (ModelNotFound, True),
        (InferenceFailed, True),
        (StoreError, False),
        (ModelUnavailable, False),
        (QueueFull, False),
        (InferenceTimeout, False),
        (ValueError, False),
        (JobFailed, False),
        (InferryError, True),
    ],
)
def test_what_is_final(error: type[Exception], final: bool) -> None:
    assert is_final(error("")) is final
