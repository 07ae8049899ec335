"""Alertmanager's example, judged by amtool: who hears of what."""

import pytest
from files import FOLDER, accepted, read, rules

CONFIG = FOLDER / "alertmanager.yml"
RECEIVERS = {"page": "on-call", "ticket": "team"}


def test_configuration() -> None:
    accepted("amtool", "check-config", CONFIG)


@pytest.mark.parametrize("alert", rules("alert"))
def test_routes(alert: str) -> None:
    severity = rules("alert")[alert]["labels"]["severity"]
    labels = (f"alertname={alert}", f"severity={severity}", "job=inferry", "model=digits")
    printed = accepted("amtool", "config", "routes", "test", f"--config.file={CONFIG}", *labels)
    assert printed.split() == [RECEIVERS[severity]]


def test_inhibitions_name_alerts() -> None:
    sources = [matcher for rule in read("alertmanager.yml")["inhibit_rules"] for matcher in rule["source_matchers"]]
    assert {matcher.split('"')[1] for matcher in sources} <= rules("alert").keys()
