"""The line that the log has of each request. Everything is named as in Powertools' lines, or as in our metrics."""

import logging
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from inferry import logs
from inferry.catalogue import PHASES
from inferry.logs import JsonFormatter, log
from inferry.observation import Observation
from inferry.stats import Timings, reason_of

# Asked for every few seconds by machines: their lines are for LOG_LEVEL=DEBUG.
_PROBES = {"/health", "/v2/health/live", "/v2/health/ready", "/metrics"}
_FUNCTION = "request"
_LOCATION = f"{_FUNCTION}:0"
_PATH_LENGTH = 200


def write(method: str, path: str, seen: Observation, took: int, payloads: Mapping[str, str]) -> None:
    """Writes the line of a request that took so many nanoseconds."""
    level = logging.DEBUG if seen.status == 200 and path in _PROBES else logging.INFO
    if not log.isEnabledFor(level):
        return
    path = path[:_PATH_LENGTH]
    writer = logs.writer()
    timings = seen.timings
    if writer is None:
        logs.record(level, _FUNCTION, _message(method, path, seen, took), _fields(method, path, seen, took, payloads))
    elif timings is None or seen.status != 200 or timings.batch or seen.loaded or payloads:
        # Its parts are taken now: an error holds on to all of its request.
        fields = _fields(method, path, seen, took, payloads)
        writer.add(level, _line, (level, _message(method, path, seen, took), fields, time.time_ns()))
    else:
        writer.add(level, _prediction, (method, path, seen, took, timings, time.time_ns()))


def _line(events: JsonFormatter, level: int, message: str, fields: Mapping[str, Any], now: int) -> bytes:
    return events.event(level, _LOCATION, message, fields, now)


def _message(method: str, path: str, seen: Observation, took: int) -> str:
    return f"{method} {path} {seen.status} in {took / 1e6:.3f} ms"


def _fields(method: str, path: str, seen: Observation, took: int, payloads: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": seen.request_id,
        "trace_id": seen.trace_id,
        "cold_start": seen.cold_start,
        "method": method,
        "path": path,
        "status": seen.status,
        "outcome": _outcome(seen.error, seen.status),
        "duration_ms": _ms(took),
        "request_bytes": seen.received,
        "response_bytes": seen.sent if method != "HEAD" else 0,
    }
    if seen.timings:
        fields |= {"model": seen.model, "version": seen.version, "rows": seen.rows}
        fields |= {f"{part}_ms": _ms(getattr(seen.timings, part)) for part in PHASES}
        if seen.timings.batch:
            fields["batch_rows"] = seen.timings.batch
    if seen.loaded:
        fields["load_ms"] = _ms(seen.loaded - seen.loading)
    return {**fields, **payloads}


def _outcome(error: BaseException | None, status: int) -> str:
    """As in our metrics; below 500 what isn't counted there, no route for example, is the caller's fault."""
    if error is None:
        return "success" if status < 400 else "error"
    reason = reason_of(error)
    return "invalid" if reason == "error" and status < 500 else reason


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)


def _prediction(
    events: JsonFormatter, method: str, path: str, seen: Observation, took: int, timings: Timings, now: int
) -> bytes:
    """What `_line` makes of the request that there are most of, in a third of the time."""
    more = events.more()
    try:
        return _template(events, method, path, seen.model, seen.version) % (
            took / 1e6,
            logs.timestamp(now // 1_000_000).encode(),
            orjson.dumps(seen.request_id),
            orjson.dumps(seen.trace_id),
            b"true" if seen.cold_start else b"false",
            took / 1e6,
            seen.received,
            seen.sent,
            seen.rows,
            timings.decode / 1e6,
            timings.queue / 1e6,
            timings.infer / 1e6,
            timings.encode / 1e6,
            b"," + orjson.dumps(more)[1:] if more else b"}",
        )
    except TypeError:  # an id that is no text for JSON
        fields = _fields(method, path, seen, took, {})
        return _line(events, logging.INFO, _message(method, path, seen, took), fields, now)


# Control characters stand for what differs between two lines; no other text of a template holds one.
_TEXT, _COUNT, _MS, _TIME = "\1", "\2", "\3", "\4"
_PLACES = {
    b'"\\u0001"': b"%b",
    b'"\\u0002"': b"%d",
    b'"\\u0003"': b"%.3f",
    b"\\u0003": b"%.3f",
    b"\\u0004": b"%b",
}


@lru_cache(256)
def _template(events: JsonFormatter, method: str, path: str, model: str, version: str) -> bytes:
    fields = {
        "request_id": _TEXT,
        "trace_id": _TEXT,
        "cold_start": _TEXT,
        "method": method,
        "path": path,
        "status": 200,
        "outcome": "success",
        "duration_ms": _MS,
        "request_bytes": _COUNT,
        "response_bytes": _COUNT,
        "model": model,
        "version": version,
        "rows": _COUNT,
    }
    fields |= {f"{part}_ms": _MS for part in PHASES}
    head = events.head("INFO", _LOCATION, f"{method} {path} 200 in {_MS} ms", _TIME)
    template = orjson.dumps({**head, **fields}).removesuffix(b"}").replace(b"%", b"%%")
    for place, form in _PLACES.items():
        template = template.replace(place, form)
    return template + b"%b"
