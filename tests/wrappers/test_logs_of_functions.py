"""The log of the Lambda function: Powertools' lines, with what inferry says of each request."""

import json
import logging
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from inferry.observability.access_log import Request
from inferry.settings import Settings

from functions import logs

POWERTOOLS = "aws_lambda_powertools.logging.formatter"
EVENTS = Path(__file__).parents[2] / "events"


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


TRACE = "1-5759e988-bd862e3fe1be46a994272793"
HEADER = f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_request_has_its_line(
    function: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", HEADER)
    called = function(LOG_FORMAT="json", APP_NAME="mine", LOG_LEVEL="INFO")
    given = event("http-api")
    assert called(given)["statusCode"] == 200
    (line,) = [line for line in lines(capsys.readouterr().err) if "status" in line]
    assert {name: line[name] for name in ("level", "service", "request_id", "trace_id", "status", "cold_start")} == {
        "level": "INFO",
        "service": "mine",
        "request_id": given["requestContext"]["requestId"],
        "trace_id": TRACE,
        "status": 200,
        "cold_start": True,
    }
    assert line["xray_trace_id"] == line["trace_id"]


class Theirs(logging.Handler):
    """What Powertools makes of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LambdaPowertoolsFormatter(service="mine"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.mark.parametrize("trace", ["", HEADER, "Root=1-a", "Sampled=0"])
@pytest.mark.parametrize("parts", [None, (1_000_000, 2_000, 3_000, 4_000)])
def test_lines_without_a_record_are_as_powertools_has_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trace: str, parts: tuple[int, ...] | None
) -> None:
    """Field by field, in their order."""
    monkeypatch.setenv("_X_AMZN_TRACE_ID", trace)
    seen = Request("POST", "/v2/models/m/infer", "42", "1-a", 1_000_000_000)
    seen.status, seen.ended = 200, 1_005_000_000
    if parts:
        seen.model, seen.version, seen.taken = "m", "2", 1_001_000_000
        seen.decode, seen.queue, seen.infer, seen.encode = parts
    logs.configure(Settings(log_format="json", app_name="mine"))
    log = logging.getLogger("inferry")
    seen.write()
    log.warning("a record")
    log.handlers = [theirs := Theirs()]
    seen.write()
    log.warning("a record")
    ours = capsys.readouterr().err.splitlines()
    assert [fields(line) for line in ours] == [fields(line) for line in theirs.lines]


def fields(line: str) -> list[tuple[str, Any]]:
    moving = {"timestamp": "", "location": ""}
    return [(name, moving.get(name, value)) for name, value in json.loads(line).items()]


def test_powertools_comes_with_the_first_record(
    function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request that goes well pays for no import."""
    called = function(LOG_FORMAT="json", LOG_LEVEL="WARNING")
    monkeypatch.delitem(sys.modules, POWERTOOLS, raising=False)
    assert called(event("http-api"))["statusCode"] == 200
    assert POWERTOOLS not in sys.modules
    logging.getLogger("inferry").warning("a record")
    assert POWERTOOLS in sys.modules
    assert lines(capsys.readouterr().err)[-1]["message"] == "a record"


def test_nothing_brings_the_sdk_of_x_ray() -> None:
    """Neither inferry with all its extras nor what they need: the id of the trace is in a variable."""
    needed, more = set(), {"inferry"}
    while more:
        needed |= more
        lines = [line for name in more for line in requires_of(name) if name == "inferry" or "extra ==" not in line]
        more = {re.split(r"[^\w.-]", line)[0].lower() for line in lines} - needed
    assert {"aws-lambda-powertools", "mangum", "onnxruntime"} <= needed
    assert not any("xray" in name for name in needed)


def requires_of(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # of another platform or Python
        return []


def test_text_is_the_default(function: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert function()(event("http-api"))["statusCode"] == 200
    assert "request_id" not in capsys.readouterr().err
