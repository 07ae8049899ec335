"""Prometheus' configuration, rules and alerts, judged by promtool; each alert fires in a test, and is quiet in one."""

import re

import pytest
from files import FOLDER, ROOT, RULE_TESTS, RULES, accepted, read, rule_tests, rules
from inferry.observability.catalogue import CATALOGUE

# Of other programs: Prometheus itself, and its CloudWatch exporter.
OTHERS = {"up", "aws_sqs_approximate_number_of_messages_visible_average"}


def test_configuration() -> None:
    accepted("promtool", "check", "config", FOLDER / "prometheus.yml")
    jobs = read("prometheus.yml")["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["prometheus", "inferry", "node-exporter", "cadvisor"]


def test_rules() -> None:
    accepted("promtool", "check", "rules", *RULES)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_behaviour(path: str) -> None:
    accepted("promtool", "test", "rules", path)


def test_every_alert_is_tested() -> None:
    tests = list(rule_tests("alert_rule_test"))
    assert {test["alertname"] for test in tests if test["exp_alerts"]} == rules("alert").keys()
    assert {test["alertname"] for test in tests if not test["exp_alerts"]} == rules("alert").keys()


def test_every_recording_rule_is_tested() -> None:
    assert {test["expr"] for test in rule_tests("promql_expr_test")} == rules("record").keys()


def test_names_are_the_catalogues() -> None:
    """A metric that was renamed would leave a rule that can't fire."""
    known = {metric.name for metric in CATALOGUE} | {f"{metric.name}_bucket" for metric in CATALOGUE} | OTHERS
    expressions = " ".join(rule["expr"] for kind in ("alert", "record") for rule in rules(kind).values())
    used = set(re.findall(r"\b(?:inferry|aws|up)(?:_\w+)?\b(?=[{\[)])", re.sub(r"job_model:\S+", "", expressions)))
    assert used <= known
    assert len(used) > 10


@pytest.mark.parametrize("alert", rules("alert"))
def test_alert_is_described(alert: str) -> None:
    rule = rules("alert")[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary"}
    assert f"| `{alert}` | {rule['labels']['severity']} |" in (ROOT / "docs" / "monitoring.md").read_text()
