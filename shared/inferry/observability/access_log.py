"""The line that the log has of each request. Everything is named as in Powertools' lines, or as in our metrics.

A line that is made like any other (`_line`) takes 4.3 us, one of many that are made by a template (`_filled`) 0.8: on
Python 3.11 an eighth of a request. It is a part of the row "the same, with its line of JSON" of `make bench`, whose
target would not be met without.
"""

import logging
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from inferry.observability import context, logs
from inferry.observability.catalogue import PHASES
from inferry.observability.logs import JsonFormatter, log
from inferry.observability.record import RequestRecord

# Asked for every few seconds by machines, of a server that isn't ready as well: their lines are for LOG_LEVEL=DEBUG.
_GRPC = "/inference.GRPCInferenceService"
PROBES = {
    *("/health", "/v2/health/live", "/v2/health/ready", "/metrics"),
    *(f"{_GRPC}/ServerLive", f"{_GRPC}/ServerReady"),
}
_NOT_READY = (503, "/v2/health/ready")
_FUNCTION = "request"
_LOCATION = f"{_FUNCTION}:0"
_PATH_LENGTH = 200
_ROOM = logs.MOST - 1


def is_probe(record: RequestRecord) -> bool:
    """Whether a request is one of those that machines send every few seconds, and had the response that it has."""
    return record.route in PROBES if record.status == 200 else (record.status, record.route) == _NOT_READY


class Request(RequestRecord):
    """The record of a request that has a line in the log."""

    __slots__ = ()

    @property
    def level(self) -> int:
        """The level of the line in the log: DEBUG for probes, which machines send every few seconds, else INFO."""
        return logging.DEBUG if is_probe(self) else logging.INFO

    @staticmethod
    def text(events: JsonFormatter, some: "Sequence[Request]") -> bytes:
        """The lines of requests that are over, one behind the other, each with its line end."""
        return _text(events, some)

    def end(self) -> None:
        """The request is over: its line is written, or put with those that are written soon."""
        waiting = logs.waiting
        if self.taken and 0 < len(waiting) < _ROOM and self.span is None:
            self.ended = time.perf_counter_ns()
            waiting.append(self)
            if self.sink is not None:
                self.sink.add(self)
        else:
            super().end()
            self.write()

    def write(self) -> None:
        """Writes the line as the log's level and its handlers are now."""
        if not log.isEnabledFor(self.level):
            return
        writer = logs.writer()
        if writer is None:
            logs.record(self.level, _FUNCTION, _message(self), _fields(self))
        else:
            writer.add(self)


def _text(events: JsonFormatter, requests: Sequence[Request]) -> bytes:
    offset = time.time_ns() - time.perf_counter_ns()
    try:
        return _filled(events, requests, offset)
    except TypeError:  # an id or a path that is no text for JSON, or that has what stands for a place in a template
        return b"".join([_line(events, record, offset) for record in requests])


def _filled(events: JsonFormatter, requests: Sequence[Request], offset: int) -> bytes:
    """What `_line` makes of each, in a quarter of the time of those that there are most of."""
    more = events.more()
    end = (b"," + orjson.dumps(more)[1:].replace(b"%", b"%%") if more else b"}") + b"\n"
    plain_ids = context.are_plain_ids([record.name for record in requests])
    plain_traces = context.are_plain_traces([record.trace for record in requests])
    trace_id = context.TRACE_ID
    path = model = version = ""
    template = stamp = b""
    stamped = 0
    templates: list[bytes] = []
    values: list[Any] = []
    for record in requests:
        is_plain = record.taken and record.status == 200
        if not is_plain or record.batch or record.cache or record.loaded or record.cold_start or record.payloads:
            templates.append(b"%b")
            values.append(_line(events, record, offset))
            continue
        if record.path != path or record.version != version or record.model != model:
            path, model, version = record.path, record.model, record.version
            template = _template(events, record.method, path[:_PATH_LENGTH], model, version) + end
        if (now := (record.ended + offset) // 1_000_000) != stamped:
            stamped, stamp = now, logs.timestamp(now).encode()
        took = (record.ended - record.started) / 1e6
        templates.append(template)
        values += (
            took,
            stamp,
            record.name if plain_ids else orjson.dumps(record.request_id)[1:-1],
            record.trace[trace_id] if plain_traces else orjson.dumps(record.trace_id)[1:-1],
            took,
            record.received,
            record.sent,
            record.rows,
            record.decode / 1e6,
            record.queue / 1e6,
            record.infer / 1e6,
            record.encode / 1e6,
        )
    return b"".join(templates) % tuple(values)


def _line(events: JsonFormatter, record: Request, offset: int) -> bytes:
    return events.event(record.level, _LOCATION, _message(record), _fields(record), record.ended + offset) + b"\n"


def _message(record: Request) -> str:
    took = _ms(record.ended - record.started)
    return f"{record.method} {record.path[:_PATH_LENGTH]} {record.status} in {took:.3f} ms"


def _fields(record: Request) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "trace_id": record.trace_id,
        "cold_start": record.cold_start,
        "method": record.method,
        "path": record.path[:_PATH_LENGTH],
        "status": record.status,
        "outcome": record.outcome,
        "duration_ms": _ms(record.ended - record.started),
        "request_bytes": record.received,
        "response_bytes": record.sent if record.method != "HEAD" else 0,
    }
    if record.taken:
        fields |= {"model": record.model, "version": record.version, "rows": record.rows}
        fields |= {f"{part}_ms": _ms(getattr(record, part)) for part in PHASES}
        if record.batch:
            fields["batch_rows"] = record.batch
        if record.cache:
            fields |= {"cache_ms": _ms(record.cache), "cached": record.cached}
    if record.loaded:
        fields["load_ms"] = _ms(record.loaded - record.loading)
    return fields | (record.payloads.fields() if record.payloads else {})


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)


# Control characters stand for what differs between two lines; no other text of a template holds one.
_VALUE, _COUNT, _INSIDE, _MILLISECONDS = "\1", "\2", "\3", "\4"
_PLACES = {b'"\\u0001"': b"%.3f", b'"\\u0002"': b"%d", b"\\u0003": b"%b", b"\\u0004": b"%.3f"}


@lru_cache(256)
def _template(events: JsonFormatter, method: str, path: str, model: str, version: str) -> bytes:
    fields = {
        "request_id": _INSIDE,
        "trace_id": _INSIDE,
        "cold_start": False,
        "method": method,
        "path": path,
        "status": 200,
        "outcome": "success",
        "duration_ms": _VALUE,
        "request_bytes": _COUNT,
        "response_bytes": _COUNT,
        "model": model,
        "version": version,
        "rows": _COUNT,
    }
    fields |= {f"{part}_ms": _VALUE for part in PHASES}
    head = events.head("INFO", _LOCATION, f"{method} {path} 200 in {_MILLISECONDS} ms", _INSIDE)
    template = orjson.dumps({**head, **fields}).removesuffix(b"}").replace(b"%", b"%%")
    for place, form in _PLACES.items():
        template = template.replace(place, form)
    return template
