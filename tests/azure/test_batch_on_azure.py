"""`inferry batch --on azure` end to end: this command line, Azurite, the stand-in's pollers, Microsoft's runtime."""

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import services
from functionhosts import ROOT, running, until
from inferry.cli.main import main
from inferry.jobs.runs import clouds
from inferry.jobs.runs.storage_queue import StorageQueue
from rowfiles import FILES, SECONDS, SMALL, drained, results, straight
from servers import EXAMPLES, Server, killed
from standin.storage import Storage
from test_batch import environment

from azure_app import names

if not services.AZURITE.exists():
    pytest.skip(services.AZURITE_MISSING, allow_module_level=True)

SOURCE, RESULTS = "archive", "results"


@pytest.fixture(scope="module")
def azurite() -> Iterator[services.Azurite]:
    with services.azurite() as azurite:
        yield azurite


@pytest.fixture(scope="module")
def storage(azurite: services.Azurite) -> Storage:
    return made(azurite)


def made(azurite: services.Azurite) -> Storage:
    """With all containers and queues."""
    found = Storage(azurite.account, azurite.key, azurite.blob_endpoint, azurite.queue_endpoint)
    for queue in (names.JOBS_QUEUE, names.POISON_QUEUE):
        found.create_queue(queue)
    for container in (*names.CONTAINERS, SOURCE, RESULTS):
        found.create_container(container)
    return found


@pytest.fixture(scope="module")
def app(azurite: services.Azurite, storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With an example model, and one that can't be loaded now."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(EXAMPLES / "digits", models / "digits")
    (models / "broken.onnx").write_bytes(b"no model")
    own = {"MODEL_PATH": str(models), "DATA_PREFIXES": f"az://{SOURCE},az://{RESULTS}"}
    with running(ROOT, **environment(azurite, storage, **own)) as server:
        yield server


def aim(azurite: services.Azurite, patch: pytest.MonkeyPatch) -> None:
    """The command line's environment."""
    for name, value in azurite.environment.items():
        patch.setenv(name, value)
    patch.setenv("BATCH_RUNNER", f"{azurite.queue_endpoint}/{names.JOBS_QUEUE}")


@pytest.fixture(autouse=True)
def here(azurite: services.Azurite, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test leaves an empty queue behind."""
    aim(azurite, monkeypatch)
    monkeypatch.setattr(clouds, "FIRST", 0.1)
    monkeypatch.setattr(clouds, "LAST", 0.5)
    for message in storage.receive(names.POISON_QUEUE, 32, 30):
        storage.delete(names.POISON_QUEUE, message)
    yield
    assert storage.peek(names.JOBS_QUEUE) == []


def upload(storage: Storage, folder: str, files: Iterable[str]) -> None:
    for name in files:
        storage.upload(SOURCE, f"{folder}/{name}", FILES[name])


def batch(folder: str, *more: str) -> int:
    return main(["batch", f"az://{SOURCE}/{folder}/", f"az://{RESULTS}/{folder}/", "--on", "azure", "--json", *more])


def test_a_run_whose_messages_all_come_twice(
    app: Server, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of all forms, one in slices, one that is poison: every row has one result or one error, as here."""
    put, given = StorageQueue.put, []

    def twice(queue: StorageQueue, bodies: Iterable[bytes]) -> None:
        given.extend(found := list(bodies))
        put(queue, found * 2)

    monkeypatch.setattr(StorageQueue, "put", twice)
    upload(storage, "all", FILES)
    assert batch("all", "--model", "digits", "--slice", "1") == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    told, expected = straight(tmp_path, capsys)
    drained(storage)
    stored = results(storage, RESULTS, "all")
    [run] = [name for name in stored if name.endswith(".run.json")]
    assert json.loads(stored.pop(run)) == report
    assert stored == expected
    assert [report[key] for key in ("rows", "errors")] == [told[key] for key in ("rows", "errors")]
    assert [item["input"] for item in report["files"]] == [
        f"az://{SOURCE}/all/{Path(item['input']).relative_to(tmp_path / 'in')}" for item in told["files"]
    ]
    [poison] = report["failed"]
    assert poison["input"] == f"az://{SOURCE}/all/poison.parquet"
    messages = [json.loads(body) for body in given]
    assert sum(message.get("run", {}).get("slice", None) is not None for message in messages if "job" in message) > 2
    note = json.loads(storage.peek(names.POISON_QUEUE)[0])
    assert (note["reason"], json.loads(note["body"])["job"]["input"]) == (poison["reason"], poison["input"])
    text = "1 of 5 files have no results, more than 5%"
    assert printed.err.splitlines()[-1] == f"run {run.removesuffix('.run.json')}: failed: {text}"


@pytest.mark.usefixtures("app")
def test_somebody_else_goes_on_with_a_run(
    storage: Storage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who began it went away before any of its files was given out."""
    upload(storage, "left", ["small.jsonl"])

    def interrupt(seconds: float) -> None:
        if seconds:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupt)
        assert batch("left", "--model", "digits") == 130
    again = capsys.readouterr().err.splitlines()[-1].removeprefix("to look at the run again: inferry ")
    assert main([*again.split(), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["errors"], report["failed"]) == (SMALL - SMALL // 7 - 1, SMALL // 7 + 1, [])


def test_one_file(app: Server, storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    upload(storage, "one", FILES)
    source, target = f"az://{SOURCE}/one/small.jsonl", f"az://{RESULTS}/one"
    assert main(["batch", source, target, "--on", "azure", "--model", "digits", "--to", "csv"]) == 0
    assert "small.jsonl.csv" in "".join(name for name in storage.blobs(RESULTS) if name.startswith("one/"))
    assert f": {SMALL - SMALL // 7 - 1} rows, " in capsys.readouterr().err


def test_what_failed_as_often_as_it_may_has_its_reason(
    app: Server, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(storage, "broken", ["small.jsonl"])
    failed = app.log.count("Executed 'Functions.jobs' (Failed)")
    assert batch("broken", "--model", "broken") == 1
    reason = "model 'broken' can't be loaded: broken.onnx is not an ONNX file: wire type 6 at byte 1"
    name = f"az://{SOURCE}/broken/small.jsonl"
    report = json.loads(capsys.readouterr().out)
    assert (report["files"], report["failed"]) == ([], [{"input": name, "reason": reason}])
    drained(storage)
    [note] = [json.loads(body) for body in storage.peek(names.POISON_QUEUE)]
    assert (note["error"], note["reason"], json.loads(note["body"])["job"]["input"]) == (
        "ModelUnavailable",
        reason,
        name,
    )
    # The fifth is the last, and says so.
    assert app.log.count("Executed 'Functions.jobs' (Failed)") == failed + 4


def test_an_instance_that_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it worked on is shown to another after a while, which goes on: nothing is lost, nothing is there twice."""
    own = {"DATA_PREFIXES": f"az://{SOURCE},az://{RESULTS}", "STANDIN_LEASE": "5"}
    with ThreadPoolExecutor(1) as thread, services.azurite() as azurite:
        storage = made(azurite)
        aim(azurite, monkeypatch)
        upload(storage, "killed", FILES)
        with running(ROOT, **environment(azurite, storage, **own)) as first:
            run = thread.submit(batch, "killed", "--model", "digits", "--slice", "1")
            until(lambda: [name for name in storage.blobs(RESULTS) if "/outcomes/" in name], first)
            killed(first.process)
        with running(ROOT, **environment(azurite, storage, **own)):
            assert run.result(SECONDS) == 1
            drained(storage)
        report = json.loads(capsys.readouterr().out)
        told, expected = straight(tmp_path, capsys)
        stored = results(storage, RESULTS, "killed")
        [name] = [name for name in stored if name.endswith(".run.json")]
        assert json.loads(stored.pop(name)) == report
        assert stored == expected
        assert [report[key] for key in ("rows", "errors")] == [told[key] for key in ("rows", "errors")]


NOT_PLANNED = {
    "nothing there": (
        f"az://{SOURCE}/absent/",
        f"az://{RESULTS}/absent/",
        f"no files to predict in az://{SOURCE}/absent/",
    ),
    "elsewhere": (
        f"az://{SOURCE}/x/",
        f"az://{names.MODELS}/x/",
        f"the output 'az://{names.MODELS}/x/' is not below BATCH_OUTPUT",
    ),
}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("name", NOT_PLANNED)
def test_a_run_that_can_not_be_planned(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is the one in the poison queue."""
    source, results, reason = NOT_PLANNED[name]
    assert main(["batch", source, results, "--on", "azure", "--model", "digits"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "failed: it couldn't be planned: " in said
    assert reason in said
