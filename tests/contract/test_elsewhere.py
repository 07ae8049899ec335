"""`inferry batch --on`: what it starts, what it shows, and how it ends; Step Functions is a server of the test's."""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from inferry.cli.main import main
from inferry.jobs.runs import aws, clouds
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.steps import RunSteps
from inferry.worker.worker import Worker

MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:inferry-dev"
RUNNING = (200, {"status": "RUNNING"})
DONE = (200, {"status": "SUCCEEDED"})


@dataclass
class Machine:
    """Answers as told, one after the other, and the last again and again; `work` does what the run is."""

    answers: list[tuple[int, Any]] = field(default_factory=lambda: [RUNNING, DONE])
    asked: list[tuple[str, Any]] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    work: Callable[[str, Any], None] = lambda name, job: None
    url: str = ""

    def answer(self, action: str, document: Any) -> tuple[int, Any]:
        self.asked.append((action, document))
        if action == "StartExecution":
            self.work(document["name"], json.loads(document["input"]))
            return 200, {"executionArn": "arn", "startDate": 1}
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serving(machine: Machine) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            machine.signatures.append(self.headers["Authorization"])
            action = self.headers["X-Amz-Target"].removeprefix("AWSStepFunctions.")
            status, found = machine.answer(action, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        machine.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine()
    with serving(machine):
        told = {"AWS_ENDPOINT_URL": machine.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        for name, value in {**told, "BATCH_RUNNER": MACHINE}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(clouds, "FIRST", 0.01)
        monkeypatch.setattr(aws, "ATTEMPTS", 3)
        yield machine


@pytest.fixture
def fanout(tmp_path: Path, repository: Callable[..., str]) -> Iterator[RunSteps]:
    models = repository({"m.onnx": onnx_models.scaled(2, 3)})
    service = Service.from_settings(Settings(model_path=models, data_prefixes=(str(tmp_path),), intra_op_threads=1))
    yield RunSteps(service, Worker(service))
    service.close()


@pytest.fixture
def works(machine: Machine, fanout: RunSteps, tmp_path: Path) -> Machine:
    """A machine that does all of a run at once; in/ has a good file and an empty one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_bytes(b'{"x": [1, 2, 3]}\n{"x": 7}\n')
    (tmp_path / "in/b.csv").write_bytes(b"")

    def work(name: str, job: Any) -> None:
        plan = fanout.do({"plan": job, "run": name}, math.inf)
        for line in Path(plan["files"]["url"]).read_bytes().splitlines():
            fanout.do(json.loads(line), math.inf)
        fanout.do({"merge": plan["run"]}, math.inf)

    machine.work = work
    return machine


def batch(folder: Path, *more: str) -> int:
    return main(["batch", f"{folder}/in", f"{folder}/out", "--on", "aws", *more])


def test_a_run(works: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = batch(tmp_path, "--model", "m/1", "--keep", "id", "--max-errors", "50%", "--slice", "3", "--json")
    printed = capsys.readouterr()
    [start, *looks] = works.asked
    name = start[1]["name"]
    assert start[0] == "StartExecution"
    assert start[1]["stateMachineArn"] == MACHINE
    assert json.loads(start[1]["input"]) == {
        "input": f"{tmp_path}/in/",
        "output": f"{tmp_path}/out/",
        "model": "m",
        "version": "1",
        "keep": ["id"],
        "max_errors": 0.5,
        "slice_bytes": 3 << 20,
    }
    assert (
        looks == [("DescribeExecution", {"executionArn": f"{MACHINE.replace('stateMachine', 'execution')}:{name}"})] * 2
    )
    assert {signature.split(",")[0].split("/", 2)[2] for signature in works.signatures} == {
        "eu-west-1/states/aws4_request"
    }
    report = json.loads((tmp_path / f"out/{name}.run.json").read_bytes())
    assert json.loads(printed.out) == report
    assert (status, report["rows"], report["errors"]) == (1, 1, 1)
    lines = printed.err.splitlines()
    assert lines[0] == f"{tmp_path}/in/b.csv: failed: {tmp_path}/in/b.csv is empty"
    assert lines[1].startswith(f"run {name}: 1 row, 1 error, ")
    assert len(lines) == 2


def test_all_is_well(works: Machine, tmp_path: Path) -> None:
    (tmp_path / "in/b.csv").unlink()
    assert batch(tmp_path, "--model", "m") == 0


def test_looking_again(works: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started; the report is the same."""
    batch(tmp_path, "--model", "m", "--json")
    first = capsys.readouterr().out
    name = works.asked[0][1]["name"]
    assert batch(tmp_path, "--run", name, "--json") == 1
    assert capsys.readouterr().out == first
    assert [action for action, _ in works.asked].count("StartExecution") == 1


def test_interrupted(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    machine.answers = [RUNNING]
    assert batch(tmp_path) == 130
    name = machine.asked[0][1]["name"]
    again = f"inferry batch {tmp_path}/in {tmp_path}/out --on aws --run {name}"
    assert capsys.readouterr().err == f"to look at the run again: {again}\n"


FAILED = {"status": "FAILED", "error": "TooManyFailures", "cause": "2 of 2 files have no results"}
LAMBDA = {"status": "FAILED", "error": "DataRefused", "cause": json.dumps({"errorMessage": "not there", "trace": []})}
ENDS: dict[str, tuple[tuple[int, Any], str]] = {
    "too many": ((200, FAILED), "the run NAME failed: TooManyFailures: 2 of 2 files have no results"),
    "the function": ((200, LAMBDA), "the run NAME failed: DataRefused: not there"),
    "aborted": ((200, {"status": "ABORTED"}), "the run NAME failed: ABORTED"),
    "no report": (DONE, "the run NAME failed: it has no report"),
    "refused": (
        (400, {"__type": "com.amazonaws#AccessDeniedException", "Message": "you may not"}),
        "Step Functions refuses DescribeExecution: AccessDeniedException: you may not",
    ),
    "busy": (
        (400, {"__type": "ThrottlingException", "message": "slowly"}),
        "Step Functions did not answer DescribeExecution: ThrottlingException: slowly",
    ),
    "broken": ((500, {}), "Step Functions did not answer DescribeExecution: 500"),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_it_ends(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    answer, said = ENDS[name]
    machine.answers = [RUNNING, answer]
    assert batch(tmp_path) == 1
    run = machine.asked[0][1]["name"]
    assert capsys.readouterr().err.splitlines()[-1] == f"inferry: {said.replace('NAME', run)}"


def test_a_failure_with_a_report(works: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    works.answers = [(200, FAILED)]
    assert batch(tmp_path, "--model", "m", "--json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"] == 1
    name = works.asked[0][1]["name"]
    assert printed.err.splitlines()[-1] == f"run {name}: failed: TooManyFailures: 2 of 2 files have no results"


def test_an_answer_that_comes_late(works: Machine, tmp_path: Path) -> None:
    works.answers = [(503, {}), (400, {"__type": "ThrottlingException"}), DONE]
    (tmp_path / "in/b.csv").unlink()
    assert batch(tmp_path, "--model", "m") == 0


@pytest.mark.parametrize("runner", ["", "inferry-dev", f"{MACHINE}:1:2", MACHINE.replace("states", "sqs")])
def test_a_runner_that_is_none(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str], runner: str
) -> None:
    assert batch(tmp_path, "--runner", runner) == 1
    assert capsys.readouterr().err.startswith("inferry: BATCH_RUNNER or --runner must be the ARN of the stack's")
    assert machine.asked == []


@pytest.mark.parametrize(
    ("region", "partition", "expected"),
    [
        ("eu-west-1", "aws", "https://states.eu-west-1.amazonaws.com"),
        ("cn-north-1", "aws-cn", "https://states.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_endpoint(region: str, partition: str, expected: str) -> None:
    runner = f"arn:{partition}:states:{region}:123456789012:stateMachine:a"
    cloud = aws.StepFunctions(runner, {})
    assert cloud._client.meta.endpoint_url == expected


@pytest.mark.parametrize(("cloud", "module"), [("aws", "boto3"), ("azure", "azure.identity")])
def test_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cloud: str, module: str
) -> None:
    """Where the cloud's library isn't installed."""
    monkeypatch.setitem(sys.modules, module, None)
    for name in ("aws", "azure", "storage_queue"):
        monkeypatch.delitem(sys.modules, f"inferry.jobs.runs.{name}", raising=False)
    assert main(["batch", f"{tmp_path}/in", f"{tmp_path}/out", "--on", cloud]) == 1
    assert f"--on {cloud} needs the cloud's library: install the extra 'clouds'" in capsys.readouterr().err
