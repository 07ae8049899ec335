"""What deploy/monitoring holds, and the programs that judge it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from contract.timeseries import need

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = sorted(FOLDER.glob("rules/*.yml"))
RULE_TESTS = sorted(FOLDER.glob("tests/*.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """All rules of a kind, `alert` or `record`, by their name."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def expression(rule: dict[str, Any]) -> str:
    """The rule's expression, with those of the recording rules that it names in their places."""
    recorded = {name: f"({other['expr']})" for name, other in rules("record").items() if "1d" not in other["expr"]}
    return re.sub(r"job(?:_model)?:\w+:\w+", lambda found: recorded.get(found[0], found[0]), rule["expr"])


def rule_tests(kind: str) -> Iterator[dict[str, Any]]:
    """The single tests of a kind, `alert_rule_test` or `promql_expr_test`, of all files."""
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            yield from test.get(kind, ())


def accepted(*command: str | Path) -> str:
    """What the program prints; it must accept."""
    need({"amtool": "prometheus-alertmanager"}.get(Path(command[0]).name, "prometheus"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
