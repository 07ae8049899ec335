"""What is known of a request beside its content: who asked, and until when.

A platform's wrapper (Lambda's, Azure's) puts what it knows at `scope["inferry"]`. The headers x-request-id and
traceparent stand in for its two ids.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

KEY = "inferry"
REQUEST_ID = b"x-request-id"
_TRACEPARENT = b"traceparent"
# W3C Trace Context: version, trace id, parent id, flags, with an x for each hexadecimal digit.
_TRACE = b"xx-" + b"x" * 32 + b"-" + b"x" * 16 + b"-xx"
TRACE_ID = slice(3, 35)
# What of a traceparent is looked at: the first character behind it tells whether there may be more.
_TRACE_LENGTH = len(_TRACE) + 1
_ZEROS = b"0" * 16
_DIGITS = bytes(0x78 if byte in b"0123456789abcdef" else 0x2D if byte == 0x2D else 0 for byte in range(256))
_ID_LENGTH = 100
_UNLIMITED = (0, "")
# Of ids that come from outside only what can stand in a header and in a log's line; the rest are question marks.
_PRINTABLE = bytes(byte if 0x20 < byte < 0x7F else 0x3F for byte in range(256))


class PlatformContext(TypedDict, total=False):
    """What a platform, such as Lambda or Azure Functions, says of a request: `scope["inferry"]`, all of it optional.

    `deadline`: when the platform ends the invocation, less a margin (seconds on time.monotonic); `cold_start`: whether
    the request is the first of its process; `max_response`: how many bytes a response may have to be passed on, and the
    name of that limit; `failed` hears of the exception that a response is the error of.
    """

    request_id: str
    trace_id: str
    deadline: float
    cold_start: bool
    max_response: tuple[int, str]
    failed: Callable[[Exception], object]


class Context(NamedTuple):
    """What is known of a request: empty ids are unknown ones; without a platform's limit `deadline` is infinite."""

    request_id: str = ""
    trace_id: str = ""
    deadline: float = math.inf
    cold_start: bool = False


def read(scope: Mapping[str, Any]) -> Context:
    """The context of a request, by its ASGI scope: what the platform says, else what the headers say."""
    return Context(*ids(scope), deadline(scope), is_cold(scope))


def ids(scope: Mapping[str, Any]) -> tuple[str, str]:
    """The ids of a request and of its trace; empty ones are unknown."""
    headers = dict(scope.get("headers") or ())
    platform: PlatformContext | None = scope.get(KEY)
    said = platform.get("trace_id") if platform else ""
    return request_id(platform, headers), trace_id(said or headers.get(_TRACEPARENT, b""))


def named(
    platform: PlatformContext | None, headers: Mapping[bytes, bytes]
) -> tuple[str | bytes, tuple[bytes, bytes], str | bytes]:
    """The request's id, a new one if need be, the response's header that repeats it, and what `trace_id` takes.

    The id is text if the platform says it, else bytes that can stand in a header and in a line.
    """
    trace: str | bytes = headers.get(_TRACEPARENT, b"")[:_TRACE_LENGTH]
    if platform:
        trace = platform.get("trace_id") or trace
        if said := platform.get("request_id"):
            return said, id_header(said), trace
    asked = headers.get(REQUEST_ID)
    value = _printable(asked) if asked else new_id()
    return value, (REQUEST_ID, value), trace


def request_id(platform: PlatformContext | None, headers: Mapping[bytes, bytes]) -> str:
    """The id that the platform says, or else the client; empty when neither does."""
    said = platform.get("request_id", "") if platform else ""
    if said or REQUEST_ID not in headers:
        return said
    return _printable(headers[REQUEST_ID]).decode()


def new_id() -> bytes:
    """An id for a request that has none: 64 random bits, in hex."""
    return os.urandom(8).hex().encode()


def deadline(scope: Mapping[str, Any]) -> float:
    """When the platform ends the request, on time.monotonic; infinite where it doesn't."""
    platform: PlatformContext | None = scope.get(KEY)
    return platform.get("deadline", math.inf) if platform else math.inf


def is_cold(scope: Mapping[str, Any]) -> bool:
    """Whether the request is the first of its process, as far as the platform says."""
    platform: PlatformContext | None = scope.get(KEY)
    return bool(platform and platform.get("cold_start"))


def max_response(scope: Mapping[str, Any]) -> tuple[int, str]:
    """How many bytes of a response the platform passes on, 0 for any number, and the name of that limit."""
    platform: PlatformContext | None = scope.get(KEY)
    return platform.get("max_response", _UNLIMITED) if platform else _UNLIMITED


def tell(scope: Mapping[str, Any], exc: Exception) -> None:
    """Tells the platform that the response to a request is the error `exc`, where it wants to hear that."""
    platform: PlatformContext | None = scope.get(KEY)
    if platform and "failed" in platform:
        platform["failed"](exc)


def id_header(request_id: str) -> tuple[bytes, bytes]:
    """The header x-request-id of a response, which repeats the id of its request."""
    return REQUEST_ID, _printable(request_id.encode("latin-1", "replace"))


def _printable(value: bytes) -> bytes:
    return value[:_ID_LENGTH].translate(_PRINTABLE)


def trace_id(trace: str | bytes) -> str:
    """The id of a trace, or the one in a traceparent; empty without one."""
    if isinstance(trace, str):
        return trace
    # Zeros are no ids, ff is no version, and only in versions to come there may be more.
    traceparent = trace
    version, found, parent, more = traceparent[:2], traceparent[3:35], traceparent[36:52], traceparent[55:]
    if traceparent[:55].translate(_DIGITS) != _TRACE or version == b"ff":
        return ""
    if more and (version == b"00" or not more.startswith(b"-")):
        return ""
    return found.decode() if found.strip(b"0") and parent.strip(b"0") else ""


def are_plain_ids(ids: Sequence[Any]) -> bool:
    """Whether all of these ids are bytes that JSON takes without escapes."""
    try:
        joined = b"".join(ids)
    except TypeError:  # a platform's id
        return False
    return b'"' not in joined and b"\\" not in joined


def are_plain_traces(traces: Sequence[Any]) -> bool:
    """Whether all are traceparents as most are: `trace_id` would find the id of each at TRACE_ID."""
    try:
        joined = b",".join(traces) + b","
    except TypeError:  # a platform's id
        return False
    # The versions' first digits are that far apart.
    apart = len(_TRACE) + 1
    as_most = joined.translate(_DIGITS) == (_TRACE + b"\0") * len(traces)
    return as_most and _ZEROS not in joined and b"f" not in joined[::apart]
