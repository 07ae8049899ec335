"""What is in the events of files and queues: S3's and EventBridge's about objects, on their own, in SNS, in SQS."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote_plus

from inferry.errors import InvalidRequest
from inferry.jobs.file_names import is_mark

Document: TypeAlias = Mapping[str, Any]


class Item(NamedTuple):
    """One thing to do. `body` is a message that says no more than it; `url` is that of an object, None for others.

    `name` is its topic's id of the message, "" where it came by none: whoever published it knows no other.
    """

    body: str
    url: str | None = None
    name: str = ""


def items(body: str, name: str = "") -> list[Item]:
    """What a message or an event in JSON is about: objects, nothing at all, or what the message itself says.

    InvalidRequest when it looks like an event of objects or of a topic and lacks what these have.
    """
    try:
        document = json.loads(body)
    except ValueError:
        return [Item(body, name=name)]
    for is_ours, found, what in _FORMS:
        if isinstance(document, dict) and is_ours(document):
            try:
                return list(found(document))
            except (LookupError, TypeError, AttributeError) as exc:
                raise InvalidRequest(f"{what}, without {exc}") from exc
    return [Item(body, name=name)]


def is_sqs(event: Any) -> bool:
    """Whether it is a batch of messages; one without any is, too."""
    return _all_of(event, "eventSource", "aws:sqs") or (isinstance(event, dict) and event.get("Records") == [])


def _all_of(document: Any, member: str, source: str) -> bool:
    records = document.get("Records") if isinstance(document, dict) else None
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(record, dict) and record.get(member) == source for record in records)
    )


def _is_test(document: Document) -> bool:
    # S3 sends it when a notification is configured.
    return document.get("Event") == "s3:TestEvent"


def _is_eventbridge(document: Document) -> bool:
    return document.get("source") == "aws.s3" and "detail" in document


def _is_wrapped(document: Document) -> bool:
    """Whether SNS has put a message into a queue, without raw delivery."""
    return document.get("Type") == "Notification" and "TopicArn" in document


def _notified(document: Document) -> Iterator[Item]:
    for record in document["Records"]:
        if record["eventName"].startswith("ObjectCreated:"):
            s3 = record["s3"]
            yield from _arrived({"Records": [record]}, s3["bucket"]["name"], unquote_plus(s3["object"]["key"]))


def _bridged(document: Document) -> Iterator[Item]:
    if document["detail-type"] == "Object Created":
        detail = document["detail"]
        # Unlike in S3's own notifications, the key is as it is.
        yield from _arrived(document, detail["bucket"]["name"], detail["object"]["key"])


def _arrived(document: Document, bucket: str, key: str) -> Iterator[Item]:
    # A mark is known by its name alone; what else is no input, the worker finds out.
    if not is_mark(key):
        yield Item(json.dumps(document), f"s3://{bucket}/{key}")


def _published(document: Document) -> Iterator[Item]:
    for record in document["Records"]:
        yield from _unwrapped(record["Sns"])


def _unwrapped(document: Document) -> Iterator[Item]:
    yield from items(document["Message"], document["MessageId"])


# How a form is known, what is in it, and its name in errors. The first that fits counts: test events look like others.
_OBJECTS, _TOPIC = "an event about objects", "a topic's notification"
_FORMS: tuple[tuple[Callable[[Document], bool], Callable[[Document], Iterator[Item]], str], ...] = (
    (_is_test, lambda _: iter(()), _OBJECTS),
    (lambda document: _all_of(document, "eventSource", "aws:s3"), _notified, _OBJECTS),
    (_is_eventbridge, _bridged, _OBJECTS),
    (lambda document: _all_of(document, "EventSource", "aws:sns"), _published, _TOPIC),
    (_is_wrapped, _unwrapped, _TOPIC),
)
