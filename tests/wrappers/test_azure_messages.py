"""azure_app's function of the queue in this process: what it does, sends again, puts aside and lets fail."""

import asyncio
import base64
import json
import math
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import onnx_models
import pytest
from azure.functions.queue import QueueMessage
from inferry.errors import InferenceTimeout, ModelUnavailable
from inferry.observability.stats import ModelStats
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.steps import RunSteps
from inferry.worker.worker import Worker

from azure_app.environment import Limits
from azure_app.messages import LARGEST, QueueHandler

ID = "9a72e5d1-8c0f-4d0c-8f3e-4d7f3f6f2f11"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROW = '{"x": [1, 2]}\n'
MANY = 500_000
TRIES = 5
ACCOUNT = "inferrydevfiles"
# What is sent again, as the queue has it, and the note that is put aside.
Done = tuple[str | None, bytes | None]


class Out(func.Out[str]):
    value: str | None = None

    def set(self, val: str) -> None:
        self.value = val

    def get(self) -> str | None:  # type: ignore[override]
        return self.value


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("input/m", "models"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def invocation(files: Path) -> Iterator[Callable[..., Coroutine[Any, Any, Done]]]:
    """`await invocation(body, limit, tries)` is what the invocation puts out: again, and aside."""
    models = {"m.onnx": onnx_models.identity("FP32", ("n", 2)), "broken.onnx": b"broken"}
    settings = Settings(
        model_path=str(onnx_models.write(files / "models", models)),
        batch_input=str(files / "input"),
        batch_output=str(files / "output"),
    )
    service = Service.from_settings(settings)

    async def invocation(body: Any, limit: float, tries: int = 1) -> Done:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = QueueMessage(id=ID, body=content, dequeue_count=tries)
        span = SimpleNamespace(trace_parent=f"00-{TRACE}-00f067aa0ba902b7-01")
        context: Any = SimpleNamespace(invocation_id="i", thread_local_storage=threading.local(), trace_context=span)
        again, dead_letters = Out(), Out()
        worker = Worker(service)
        await QueueHandler(worker, RunSteps(service, worker), Limits(limit, TRIES), ACCOUNT)(
            message, context, again, dead_letters
        )
        return again.value, None if dead_letters.value is None else base64.b64decode(dead_letters.value, validate=True)

    yield invocation
    service.close()


@pytest.fixture
def handle(invocation: Callable[..., Coroutine[Any, Any, Done]]) -> Callable[..., Done]:
    return lambda body, limit=600.0, tries=1: asyncio.run(invocation(body, limit, tries))


def job(files: Path, name: str, content: str) -> dict[str, str]:
    path = files / "input" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return {"input": str(path)}


def test_a_job_goes_on_in_other_invocations(handle: Callable[..., Done], files: Path) -> None:
    told = job(files, "m/long.jsonl", ROW * MANY)
    parts, turns = files / "output/m/.inferry", [0]
    while (done := handle(told, limit=0.02)) != (None, None):
        assert done == (json.dumps(told), None)
        turns.append(sum(path.is_file() for path in parts.rglob("*")))
    assert len(turns) > 2
    assert sorted(turns) == turns
    assert (files / "output/m/long.jsonl").read_text().count("\n") == MANY
    assert handle(told, limit=0.02) == (None, None)


def test_a_job_in_base64_goes_on_in_base64(handle: Callable[..., Done], files: Path) -> None:
    told = base64.b64encode(json.dumps(job(files, "m/long.jsonl", ROW * MANY)).encode())
    assert handle(told, limit=0.02) == (told.decode(), None)
    assert handle(told) == (None, None)
    assert (files / "output/m/long.jsonl").read_text().count("\n") == MANY


@pytest.mark.parametrize("form", ["text", "blanks around it", "base64", "base64 in lines"])
def test_messages_are_text_or_base64(handle: Callable[..., Done], files: Path, form: str) -> None:
    plain = json.dumps(job(files, "m/\N{SNOWMAN}.jsonl", ROW), ensure_ascii=False).encode()
    forms = {"text": plain, "blanks around it": b" \n" + plain, "base64": base64.b64encode(plain)}
    assert handle(forms.get(form) or base64.encodebytes(plain)) == (None, None)
    assert (files / "output/m/\N{SNOWMAN}.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize(("tries", "largest"), [(1, 64), (2, 8), (3, 1), (4, 1)])
def test_blocks_get_smaller_when_a_message_comes_again(
    handle: Callable[..., Done], files: Path, monkeypatch: pytest.MonkeyPatch, tries: int, largest: int
) -> None:
    """A job that was ended in the middle may have been ended by the length of its blocks."""
    sizes = runs(monkeypatch)
    assert handle(job(files, "m/a.jsonl", ROW * 100), tries=tries) == (None, None)
    assert max(sizes) == largest
    assert sum(sizes) == 100


def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each run of a job from now on."""
    found: list[int] = []
    executed = ModelStats.executed

    def counted(self: ModelStats, rows: int, ns: int) -> None:
        found.append(rows)
        executed(self, rows, ns)

    monkeypatch.setattr(ModelStats, "executed", counted)
    return found


def test_the_loop_is_free_while_a_job_runs(invocation: Callable[..., Coroutine[Any, Any, Done]], files: Path) -> None:
    told = job(files, "m/long.jsonl", ROW * MANY)

    async def turns() -> int:
        running, count = asyncio.create_task(invocation(told, 600.0)), 0
        while not running.done():
            await asyncio.sleep(0)
            count += 1
        assert running.result() == (None, None)
        return count

    assert asyncio.run(turns()) > 10


def test_the_answer_to_a_request(handle: Callable[..., Done], files: Path) -> None:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    assert handle({"model_name": "m", "inputs": [given]}) == (None, None)
    assert json.loads((files / f"output/answers/{ID}.json").read_text())["outputs"][0]["data"] == [1, 2]


def test_what_may_go_well_another_time_fails(handle: Callable[..., Done], files: Path) -> None:
    with pytest.raises(ModelUnavailable):
        handle(job(files, "broken/a.jsonl", ROW))
    with pytest.raises(ModelUnavailable):
        handle({"model_name": "broken", "inputs": []})


def test_the_last_delivery_leaves_an_answer(handle: Callable[..., Done], files: Path) -> None:
    """To a request that was put off, and to one in a message; the message fails all the same."""
    path = f"requests/broken/{'0' * 32}.jsonl"
    (files / "input/requests/broken").mkdir(parents=True)
    told = job(files, path, '{"inputs": []}\n')
    for tries in (1, TRIES - 1, TRIES):
        assert not (files / "output").exists()
        for body in (told, {"model_name": "broken", "inputs": []}):
            with pytest.raises(ModelUnavailable):
                handle(body, tries=tries)
    report = json.loads((files / f"output/{path}.report.json").read_bytes())
    said = json.loads((files / f"output/answers/{ID}.json").read_bytes())
    assert said["status"] == 503
    assert (report["state"], report["reason"]) == ("failed", said["error"])
    assert "'broken' can't be loaded" in said["error"]


def test_a_request_without_time_fails(handle: Callable[..., Done]) -> None:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    with pytest.raises(InferenceTimeout):
        handle({"model_name": "m", "inputs": [given]}, limit=0.0)


def test_poison(handle: Callable[..., Done], files: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = job(files, "m/ü.jsonl", "") | {"model": "absent"}
    again, aside = handle(told)
    assert again is None
    assert json.loads(aside or b"") == {
        "error": "ModelNotFound",
        "reason": "unknown model 'absent'; the repository has: broken, m",
        "message": ID,
        "body": json.dumps(told),
    }
    said: dict[str, Any] = vars(caplog.records[-1])
    assert said["message"].startswith(f"message {ID} moved to the dead letters: unknown model 'absent'")
    assert (said["levelname"], said["request_id"], said["trace_id"]) == ("ERROR", "i", TRACE)


@pytest.mark.parametrize("body", [b"\xff", b"q" * (LARGEST - 100)])
def test_poison_that_fits_into_no_message_fails(handle: Callable[..., Done], body: bytes) -> None:
    with pytest.raises(Exception, match="a message must be a JSON object"):
        handle(body)


TIMES = {"": 1800.0, "01:00:05": 3605.0, "-1": math.inf}
TRIED = "AzureFunctionsJobHost__extensions__queues__maxDequeueCount"


@pytest.mark.parametrize("given", TIMES)
def test_the_limits_of_the_host(given: str) -> None:
    env = {"AzureFunctionsJobHost__functionTimeout": given}
    root = Path(__file__).parents[2]
    assert Limits.of(env, root) == (TIMES[given], 5)
    assert Limits.of({**env, TRIED: "9"}, root) == (TIMES[given], 9)


# Runs of many files: the rest of their tests needs no queue, and is in tests/contract.


def planned(handle: Callable[..., Done], files: Path, slice_bytes: int, names: Sequence[str]) -> list[Any]:
    """The jobs of a run over what is below input/, those of slices first."""
    told = {"input": f"{files}/input/", "output": f"{files}/output/", "slice_bytes": slice_bytes}
    assert handle({"plan": told, "run": "r"}) == (None, None)
    folder = files / "output/.inferry/runs/r"
    return [json.loads(line) for kind in names for line in (folder / f"{kind}.jsonl").read_bytes().splitlines()]


def outcomes(files: Path) -> dict[str, str]:
    """What is known of the run's jobs, and the reasons."""
    found = (files / "output/.inferry/runs/r/outcomes").iterdir()
    return {path.name.rpartition("-")[0]: path.read_text() for path in found}


def test_a_run(handle: Callable[..., Done], files: Path) -> None:
    job(files, "m/long.jsonl", ROW * 3000)
    job(files, "m/short.jsonl", ROW)
    jobs = planned(handle, files, 10_000, ("slices", "files"))
    assert len(jobs) > 5
    assert [handle(each) for each in jobs] == [(None, None)] * len(jobs)
    assert handle({"merge": jobs[0]["run"]}) == (None, None)
    report = json.loads((files / "output/r.run.json").read_text())
    assert (report["rows"], report["errors"], report["failed"]) == (3001, 0, [])


def test_a_job_of_a_run_goes_on_in_other_invocations(handle: Callable[..., Done], files: Path) -> None:
    job(files, "m/long.jsonl", ROW * MANY)
    [told] = planned(handle, files, 1 << 30, ["files"])
    turns = 0
    while (done := handle(told, limit=0.02)) != (None, None):
        assert done == (json.dumps(told), None)
        turns += 1
    assert turns > 1
    assert outcomes(files) == {f"0--finished-{MANY}-0": "."}


def test_a_file_of_a_run_that_may_go_well_another_time(handle: Callable[..., Done], files: Path) -> None:
    """It fails as long as it will be tried again, and is put aside with the reason when it won't."""
    job(files, "broken/a.jsonl", ROW)
    [told] = planned(handle, files, 1 << 30, ["files"])
    with pytest.raises(ModelUnavailable) as failed:
        handle(told, tries=TRIES - 1)
    assert outcomes(files) == {"0--unfinished-0-0": str(failed.value)}
    again, aside = handle(told, tries=TRIES)
    assert again is None
    assert json.loads(aside or b"") == {
        "error": "ModelUnavailable",
        "reason": str(failed.value),
        "message": ID,
        "body": json.dumps(told),
    }
    assert outcomes(files) == {f"0--{state}-0-0": str(failed.value) for state in ("unfinished", "failed")}


def test_a_slice_that_fails_is_no_poison(handle: Callable[..., Done], files: Path) -> None:
    job(files, "m/long.jsonl", ROW * 3000)
    told = planned(handle, files, 10_000, ["slices"])[0]
    (files / "input/m/long.jsonl").unlink()
    assert handle(told) == (None, None)
    assert outcomes(files) == {"0-0-failed-0-0": f"there is no file {files}/input/m/long.jsonl"}


def test_a_run_that_can_not_be_planned(handle: Callable[..., Done], files: Path) -> None:
    told = {"plan": {"input": f"{files}/input/", "output": f"{files}/output/"}, "run": "r"}
    again, aside = handle(told)
    note = json.loads(aside or b"")
    assert (again, note["error"], json.loads(note["body"])) == (None, "InvalidRequest", told)
    assert note["reason"].startswith(f"no files to predict in {files}/input/")
