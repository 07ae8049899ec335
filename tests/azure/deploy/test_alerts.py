"""The alerts that Azure Monitor evaluates are those of deploy/monitoring, as Terraform reads them."""

import json
import re

import pytest
import yaml
from configuration import FOLDER, ROOT, sources, terraform

RULES = ROOT / "deploy" / "monitoring" / "rules"
# Azure's limit for one group.
MOST_RULES = 20


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """The local `rule_groups` of rules.tf as Terraform evaluates it, and the durations as the resource writes them."""
    folder = tmp_path_factory.mktemp("root") / FOLDER.relative_to(ROOT)
    folder.mkdir(parents=True)
    (folder.parents[1] / "monitoring").symlink_to(RULES.parent)
    local = re.search(r"(?ms)^locals \{.*?^\}\n", sources()["rules.tf"])
    assert local
    output = """
    output "groups" {
      value = { for name, rules in local.rule_groups : name => [
        for rule in rules : {
          name     = try(rule.record, rule.alert)
          for      = try("PT${upper(rule.for)}", null)
          severity = try(local.severities[rule.labels.severity], null)
        }
      ] }
    }
    """
    (folder / "rules.tf").write_text(local[0] + output)
    for command in (["init"], ["apply", "-auto-approve"]):
        done = terraform(*command, folder=folder)
        assert done.returncode == 0, done.stderr
    return dict(json.loads(terraform("output", "-json", "groups", folder=folder).stdout))


def test_groups(groups: dict[str, list[dict[str, object]]]) -> None:
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


def test_groups_are_small_enough(groups: dict[str, list[dict[str, object]]]) -> None:
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
