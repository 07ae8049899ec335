"""The log as JSON: Powertools' names, whatever a line holds."""

import json
import logging
import re
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from inferry.observability import logs
from inferry.observability.logs import JsonFormatter
from inferry.settings import Settings

OURS = JsonFormatter("inferry")


def record(message: str = "a message", exc: Exception | None = None, **extra: Any) -> logging.LogRecord:
    info = (type(exc), exc, exc.__traceback__) if exc else None
    made = logging.LogRecord("inferry", logging.INFO, "file.py", 7, message, (), info, "function")
    vars(made).update(extra)
    return made


def test_a_line() -> None:
    line = json.loads(OURS.format(record(request_id="1", rows=3)))
    timestamp = line.pop("timestamp")
    assert line == {
        "level": "INFO",
        "location": "function:7",
        "message": "a message",
        "service": "inferry",
        "request_id": "1",
        "rows": 3,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}[+-]\d{4}", timestamp)


def failure() -> Exception:
    try:
        raise RuntimeError("why")
    except RuntimeError as exc:
        return exc


@pytest.mark.parametrize("given", [record(), record(request_id="1", rows=3), record(exc=failure())])
def test_it_reads_as_that_of_powertools(given: logging.LogRecord) -> None:
    theirs = json.loads(LambdaPowertoolsFormatter(service="inferry", log_record_order=["level"]).format(given))
    theirs.pop("stack_trace", None)
    assert json.loads(OURS.format(given)) == theirs


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"value": float("nan")}, None),
        ({"value": {1: "one"}}, {"1": "one"}),
        ({"value": object}, "<class 'object'>"),
        ({"value": "\ud800"}, r"'\ud800'"),
        ({"value": 2**70}, str(2**70)),
        ({"value": "a\nb"}, "a\nb"),
    ],
)
def test_whatever_a_line_holds(extra: dict[str, Any], expected: Any) -> None:
    text = OURS.format(record(**extra))
    assert "\n" not in text
    assert json.loads(text)["value"] == expected


def test_a_host_brings_its_own_formatter(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    logs.configure(Settings(log_format="json"), logging.Formatter("theirs: %(message)s"))
    logging.getLogger("inferry").info("a message")
    assert capsys.readouterr().err == "theirs: a message\n"
    assert caplog.messages == []  # handlers at the root would write it once more


def test_a_host_that_takes_messages(caplog: pytest.LogCaptureFixture) -> None:
    """Its handlers are at the root; a line goes through them whole, once."""
    logs.configure(Settings(log_format="json", app_name="mine"), hosted=True)
    log = logging.getLogger("inferry")
    log.warning("%s of %s", 1, 2, extra={"request_id": "7"})
    log.error("failed", exc_info=failure())
    first, second = [json.loads(message) for message in caplog.messages]
    assert (first["message"], first["level"], first["service"], first["request_id"]) == (
        "1 of 2",
        "WARNING",
        "mine",
        "7",
    )
    assert (second["message"], second["exception_name"]) == ("failed", "RuntimeError")
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
    assert log.propagate
    assert log.handlers == []


@pytest.mark.parametrize(("settings", "level"), [({"log_level": "ERROR"}, "ERROR"), ({"debug": True}, "DEBUG")])
@pytest.mark.parametrize("form", ["text", "json"])
def test_level(form: str, settings: dict[str, Any], level: str) -> None:
    logs.configure(Settings(log_format=form, **settings))
    assert logging.getLevelName(logging.getLogger("inferry").level) == level


FORGED = "a\n2026-01-01 00:00:00,000 INFO inferry: all is well\r\x1b[2J\u2028\x9b\u202eb"
SHOWN = r"a\n2026-01-01 00:00:00,000 INFO inferry: all is well\r\x1b[2J\u2028\x9b\u202eb"


def test_what_a_name_holds_stays_in_its_line() -> None:
    assert logs.printable(FORGED) == SHOWN
    assert logs.printable("gr\u00fcn \u2713 'a'\\n") == "gr\u00fcn \u2713 'a'\\n"


@pytest.mark.parametrize("hosted", [False, True])
def test_a_text_log_can_not_be_forged(caplog: pytest.LogCaptureFixture, hosted: bool) -> None:
    """Not by the names in a model file, nor by what an exception says."""
    logs.configure(Settings(), hosted=hosted)
    try:
        raise ValueError(FORGED)
    except ValueError:
        logs.log.exception("input '%s' of model", FORGED)
    logs.log.info("plain %d", 7)
    first, second = caplog.text.splitlines()[0], caplog.text.splitlines()[-1]
    assert first.endswith(f"input '{SHOWN}' of model")
    assert second.endswith("plain 7")
    between = caplog.text.splitlines()[1:-1]
    assert len(between) >= 4
    assert all(line.startswith("  ") for line in between)
    assert "\x1b" not in caplog.text
