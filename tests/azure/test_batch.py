"""Files and messages end to end: Azurite, the stand-in's pollers, Microsoft's runtime, this app."""

import json
import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import services
from functionhosts import ROOT, running, until
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp import Receiver, attributes, failed, receiving
from rowfiles import FILES, drained, results, straight
from servers import EXAMPLES, Server
from standin.storage import Storage

from azure_app import names

if not services.AZURITE.exists():
    pytest.skip(services.AZURITE_MISSING, allow_module_level=True)

DIGIT = json.loads((EXAMPLES / "digits/config.json").read_text())["example"]["inputs"][0]
ROW = json.dumps({"pixels": DIGIT["data"]})
RESULT = '{"label":7,'


def environment(azurite: services.Azurite, storage: Storage, **env: str) -> dict[str, str]:
    return {
        **azurite.environment,
        "MODEL_PATH": str(EXAMPLES),
        "DEFAULT_MODEL": "digits",
        "INTRA_OP_THREADS": "1",
        "BATCH_INPUT": f"az://{names.INPUT}",
        "BATCH_OUTPUT": f"az://{names.OUTPUT}",
        "STORAGE__queueServiceUri": storage.queue_endpoint,
        "AzureWebJobsStorage": storage.connection,
        "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:00",
        "STANDIN_EVENTS": f"{names.INPUT}={names.JOBS_QUEUE}",
        **env,
    }


@pytest.fixture(scope="module")
def azurite() -> Iterator[services.Azurite]:
    with services.azurite() as azurite:
        yield azurite


@pytest.fixture(scope="module")
def storage(azurite: services.Azurite) -> Storage:
    found = Storage(azurite.account, azurite.key, azurite.blob_endpoint, azurite.queue_endpoint)
    for queue in (names.JOBS_QUEUE, names.POISON_QUEUE):
        found.create_queue(queue)
    for container in names.CONTAINERS:
        found.create_container(container)
    return found


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiving() as collector:
        yield collector


@pytest.fixture(scope="module")
def app(azurite: services.Azurite, storage: Storage, collector: Receiver) -> Iterator[Server]:
    traced = {"TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running(ROOT, **environment(azurite, storage, **traced)) as server:
        yield server


@pytest.fixture(autouse=True)
def emptied(storage: Storage) -> Iterator[None]:
    """Every test begins with nothing put aside, and leaves no message behind."""
    for message in storage.receive(names.POISON_QUEUE, 32, 30):
        storage.delete(names.POISON_QUEUE, message)
    yield
    assert storage.peek(names.JOBS_QUEUE) == []


def outputs(storage: Storage, start: str = "") -> list[str]:
    return sorted(name for name in storage.blobs(names.OUTPUT) if name.startswith(start))


def result(storage: Storage, server: Server, name: str) -> str:
    """The output of this name, as soon as it is there."""
    until(lambda: name in storage.blobs(names.OUTPUT), server)
    return storage.download(names.OUTPUT, name).decode()


def succeeded(server: Server, function: str) -> int:
    return server.log.count(f"Executed 'Functions.{function}' (Succeeded)")


def arrived(note: dict[str, Any]) -> str:
    """The file that a message which was put aside is about: a job, or Event Grid's event."""
    body = json.loads(note["body"])
    if "input" in body:
        return str(body["input"])
    container, name = re.fullmatch(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", body["subject"]).groups()  # type: ignore[union-attr]
    return f"az://{container}/{name}"


def lines(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


@pytest.mark.parametrize("path", ["digits/rows.jsonl", "digits/ü 1&2=3#+%20/日本.jsonl"])
def test_a_file_with_a_bad_row(app: Server, storage: Storage, path: str) -> None:
    storage.upload(names.INPUT, path, lines(ROW, '{"pixels": 7}', ROW))
    report = json.loads(result(storage, app, f"{path}.report.json"))
    assert (report["state"], report["rows"], report["errors"]) == ("finished", 2, 1)
    assert (report["input"], report["output"]) == (f"az://input/{path}", f"az://output/{path}")
    assert [row[: len(RESULT)] for row in result(storage, app, path).splitlines()] == [RESULT, RESULT]
    error = json.loads(result(storage, app, f"{path}.errors.jsonl"))
    assert (error["row"], error["column"], error["data"]) == (2, "pixels", {"pixels": 7})
    assert storage.peek(names.POISON_QUEUE) == []


def test_a_message_that_comes_twice_gives_one_result(app: Server, storage: Storage) -> None:
    job = json.dumps({"model": "digits", "input": "az://input/digits/twice.jsonl", "output": "az://output/mine.jsonl"})
    done = succeeded(app, "jobs")
    storage.upload(names.INPUT, "digits/twice.jsonl", lines(ROW))
    until(lambda: succeeded(app, "jobs") == done + 1, app)
    for turn in (2, 3):
        storage.put(names.JOBS_QUEUE, job.encode())
        until(lambda turn=turn: succeeded(app, "jobs") == done + turn, app)  # type: ignore[misc]
        stored = storage.blobs(names.OUTPUT)
        if turn == 2:
            first = stored
    assert stored == first
    assert outputs(storage, "mine") == ["mine.jsonl", "mine.jsonl.report.json"]
    assert outputs(storage, "digits/twice") == ["digits/twice.jsonl", "digits/twice.jsonl.report.json"]


def test_files_in_any_order_and_twice(
    app: Server, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With bad rows, a name that is no ASCII, and poison: every row has one result or one error, as in a run here."""
    done, order = succeeded(app, "jobs"), random.Random(7)
    files = [name for name in FILES if name != "notes.txt"]
    told = [json.dumps({"input": f"az://input/digits/all/{name}"}).encode() for name in files * 2]
    for name in order.sample(files, len(files)):
        storage.upload(names.INPUT, f"digits/all/{name}", FILES[name])
    for body in order.sample(told, len(told)):
        storage.put(names.JOBS_QUEUE, body)
    until(lambda: succeeded(app, "jobs") == done + 3 * len(files), app)
    drained(storage)
    assert results(storage, names.OUTPUT, "digits/all") == straight(tmp_path, capsys)[1]
    notes = [json.loads(body) for body in storage.peek(names.POISON_QUEUE)]
    assert [arrived(note) for note in notes] == ["az://input/digits/all/poison.parquet"] * 3


def test_the_mark_of_a_folder_is_no_file(app: Server, storage: Storage) -> None:
    done = succeeded(app, "jobs")
    storage.upload(names.INPUT, "digits/folder/", b"")
    until(lambda: succeeded(app, "jobs") == done + 1, app)
    assert storage.peek(names.JOBS_QUEUE) == storage.peek(names.POISON_QUEUE) == []
    assert outputs(storage, "digits/folder") == []


OWN = b'{"row":2,"column":null,"reason":"no","data":"?"}\n'
NO_INPUTS = {"_SUCCESS": b"", "_committed_12": b"", "a.jsonl.errors.jsonl": OWN}


@pytest.mark.parametrize("name", NO_INPUTS)
def test_what_arrives_and_is_no_input(app: Server, storage: Storage, name: str) -> None:
    """A mark of another tool, and errors that another run wrote."""
    done = succeeded(app, "jobs")
    storage.upload(names.INPUT, f"digits/others/{name}", NO_INPUTS[name])
    until(lambda: succeeded(app, "jobs") == done + 1, app)
    assert storage.peek(names.JOBS_QUEUE) == storage.peek(names.POISON_QUEUE) == []
    assert outputs(storage, "digits/others") == []


def test_a_users_file_of_a_kept_name_is_put_aside(app: Server, storage: Storage) -> None:
    storage.upload(names.INPUT, "digits/mine.errors.jsonl", lines(ROW))
    (message,) = until(lambda: storage.peek(names.POISON_QUEUE), app)
    note = json.loads(message)
    assert (note["error"], arrived(note)) == ("InvalidRequest", "az://input/digits/mine.errors.jsonl")
    assert "names that end in .errors.jsonl are those of files that inferry writes beside results" in note["reason"]


@pytest.mark.parametrize("encoded", [True, False], ids=["base64", "text"])
@pytest.mark.parametrize("name", ["event-grid-blob", "cloudevents-blob"])
def test_event_grid_in_the_queue(app: Server, storage: Storage, name: str, encoded: bool) -> None:
    """An event subscription of the user's own, whose messages are base64 today and were plain text before."""
    path = f"digits/{name}-{encoded} 1.jsonl"
    sample = (ROOT / f"events/{name}.json").read_text()
    told = sample.replace("inferrydevfiles", storage.account).replace("digits/2026-11-26 batch.jsonl", path)
    done = succeeded(app, "jobs")
    # As if its upload had begun, and then a mark: there is nothing to do.
    begun = told.replace('"PutBlockList"', '"CreateFile"')
    mark = told.replace(path, "digits/_SUCCESS")
    elsewhere = told.replace(storage.account, "others")
    send = (
        (lambda text: storage.put(names.JOBS_QUEUE, text.encode()))
        if encoded
        else partial(storage.send, names.JOBS_QUEUE)
    )
    for text in (begun, mark):
        send(text)
    until(lambda: succeeded(app, "jobs") == done + 2, app)
    assert outputs(storage, path) == []
    storage.upload(names.INPUT, path, lines(ROW))
    send(told)
    assert json.loads(result(storage, app, f"{path}.report.json"))["state"] == "finished"
    assert storage.peek(names.POISON_QUEUE) == []
    send(elsewhere)
    (message,) = until(lambda: storage.peek(names.POISON_QUEUE), app)
    note = json.loads(message)
    assert (note["error"], json.loads(note["body"])) == ("DataRefused", json.loads(elsewhere))


REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "good": ({"inputs": [DIGIT], "outputs": [{"name": "label"}]}, {"data": [7]}),
    "bad": ({"inputs": []}, {"error": "the request's 'inputs' must be an array of at least one object", "status": 400}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request(app: Server, storage: Storage, name: str) -> None:
    members, expected = REQUESTS[name]
    storage.send(names.JOBS_QUEUE, json.dumps({"id": f"a-{name}", "model_name": "digits", **members}))
    answer = json.loads(result(storage, app, f"answers/a-{name}.json"))
    assert (answer if "error" in answer else {"data": answer["outputs"][0]["data"]}) == expected
    assert storage.peek(names.POISON_QUEUE) == []


JOB = {"model": "digits", "input": "az://input/digits/absent.jsonl"}
POISON: dict[str, tuple[str, str, str]] = {
    "no JSON": ("ü{", "InvalidRequest", "; this is no JSON"),
    "another shape": ('{"ü": 1}', "InvalidRequest", "; got an object with 'ü'"),
    "elsewhere": (json.dumps({**JOB, "input": "az://other/a.csv"}), "DataRefused", "is not below BATCH_INPUT"),
    "a loop": (json.dumps({**JOB, "output": "az://input/a/"}), "DataRefused", "is not below BATCH_OUTPUT"),
    "no model": (json.dumps({**JOB, "model": "absent"}), "ModelNotFound", "absent"),
    "no file": (json.dumps(JOB), "InvalidFile", "there is no file az://input/digits/absent.jsonl"),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_put_aside_at_once_with_the_reason(app: Server, storage: Storage, name: str) -> None:
    body, error, reason = POISON[name]
    failed = app.log.count("(Failed)")
    storage.put(names.JOBS_QUEUE, body.encode())
    (message,) = until(lambda: storage.peek(names.POISON_QUEUE), app)
    note = json.loads(message)
    assert (note["error"], note["body"], note.keys()) == (error, body, {"error", "reason", "message", "body"})
    assert reason in note["reason"]
    assert f"message {note['message']} moved to the dead letters: {note['reason']}" in app.log
    assert app.log.count("(Failed)") == failed


def test_a_poisoned_file_is_put_aside_with_the_reason(app: Server, storage: Storage) -> None:
    storage.upload(names.INPUT, "digits/bad.parquet", b"no Parquet")
    (message,) = until(lambda: storage.peek(names.POISON_QUEUE), app)
    note = json.loads(message)
    assert (note["error"], arrived(note)) == ("InvalidFile", "az://input/digits/bad.parquet")
    assert json.loads(result(storage, app, "digits/bad.parquet.report.json"))["state"] == "failed"


HOST = json.loads((ROOT / "host.json").read_text())
REASON = "InvalidRequest: a message must be a JSON object"
AS_IT_CAME = {"too long to be put into another": b'"' + b"q" * 49_000 + b'"', "no text": b"\xff{"}


@pytest.mark.parametrize("name", AS_IT_CAME)
def test_poison_that_fits_into_no_note_is_moved_by_the_host(app: Server, storage: Storage, name: str) -> None:
    failed, told = app.log.count("'Functions.jobs' (Failed)"), app.log.count(REASON)
    storage.put(names.JOBS_QUEUE, AS_IT_CAME[name])
    assert until(lambda: storage.peek(names.POISON_QUEUE), app) == [AS_IT_CAME[name]]
    assert app.log.count("'Functions.jobs' (Failed)") - failed == HOST["extensions"]["queues"]["maxDequeueCount"]
    assert app.log.count(REASON) > told


def test_a_request_that_is_answered_later(app: Server, storage: Storage) -> None:
    body = json.dumps({"inputs": [DIGIT], "outputs": [{"name": "label"}]}).encode()
    taken = app.ask("POST", "/v2/models/digits/infer", body, {"Prefer": "respond-async"})
    assert taken.status == 202
    answer = until(lambda: (got := app.ask("GET", taken.headers["location"])).status == 200 and got, app)
    assert answer.json["outputs"] == [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}]


MESSAGES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "done": (json.dumps({"id": "traced", "model_name": "digits", "inputs": [DIGIT]}).encode(), {}),
    "poison": (json.dumps(JOB).encode(), {"error.type": "invalid"}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_done_in_the_trace_of_its_invocation(
    app: Server, storage: Storage, collector: Receiver, name: str
) -> None:
    body, error = MESSAGES[name]
    before = len(invocations(app))
    storage.put(names.JOBS_QUEUE, body)
    ((trace, parent),) = until(lambda: invocations(app)[before:], app)
    (span,) = until(lambda: [span for span in collector.spans if span.parent_span_id.hex() == parent], app)
    told = attributes(span)
    assert len(told.pop("messaging.message.id")) == 36
    assert (span.name, span.kind, span.trace_id.hex()) == ("message", Span.SPAN_KIND_CONSUMER, trace)
    assert (told, failed(span)) == (error, bool(error))


def test_a_request_is_in_the_trace_of_its_invocation(app: Server, collector: Receiver) -> None:
    """The stand-in's invocations have the caller's span for the host's."""
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    assert app.ask("GET", "/v2", headers={"traceparent": f"00-{trace}-{parent}-01"}).status == 200
    (span,) = until(lambda: [span for span in collector.spans if span.parent_span_id.hex() == parent], app)
    assert (span.name, span.kind, span.trace_id.hex()) == ("GET /v2", Span.SPAN_KIND_SERVER, trace)


def invocations(server: Server) -> list[tuple[str, str]]:
    """Of the queue's function: the host's traces and spans."""
    return re.findall(r"'Functions\.jobs' \(Succeeded\) in 00-(\w{32})-(\w{16})-01", server.log)
