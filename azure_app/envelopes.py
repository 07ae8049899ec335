"""Event Grid's events about blobs, as messages of the queue."""

import re
from collections.abc import Mapping
from typing import Any

from inferry.errors import DataRefused, InvalidRequest

_BLOB = re.compile(r"/?blobServices/default/containers/([^/]+)/blobs/(.+)", re.S)
_ACCOUNT = re.compile(r"/storageaccounts/([^/]+)", re.I)
# Rows have come with these; an upload to a data lake or by SFTP begins with an event about an empty file, and ends with
# another event.
_ARRIVED = ("Microsoft.Storage.BlobCreated", "Microsoft.Storage.BlobRenamed")
_BEGINNINGS = ("CreateFile", "SftpCreate")


def unwrapped(document: Any) -> Any:
    """Event Grid's event, where that is the only one in an array."""
    return document[0] if isinstance(document, list) and len(document) == 1 else document


def is_event(document: Any) -> bool:
    """Whether it is Event Grid's about a storage account, in its own schema or as a CloudEvent."""
    return isinstance(document, dict) and str(_kind(document)).startswith("Microsoft.Storage.")


def url(event: Mapping[str, Any], account: str) -> str | None:
    """The URL of the blob that an event says has come; None for all else.

    InvalidRequest for an event that lacks something, DataRefused for one about another account than `account`.
    """
    try:
        if _kind(event) not in _ARRIVED or event["data"].get("api") in _BEGINNINGS:
            return None
        blob = _BLOB.fullmatch(event["subject"])
        other = _ACCOUNT.search(event.get("topic") or event["source"])
    except (LookupError, TypeError, AttributeError) as exc:
        raise InvalidRequest(f"an event about a blob, without {exc}") from exc
    if blob is None:
        raise InvalidRequest(f"an event about a blob, whose subject {event['subject'][:500]!r} names none")
    if other and account and other[1].lower() != account.lower():
        raise DataRefused(f"an event about a blob of the account {other[1]!r}, and this app works on {account!r}")
    return f"az://{blob[1]}/{blob[2]}"


def _kind(event: Mapping[str, Any]) -> Any:
    return event.get("eventType") or event.get("type")
