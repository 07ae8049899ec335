"""The log of the Lambda function: Powertools' lines, with what inferry says of each request."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

EVENTS = Path(__file__).parents[2] / "events"


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def test_a_request_has_a_line_of_powertools(
    function: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
    called = function(LOG_FORMAT="json", APP_NAME="mine", LOG_LEVEL="INFO")
    (handler,) = logging.getLogger("inferry").handlers
    assert isinstance(handler.formatter, LambdaPowertoolsFormatter)
    given = event("http-api")
    assert called(given)["statusCode"] == 200
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if "status" in line]
    assert {name: line[name] for name in ("level", "service", "request_id", "trace_id", "status", "cold_start")} == {
        "level": "INFO",
        "service": "mine",
        "request_id": given["requestContext"]["requestId"],
        "trace_id": "1-5759e988-bd862e3fe1be46a994272793",
        "status": 200,
        "cold_start": True,
    }
    assert line["xray_trace_id"] == line["trace_id"]


def test_text_is_the_default(function: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert function()(event("http-api"))["statusCode"] == 200
    assert "request_id" not in capsys.readouterr().err
