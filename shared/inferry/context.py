"""What is known of a request beside its content: who asked, and until when.

A host puts a mapping at `scope["inferry"]` with what it knows: `request_id`, `trace_id`, `deadline` (seconds on
time.monotonic, when it ends the invocation, its margin taken off) and `cold_start`. The headers x-request-id and
traceparent stand in for the first two.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

KEY = "inferry"
REQUEST_ID = b"x-request-id"
# W3C Trace Context: version, trace id, parent id, flags. All zeros are no ids, ff is no version, only 00 ends here.
_TRACEPARENT = rb"(?!ff)(?!00-.{52}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
_ID_LENGTH = 100
# What can't stand in a header or in a log's line becomes a question mark.
_PRINTABLE = bytes(byte if 0x20 < byte < 0x7F else 0x3F for byte in range(256))


class Context(NamedTuple):
    """Empty ids are unknown ones; without a host's limit `deadline` is infinite."""

    request_id: str = ""
    trace_id: str = ""
    deadline: float = math.inf
    cold_start: bool = False


def read(scope: Mapping[str, Any]) -> Context:
    """The context of an ASGI scope."""
    host = scope.get(KEY) or {}
    headers = dict(scope.get("headers") or ())
    return Context(
        host.get("request_id") or _request_id(headers.get(REQUEST_ID, b"")),
        host.get("trace_id") or _trace_id(headers.get(b"traceparent", b"")),
        deadline(scope),
        bool(host.get("cold_start")),
    )


def deadline(scope: Mapping[str, Any]) -> float:
    """When the host ends the request, on time.monotonic; infinite where it doesn't."""
    host = scope.get(KEY)
    return host.get("deadline", math.inf) if host else math.inf


def answered_id(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bytes:
    """The request id to repeat in the answer's x-request-id; empty when nobody gave one."""
    host = scope.get(KEY)
    given = host.get("request_id") if host else None
    header = given.encode("latin-1", "replace") if given else headers.get(REQUEST_ID)
    return _printable(header) if header else b""


def _request_id(header: bytes) -> str:
    return _printable(header).decode()


def _printable(value: bytes) -> bytes:
    return value[:_ID_LENGTH].translate(_PRINTABLE)


def _trace_id(traceparent: bytes) -> str:
    match = re.fullmatch(_TRACEPARENT, traceparent) if traceparent else None
    return match[1].decode() if match else ""
