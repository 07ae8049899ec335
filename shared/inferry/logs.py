"""The log as JSON, an object per line, with the names that Powertools Logger has for the same things."""

import logging
import sys
import time
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson

from inferry.settings import Settings

# Of the loggers whose lines are ours to format.
LOGGERS = ("inferry", "uvicorn", "uvicorn.access")
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
        line: dict[str, Any] = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.getMessage(),
            "timestamp": _timestamp(record.created),
            "service": self._service,
        }
        extra = islice(vars(record).items(), _MADE_WITH, None)
        line |= {name: value for name, value in extra if name not in _ADDED}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)
            line["exception_name"] = record.exc_info[0].__name__
        return _json(line)


class Rendered(logging.Filter):
    """Makes a record's message its whole line, for the handlers of a host that takes messages and nothing else."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def filter(self, record: logging.LogRecord) -> bool:
        """True: every record goes on."""
        record.msg, record.args, record.exc_info = self._formatter.format(record), None, None
        return True


def configure(settings: Settings, formatter: logging.Formatter | None = None, *, hosted: bool = False) -> None:
    """Sets the level, and with LOG_FORMAT=json the form, of what inferry and its server log.

    Lines go to stderr, or with `hosted` through the handlers that the host has set up. `formatter` is its own for
    JSON, Powertools' for example.
    """
    log = logging.getLogger("inferry")
    log.setLevel("DEBUG" if settings.debug else settings.log_level)
    formatter = formatter or JsonFormatter(settings.app_name)
    if settings.log_format == "text":
        if not hosted:
            logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    elif hosted:
        log.filters = [Rendered(formatter)]
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter)
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers = [handler]
            logger.propagate = False


def _timestamp(seconds: float) -> str:
    whole = int(seconds)
    return _second(whole) % int((seconds - whole) * 1000)


@lru_cache(2)
def _second(seconds: int) -> str:
    now = time.localtime(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S,%%03d%z", now)


def _json(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer over 64 bits
        return orjson.dumps({name: ascii(value) for name, value in line.items()}).decode()
