"""Errors as responses: the status of each, and what of it goes into the log."""

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import orjson

from inferry import errors
from inferry.errors import InferryError
from inferry.http import routes
from inferry.http.asgi import Response
from inferry.observability import context
from inferry.observability.record import RequestRecord
from inferry.observability.stats import reason_of
from inferry.protocol import types

log = logging.getLogger("inferry")

# Characters of an error's text: names in it may be as long as a request.
_LONGEST = 16_384

# Every error has its status here or under one of its bases; tests/unit/test_errors.py proves it.
STATUS: dict[type[InferryError], int] = {
    errors.InvalidRequest: 400,
    errors.KeyMissing: 401,
    errors.KeyRefused: 403,
    errors.OriginRefused: 403,
    errors.DataRefused: 403,
    errors.ModelControlDisabled: 403,
    errors.ModelNotFound: 404,
    errors.DeferredNotFound: 404,
    routes.RouteNotFound: 404,
    routes.MethodNotAllowed: 405,
    errors.RequestTimeout: 408,
    errors.RequestTooLarge: 413,
    errors.ResponseTooLarge: 413,
    errors.UnsupportedEncoding: 415,
    errors.HostRefused: 421,
    errors.QueueFull: 429,
    errors.InferenceFailed: 500,
    errors.JobFailed: 500,
    errors.InvalidSettings: 500,
    errors.NotSupported: 501,
    errors.ModelUnavailable: 503,
    errors.Overloaded: 503,
    errors.InferenceTimeout: 504,
}


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return status, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), [types.JSON]


def error_response(exc: Exception, scope: Mapping[str, Any], record: RequestRecord | None = None) -> Response:
    """The protocol's error object. What is not the caller's fault is logged, once, with the request's ids."""
    context.tell(scope, exc)
    status, text = failure(exc, scope, record, _LONGEST)
    response = json_response({"error": text}, status)
    if isinstance(exc, routes.MethodNotAllowed):
        response[2].append((b"allow", ", ".join(exc.allowed).encode()))
    if isinstance(exc, errors.KeyMissing):
        response[2].append((b"www-authenticate", b"Bearer"))
    if isinstance(exc, errors.QueueFull | errors.Overloaded):
        response[2].append((b"retry-after", b"1"))
    return response


def failure(exc: Exception, scope: Mapping[str, Any], record: RequestRecord | None, longest: int) -> tuple[int, str]:
    """The status of an error, and its text for the caller, of so many characters at most.

    What is not the caller's fault is logged, once, with the request's ids.
    """
    status = next((STATUS[base] for base in type(exc).__mro__ if base in STATUS), 500)
    text = described(exc, scope)
    if record is not None:
        record.reason = reason_of(exc)
    if status == 500:
        text = _logged(exc, record or context.read(scope))
    if len(text) > longest:
        text = f"{text[:longest]}..."
    # A lone surrogate of the request's is no text that can be sent.
    return status, text.encode(errors="replace").decode()


def described(exc: Exception, scope: Mapping[str, Any]) -> str:
    """The text of an error, with what to do where the platform's time for the request is over."""
    if isinstance(exc, errors.InferenceTimeout) and context.deadline(scope) <= time.monotonic():
        return (
            f"{exc}; the platform would have ended the request: send fewer rows, or give the function more time or CPUs"
        )
    return str(exc)


def _logged(exc: Exception, known: RequestRecord | context.Context) -> str:
    """Logs a failure, and returns what its caller may know of it: how to find it in the log."""
    request_id = known.request_id or os.urandom(8).hex()
    extra = {"request_id": request_id, "trace_id": known.trace_id}
    if isinstance(exc, InferryError):
        log.error("request %s: %s", request_id, exc, extra=extra)
        return f"{exc} (request {request_id})"
    log.error("request %s failed", request_id, exc_info=exc, extra=extra)
    return f"internal error (request {request_id})"
