"""The alerts that Azure Monitor evaluates are those of deploy/monitoring, as Terraform reads them."""

import re
from typing import Any

import pytest
import yaml
from configuration import ROOT, given, sources
from evaluation import evaluated

RULES = ROOT / "deploy" / "monitoring" / "rules"
# Azure's limit for one group.
MOST_RULES = 20
# The local that the resource goes through, with the resource's own expressions.
GROUPS = """{
  for name, rules in local.rule_groups : name => [
    for rule in rules : {
      name     = try(rule.record, rule.alert)
      for      = try("PT${upper(rule.for)}", null)
      severity = try(local.severities[rule.labels.severity], null)
    }
  ]
}"""


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("groups")
    return dict(evaluated(folder, given("dev"), {"groups": GROUPS})["groups"])


def test_groups(groups: dict[str, Any]) -> None:
    severities = {"page": 1, "ticket": 3}
    found = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    assert groups == {
        group["name"]: [
            {
                "name": rule.get("record") or rule["alert"],
                "for": f"PT{rule['for'].upper()}" if "for" in rule else None,
                "severity": severities[rule["labels"]["severity"]] if "labels" in rule else None,
            }
            for rule in group["rules"]
        ]
        for group in found
    }


def test_groups_are_small_enough(groups: dict[str, Any]) -> None:
    assert all(len(rules) <= MOST_RULES for rules in groups.values())
    assert all(
        re.fullmatch(r"PT\d+[MH]", str(rule["for"])) for rules in groups.values() for rule in rules if rule["for"]
    )


def test_the_resource_reads_them() -> None:
    """The expressions above are the resource's own."""
    text = re.sub(r" +", " ", sources()["rules.tf"])
    for expression in (
        'for = try("PT${upper(rule.value.for)}", null)',
        "severity = try(local.severities[rule.value.labels.severity], null)",
        "expression = rule.value.expr",
    ):
        assert expression in text
