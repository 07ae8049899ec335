"""What is known of a request beside its content: who asked, and until when.

A host puts a mapping at `scope["inferry"]` with what it knows: `request_id`, `trace_id`, `deadline` (seconds on
time.monotonic, when it ends the invocation, its margin taken off) and `cold_start`. The headers x-request-id and
traceparent stand in for the first two.
"""

import math
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

KEY = "inferry"
REQUEST_ID = b"x-request-id"
_TRACEPARENT = b"traceparent"
# W3C Trace Context: version, trace id, parent id, flags. All zeros are no ids, ff is no version, only 00 ends here.
_TRACE = rb"(?!ff)(?!00-.{52}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
_ID_LENGTH = 100
# Of ids that come from outside only what can stand in a header and in a log's line; the rest are question marks.
_PRINTABLE = bytes(byte if 0x20 < byte < 0x7F else 0x3F for byte in range(256))
# One system call makes many. They are not for children of this process.
_AT_A_TIME = 64
_NEW_IDS: list[tuple[str, tuple[bytes, bytes]]] = []
os.register_at_fork(after_in_child=_NEW_IDS.clear)


class Context(NamedTuple):
    """Empty ids are unknown ones; without a host's limit `deadline` is infinite."""

    request_id: str = ""
    trace_id: str = ""
    deadline: float = math.inf
    cold_start: bool = False


def read(scope: Mapping[str, Any]) -> Context:
    """The context of an ASGI scope."""
    return Context(*ids(scope), deadline(scope), is_cold(scope))


def ids(scope: Mapping[str, Any]) -> tuple[str, str]:
    """Of the request and of its trace; empty ones are unknown."""
    headers = dict(scope.get("headers") or ())
    host = scope.get(KEY)
    trace_id = host.get("trace_id") if host else ""
    if not trace_id and _TRACEPARENT in headers:
        trace_id = _trace_id(headers[_TRACEPARENT])
    return request_id(host, headers), trace_id or ""


def request_id(host: Mapping[str, Any] | None, headers: Mapping[bytes, bytes]) -> str:
    """The id that the host says, or else the client; empty when neither does."""
    said: str = host.get("request_id", "") if host else ""
    if said or REQUEST_ID not in headers:
        return said
    return _printable(headers[REQUEST_ID]).decode()


def new_id() -> tuple[str, tuple[bytes, bytes]]:
    """For a request that has none: 64 random bits, and the answer's header."""
    if not _NEW_IDS:
        digits = os.urandom(8 * _AT_A_TIME).hex()
        made = [digits[at : at + 16] for at in range(0, len(digits), 16)]
        _NEW_IDS.extend([(request_id, (REQUEST_ID, request_id.encode())) for request_id in made])
    return _NEW_IDS.pop()


def deadline(scope: Mapping[str, Any]) -> float:
    """When the host ends the request, on time.monotonic; infinite where it doesn't."""
    host = scope.get(KEY)
    return host.get("deadline", math.inf) if host else math.inf


def is_cold(scope: Mapping[str, Any]) -> bool:
    """Whether the request is the first of its process, as far as the host says."""
    host = scope.get(KEY)
    return bool(host and host.get("cold_start"))


def answered(request_id: str) -> tuple[bytes, bytes]:
    """The header of an answer that repeats its request's id."""
    return REQUEST_ID, _printable(request_id.encode("latin-1", "replace"))


def _printable(value: bytes) -> bytes:
    return value[:_ID_LENGTH].translate(_PRINTABLE)


def _trace_id(traceparent: bytes) -> str:
    match = _trace().fullmatch(traceparent)
    return match[1].decode() if match else ""


@cache
def _trace() -> re.Pattern[bytes]:
    return re.compile(_TRACE)  # half a millisecond, which a start has better uses for
