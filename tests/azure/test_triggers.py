"""A queue trigger and Event Grid end to end: Azurite, the stand-in's pollers, Microsoft's runtime, a small app."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import services
from functionhosts import HERE, running, until
from servers import Server
from standin.storage import Storage

if not services.AZURITE.exists():
    pytest.skip(services.AZURITE_MISSING, allow_module_level=True)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with services.azurite() as azurite:
        found = Storage(azurite.account, azurite.key, azurite.blob_endpoint, azurite.queue_endpoint)
        for queue in ("jobs", "jobs-poison"):
            found.create_queue(queue)
        found.create_container("input")
        yield found


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triggers") / "notes"


@pytest.fixture(scope="module")
def app(storage: Storage, notes: Path) -> Iterator[Server]:
    """With an identity's connection, which names services and holds no key; the key is the stand-in's own."""
    env = {
        "QUEUE": "jobs",
        "NOTES": str(notes),
        "STORAGE__queueServiceUri": storage.queue_endpoint,
        "AzureWebJobsStorage": storage.connection,
        "STANDIN_EVENTS": "input=jobs",
    }
    with running(HERE / "triggers_app", **env) as server:
        yield server


def written(notes: Path, text: str) -> list[dict[str, Any]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [note for note in map(json.loads, lines) if note["text"] == text]


def test_a_message_is_taken_once(app: Server, storage: Storage, notes: Path) -> None:
    storage.put("jobs", b"hello")
    assert until(lambda: written(notes, "hello"), app) == [{"kind": "queue", "text": "hello", "tries": 1}]
    until(lambda: "Executed 'Functions.jobs' (Succeeded)" in app.log, app)
    assert storage.peek("jobs") == []
    assert len(written(notes, "hello")) == 1


def test_plain_text_is_put_aside_by_a_host_that_expects_base64(app: Server, storage: Storage, notes: Path) -> None:
    """At once, and without a word to the function: Azure/azure-sdk-for-net#18326. So our own host.json says none."""
    storage.send("jobs", "plain text")
    assert until(lambda: storage.texts("jobs-poison"), app) == ["plain text"]
    assert written(notes, "plain text") == []
    for message in storage.receive("jobs-poison", 32, 30):
        storage.delete("jobs-poison", message)


def test_a_poisoned_message_is_put_aside_after_its_tries_with_the_reason_logged(
    app: Server, storage: Storage, notes: Path
) -> None:
    storage.put("jobs", b"poison")
    assert until(lambda: storage.peek("jobs-poison"), app) == [b"poison"]
    assert [note["tries"] for note in written(notes, "poison")] == [1, 2, 3]
    assert app.log.count("ValueError: this message is poison") >= 3
    assert "Moving message to queue 'jobs-poison'" in app.log
    assert storage.peek("jobs") == []


def test_a_blob_is_an_event_once_for_each_of_its_contents(app: Server, storage: Storage, notes: Path) -> None:
    def events() -> list[dict[str, Any]]:
        lines = notes.read_text().splitlines() if notes.exists() else []
        texts = [json.loads(line)["text"] for line in lines]
        return [json.loads(text) for text in texts if "one.txt" in text]

    for count, text in enumerate(("first", "second"), 1):
        storage.upload("input", "a folder/one.txt", text.encode())
        until(lambda count=count: len(events()) == count, app)  # type: ignore[misc]
    assert {event["subject"] for event in events()} == {"/blobServices/default/containers/input/blobs/a folder/one.txt"}
    assert {event["eventType"] for event in events()} == {"Microsoft.Storage.BlobCreated"}
