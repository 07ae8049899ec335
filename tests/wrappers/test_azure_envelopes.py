"""azure_app/envelopes.py: what Event Grid's events are about, in both of its schemas."""

from typing import Any

import lambda_events as events
import pytest
from inferry.errors import DataRefused, InvalidRequest

from azure_app import envelopes

ACCOUNT = "inferrydevfiles"
SCHEMAS = {"event-grid-blob": ("eventType", "topic"), "cloudevents-blob": ("type", "source")}
URL = "az://input/digits/2026-11-26 batch.jsonl"


def changed(name: str, kind: str, **data: Any) -> dict[str, Any]:
    event = events.load(name)
    return event | {SCHEMAS[name][0]: f"Microsoft.Storage.{kind}", "data": event["data"] | data}


# Of a kind and its API, whether there is a file to predict.
KINDS = {
    ("BlobCreated", "PutBlob"): True,
    ("BlobCreated", "CopyBlob"): True,
    ("BlobCreated", "FlushWithClose"): True,
    ("BlobCreated", "SftpCommit"): True,
    ("BlobRenamed", "RenameFile"): True,
    ("BlobCreated", "CreateFile"): False,
    ("BlobCreated", "SftpCreate"): False,
    ("BlobDeleted", "DeleteBlob"): False,
    ("DirectoryCreated", "CreateDirectory"): False,
    ("BlobTierChanged", "SetBlobTier"): False,
}


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_the_blob_that_has_come(name: str, kind: tuple[str, str]) -> None:
    event = changed(name, kind[0], api=kind[1])
    assert envelopes.is_event(event)
    assert envelopes.url(event, ACCOUNT) == (URL if KINDS[kind] else None)


@pytest.mark.parametrize("name", SCHEMAS)
def test_names_are_as_they_are(name: str) -> None:
    """A subject is not encoded; CloudEvents' documentation has it without its first slash."""
    for path in ("a%20b.jsonl", "ü/日本 1&2=3#.jsonl", "blobs/containers/x.csv"):
        for slash in ("/", ""):
            subject = f"{slash}blobServices/default/containers/input/blobs/{path}"
            assert envelopes.url(events.load(name) | {"subject": subject}, ACCOUNT) == f"az://input/{path}"


@pytest.mark.parametrize("name", SCHEMAS)
def test_another_account_is_not_ours(name: str) -> None:
    event = events.load(name)
    with pytest.raises(DataRefused, match="the account 'inferrydevfiles', and this app works on 'mine'"):
        envelopes.url(event, "mine")
    assert envelopes.url(event, "") == URL
    assert envelopes.url(event, ACCOUNT.upper()) == URL


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_lacks_something_is_an_error(name: str) -> None:
    for member in ("data", "subject", SCHEMAS[name][1]):
        event = {key: value for key, value in events.load(name).items() if key != member}
        with pytest.raises(InvalidRequest, match="an event about a blob, without"):
            envelopes.url(event, ACCOUNT)
    with pytest.raises(InvalidRequest, match="whose subject '/queueServices' names none"):
        envelopes.url(events.load(name) | {"subject": "/queueServices"}, ACCOUNT)


def test_nothing_else_is_an_event() -> None:
    documents: list[Any] = [None, [], {}, {"input": "az://input/a.csv"}, {"type": 7}, {"type": "Microsoft.Other.Thing"}]
    for document in documents:
        assert not envelopes.is_event(document)


@pytest.mark.parametrize("name", SCHEMAS)
def test_one_in_an_array_is_one(name: str) -> None:
    """As webhooks get it."""
    event = events.load(name)
    assert envelopes.unwrapped([event]) == envelopes.unwrapped(event) == event
    assert envelopes.unwrapped([event, event]) == [event, event]
