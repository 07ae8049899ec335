"""`inferry migrate`: the tables of the request log made, brought up to date and cleaned up, once or again and again."""

import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from inferry.errors import InferryError, InvalidSettings
from inferry.observability.request_log import request_log
from inferry.settings import Settings


def run(settings: Settings, writers: list[str], every: int) -> None:
    """Prints what was done. InferryError where it can't be; `every` so many seconds, 0: once, that is said instead."""
    if not settings.request_log_url:
        raise InvalidSettings("REQUEST_LOG_URL must name the database: postgresql://owner@host/database")
    request_log.open_store(settings)  # says what is wrong with the URL, or missing
    if not every:
        _print(settings, writers)
        return
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    while not end.is_set():
        try:
            _print(settings, writers)
        except InferryError as exc:
            print(f"inferry: {exc}", file=sys.stderr, flush=True)
        end.wait(every)


def _print(settings: Settings, writers: list[str]) -> None:
    for line in _lines(settings, writers):
        print(line, flush=True)


def _lines(settings: Settings, writers: list[str]) -> Iterator[str]:
    from inferry.observability.request_log import postgres, schema

    try:
        changes = postgres.migrate(settings, writers)
    except request_log.NotWritten as exc:
        raise InferryError(str(exc)) from exc
    last = datetime.now(UTC).date() + timedelta(schema.AHEAD)
    yield f"version {changes.version}, with partitions up to {last}"
    yield from (f"added {name}" for name in changes.added)
    yield from (f"dropped {name}" for name in changes.dropped)
    yield from (f"left {name}, which somebody reads" for name in changes.in_use)
    yield from (f"granted to {role}: insert" for role in writers)
