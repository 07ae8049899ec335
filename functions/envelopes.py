"""What is in the events of files and queues: S3's and EventBridge's about objects, on their own and inside of SQS."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote_plus

from inferry.errors import InvalidRequest

Document: TypeAlias = Mapping[str, Any]


class Item(NamedTuple):
    """One thing to do. `body` is a message that says no more than it; `url` is that of an object, None for others."""

    body: str
    url: str | None = None


def items(body: str) -> list[Item]:
    """What a message or an event in JSON is about: objects, nothing at all, or what the message itself says.

    InvalidRequest when it looks like an event of objects and names none.
    """
    try:
        document = json.loads(body)
    except ValueError:
        return [Item(body)]
    for is_ours, found in _FORMS:
        if isinstance(document, dict) and is_ours(document):
            try:
                return list(found(document))
            except (LookupError, TypeError, AttributeError) as exc:
                raise InvalidRequest(f"an event about objects, without {exc}") from exc
    return [Item(body)]


def is_sqs(event: Any) -> bool:
    """Whether it is a batch of messages; one without any is, too."""
    records = event.get("Records") if isinstance(event, dict) else None
    return isinstance(records, list) and all(
        isinstance(record, dict) and record.get("eventSource") == "aws:sqs" for record in records
    )


def _is_test(document: Document) -> bool:
    # S3 sends it when a notification is configured.
    return document.get("Event") == "s3:TestEvent"


def _is_notification(document: Document) -> bool:
    records = document.get("Records")
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(record, dict) and record.get("eventSource") == "aws:s3" for record in records)
    )


def _is_eventbridge(document: Document) -> bool:
    return document.get("source") == "aws.s3" and "detail" in document


def _notified(document: Document) -> Iterator[Item]:
    for record in document["Records"]:
        if record["eventName"].startswith("ObjectCreated:"):
            s3 = record["s3"]
            url = f"s3://{s3['bucket']['name']}/{unquote_plus(s3['object']['key'])}"
            yield Item(json.dumps({"Records": [record]}), url)


def _bridged(document: Document) -> Iterator[Item]:
    if document["detail-type"] == "Object Created":
        detail = document["detail"]
        # Unlike in S3's own notifications, the key is as it is.
        yield Item(json.dumps(document), f"s3://{detail['bucket']['name']}/{detail['object']['key']}")


_FORMS: tuple[tuple[Callable[[Document], bool], Callable[[Document], Iterator[Item]]], ...] = (
    (_is_test, lambda _: iter(())),
    (_is_notification, _notified),
    (_is_eventbridge, _bridged),
)
