"""The log as JSON, an object per line, with the names that Powertools Logger has for the same things."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import lru_cache
from itertools import islice
from typing import Any, TextIO

import orjson

from inferry.settings import Settings

log = logging.getLogger("inferry")

# Bytes that a pipe takes in one piece, pipe(7).
_PIPE_BUF = 4096
# Of the loggers whose lines are ours to format.
LOGGERS = (log.name, "uvicorn", "uvicorn.access")
# Whatever a record has behind what it is made with, and what formatters add, was given to it as `extra`.
_MADE_WITH = len(vars(logging.makeLogRecord({})))
_ADDED = ("message", "asctime", "taskName", "color_message")


class JsonFormatter(logging.Formatter):
    """`level`, `location`, `message`, `timestamp`, `service`, the record's `extra`, and the exception if any."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line; what JSON can't hold is written as Python shows it."""
        line = self.head(
            record.levelname,
            f"{record.funcName}:{record.lineno}",
            record.getMessage(),
            timestamp(int(record.created * 1000)),
        )
        extra = islice(vars(record).items(), _MADE_WITH, None)
        line |= {name: value for name, value in extra if name not in _ADDED}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)
            line["exception_name"] = record.exc_info[0].__name__
        return _json(line).decode()

    def event(self, level: int, location: str, message: str, fields: Mapping[str, Any]) -> bytes:
        """The line of a record that is made now, with `fields` for its `extra`, without making it."""
        head = self.head(logging.getLevelName(level), location, message, timestamp(time.time_ns() // 1_000_000))
        return _json({**head, **fields, **self.more()})

    def head(self, level: str, location: str, message: str, timestamp: str) -> dict[str, Any]:
        """What every line begins with."""
        return {
            "level": level,
            "location": location,
            "message": message,
            "timestamp": timestamp,
            "service": self._service,
        }

    def more(self) -> Mapping[str, str]:
        """What a platform's lines end with."""
        return {}


class Lines(logging.StreamHandler[TextIO]):
    """A handler that takes lines beside records, and writes those that come together by one system call."""

    def __init__(self, stream: TextIO, formatter: JsonFormatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self.events = formatter
        self._descriptor = _descriptor(stream)
        self._kept: list[bytes] = []
        self.soon: Callable[[Callable[[], None]], object] | None = None
        """Calls a function when what is at hand is done, as an event loop's `call_soon` does; None: at once."""

    def write(self, level: int, line: bytes) -> None:
        """It is written when this returns, or `soon`, but before any record. A log that is gone fails nobody."""
        kept = self._kept
        kept.append(line)
        if self.soon is None:
            self._write_kept()
        elif len(kept) == 1:
            self.soon(self._write_kept)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, behind the lines that came before it."""
        self._write_kept()
        super().emit(record)

    def flush(self) -> None:
        """Writes what is kept; `logging` asks for it at the end of the process."""
        self._write_kept()
        super().flush()

    def _write_kept(self) -> None:
        with self.lock or nullcontext():
            lines = self._kept[:]
            # Another thread may have added one meanwhile: that stays.
            del self._kept[: len(lines)]
            try:
                if self._descriptor is not None:
                    for part in _parts(lines):
                        _write(self._descriptor, part)
                elif lines:
                    self.stream.write("".join(line.decode() + self.terminator for line in lines))
                    self.stream.flush()
            except OSError:
                pass


class Rendered(logging.Filter):
    """Makes a record's message its whole line, for the handlers of a host that takes messages and nothing else."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def filter(self, record: logging.LogRecord) -> bool:
        """True: every record goes on."""
        record.msg, record.args, record.exc_info = self._formatter.format(record), None, None
        return True


class RenderedLines(Rendered):
    """Takes lines too, and hands them on in records that have nothing but their message."""

    def __init__(self, formatter: JsonFormatter) -> None:
        super().__init__(formatter)
        self.events = formatter

    def write(self, level: int, line: bytes) -> None:
        """Hands it on, in a record that has nothing but its message."""
        log.callHandlers(logging.LogRecord(log.name, level, __file__, 0, line.decode(), None, None))


# A union would be made anew at each look.
_WRITERS = (Lines, RenderedLines)


def writer() -> Lines | RenderedLines | None:
    """Who takes lines without records, which take ten times as long.

    Nobody where they have a form that isn't ours, or where somebody has added a filter or a handler to the log.
    """
    filters, handlers = log.filters, log.handlers
    if len(filters) + len(handlers) != 1:
        return None
    part = handlers[0] if handlers else filters[0]
    return part if isinstance(part, _WRITERS) else None


def together(soon: Callable[[Callable[[], None]], object]) -> None:
    """From now on lines are written `soon`, see `Lines`: waking their reader takes as long as making them."""
    if isinstance(lines := writer(), Lines):
        lines.soon = soon


def record(level: int, function: str, message: str, fields: Mapping[str, Any]) -> None:
    """Logs `message` with `fields` as `extra`."""
    # `log.log` would look for its caller in the stack, and for each field among its own.
    made = logging.LogRecord(log.name, level, __file__, 0, message, None, None, function)
    vars(made).update(fields)
    log.handle(made)


def configure(settings: Settings, formatter: logging.Formatter | None = None, *, hosted: bool = False) -> None:
    """Sets the level, and with LOG_FORMAT=json the form, of what inferry and its server log.

    Lines go to stderr, or with `hosted` through the handlers that the host has set up. `formatter` is its own for
    JSON, Powertools' for example.
    """
    log.setLevel("DEBUG" if settings.debug else settings.log_level)
    if settings.log_format == "text":
        if not hosted:
            logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        return
    formatter = formatter or JsonFormatter(settings.app_name)
    if hosted:
        log.filters = [RenderedLines(formatter) if isinstance(formatter, JsonFormatter) else Rendered(formatter)]
        return
    handler = _handler(formatter)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False


def _handler(formatter: logging.Formatter) -> logging.Handler:
    if isinstance(formatter, JsonFormatter):
        return Lines(sys.stderr, formatter)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    return handler


def _descriptor(stream: TextIO) -> int | None:
    """None for a stream that is no file."""
    try:
        return stream.fileno()
    except OSError:
        return None


def _parts(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes in one piece: those of several processes don't mix."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > _PIPE_BUF and part:
            yield b"\n".join([*part, b""])
            part, size = [], len(line) + 1
        part.append(line)
    if part:
        yield b"\n".join([*part, b""])


def _write(descriptor: int, lines: bytes) -> None:
    """All of it; a full pipe is waited for, whether or not it blocks by itself."""
    while lines:
        try:
            lines = lines[os.write(descriptor, lines) :]
        except BlockingIOError:
            import select

            select.select((), (descriptor,), ())


@lru_cache(2)
def timestamp(milliseconds: int) -> str:
    """A moment of time.time as lines have it."""
    before, zone = _second(milliseconds // 1000)
    return f"{before},{milliseconds % 1000:03d}{zone}"


@lru_cache(2)
def _second(seconds: int) -> tuple[str, str]:
    """What comes before its milliseconds, and the time's zone behind them."""
    now = time.localtime(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S", now), time.strftime("%z", now)


def _json(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, or an integer over 64 bits
        return orjson.dumps({name: ascii(value) for name, value in line.items()})
