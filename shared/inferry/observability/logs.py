"""The log as JSON, an object per line, with the names that Powertools Logger has for the same things."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Protocol, TextIO

import orjson

from inferry.settings import Settings

log = logging.getLogger("inferry")

# The lines that wait for each other. While there is one, and up to MOST, the next may be put there whatever the level,
# filters and handlers of the log are meanwhile: looking at them takes 2 us (Python 3.11; the row "the same, with its
# line of JSON" of `make bench`), three times as long as making a line.
waiting: list["Line"] = []

# Bytes that a pipe takes in one piece, pipe(7).
_PIPE_BUF = 4096
# Lines that wait for each other: with usual ones, what a pipe has room for while its reader wakes up.
MOST = 100
# Of the loggers whose lines are ours to format.
LOGGERS = (log.name, "uvicorn", "uvicorn.access")
# Whatever a record has behind what it is made with, and what formatters add, was given to it as `extra`.
_MADE_WITH = len(vars(logging.makeLogRecord({})))
_ADDED = ("message", "asctime", "taskName", "color_message")


class Line(Protocol):
    """What a line is made of when it is written. A log has one kind of them."""

    @property
    def level(self) -> int:
        """The level of the line, as a number of `logging`."""

    @staticmethod
    def text(events: "JsonFormatter", some: Sequence[Any]) -> bytes:
        """The lines of `some` of this kind, each with its end."""


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

    def event(self, level: int, location: str, message: str, fields: Mapping[str, Any], now: int) -> bytes:
        """The line of a record with `fields` for its `extra`, made `now` (of time.time_ns), without making it."""
        head = self.head(logging.getLevelName(level), location, message, timestamp(now // 1_000_000))
        return _json({**head, **fields, **self.more()})

    def head(self, level: str, location: str, message: str, timestamp: str) -> dict[str, Any]:
        """The members that every line begins with."""
        return {
            "level": level,
            "location": location,
            "message": message,
            "timestamp": timestamp,
            "service": self._service,
        }

    def more(self) -> Mapping[str, str]:
        """The members that every line ends with, where a platform has its own, such as a trace of X-Ray."""
        return {}


class Lines(logging.StreamHandler[TextIO]):
    """A handler that takes lines beside records, and makes and writes those that come within a moment together."""

    def __init__(self, stream: TextIO, formatter: JsonFormatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self.events = formatter
        self._descriptor = _descriptor(stream)
        self._kept: list[Line] = []
        self.soon: Callable[[Callable[[], None]], object] | None = None
        """Calls a function a moment later, as an event loop's `call_later` does; None: lines are written at once."""
        self._due = False

    def add(self, line: Line) -> None:
        """The line is written when this returns, or made and written `soon`.

        It comes before any record that is later. A log that is gone fails nobody.
        """
        kept = self._kept
        kept.append(line)
        if self.soon is None or len(kept) >= MOST:
            self._write_kept()
        elif not self._due:
            self._due = True
            _wait(kept)
            self.soon(self._write_due)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, behind the lines that came before it."""
        self._write_kept()
        super().emit(record)

    def flush(self) -> None:
        """Writes what is kept; `logging` asks for it at the end of the process."""
        self._write_kept()
        super().flush()

    def _write_due(self) -> None:
        self._due = False
        self._write_kept()

    def _write_kept(self) -> None:
        with self.lock or nullcontext():
            kept = self._kept[:]
            # Another thread may have added one meanwhile: that stays.
            del self._kept[: len(kept)]
            if kept:
                self._write(kept[0].text(self.events, kept))

    def _write(self, text: bytes) -> None:
        try:
            if self._descriptor is not None:
                for part in _parts(text):
                    _write(self._descriptor, part)
            else:
                self.stream.write(text.decode())
                self.stream.flush()
        except OSError:
            pass


def _wait(kept: list[Line]) -> None:
    global waiting
    waiting = kept


# What ends a line, moves a terminal's cursor or turns text around, each as Python's literals have it.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _CONTROLS}


def printable(text: str) -> str:
    """`text` in one line that shows what is in it: names come from model files and requests."""
    return text.translate(_ESCAPES)


class Escaped(logging.Filter):
    """Keeps a text log's records to a line each: the lines of a traceback, which may say anything, are indented."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record in place, and returns True: every record is logged."""
        message = record.getMessage()
        if (escaped := printable(message)) != message:
            record.msg, record.args = escaped, None
        if record.exc_info and record.exc_info[0]:
            lines = logging.Formatter().formatException(record.exc_info).splitlines()
            record.exc_text = "\n".join(f"  {printable(line)}" for line in lines)
        return True


class Rendered(logging.Filter):
    """Makes a record's message its whole line, for the handlers of a platform that takes messages and nothing else."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record in place, and returns True: every record is logged."""
        record.msg, record.args, record.exc_info = self._formatter.format(record), None, None
        return True


class RenderedLines(Rendered):
    """Takes lines too, and hands them on in records that have nothing but their message."""

    def __init__(self, formatter: JsonFormatter) -> None:
        super().__init__(formatter)
        self.events = formatter

    def add(self, line: Line) -> None:
        """Hands on the line in a record that has nothing but its message."""
        message = line.text(self.events, [line]).decode().removesuffix("\n")
        log.callHandlers(logging.LogRecord(log.name, line.level, __file__, 0, message, None, None))


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


def together(soon: Callable[[Callable[[], None]], object] | None) -> None:
    """From now on lines are written `soon`, see `Lines`: waking their reader takes as long as making them."""
    if isinstance(lines := writer(), Lines):
        lines.soon = soon
        if soon is None:
            lines.flush()


def _flush() -> None:
    if isinstance(lines := writer(), Lines):
        lines.flush()


# What waits is written once, and by a process that runs what writes it.
os.register_at_fork(before=_flush, after_in_child=partial(together, None))


def record(level: int, function: str, message: str, fields: Mapping[str, Any]) -> None:
    """Logs `message` with `fields` as `extra`."""
    # `log.log` would look for its caller in the stack, and for each field among its own.
    made = logging.LogRecord(log.name, level, __file__, 0, message, None, None, function)
    vars(made).update(fields)
    log.handle(made)


def configure(settings: Settings, formatter: logging.Formatter | None = None, *, hosted: bool = False) -> None:
    """Sets the level, and with LOG_FORMAT=json the form, of what inferry and its server log.

    Lines go to stderr, or with `hosted` through the handlers that the platform has set up. `formatter` is its own for
    JSON, Powertools' for example.
    """
    _flush()
    log.setLevel("DEBUG" if settings.debug else settings.log_level)
    if settings.log_format == "text":
        log.filters = [Escaped()]
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
    """The file descriptor of a stream, None for one that is no file."""
    try:
        return stream.fileno()
    except OSError:
        return None


def _parts(text: bytes) -> Iterator[memoryview]:
    """Whole lines, as many as a pipe takes in one piece: those of several processes don't mix."""
    start = 0
    with memoryview(text) as view:
        while start < len(text):
            end = text.rfind(b"\n", start, start + _PIPE_BUF) + 1 or text.index(b"\n", start) + 1
            yield view[start:end]
            start = end


def _write(descriptor: int, lines: memoryview) -> None:
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
