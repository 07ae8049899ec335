"""checkov's policies over the configuration; whatever is skipped has its reason beside it."""

import json
import re
import subprocess
from typing import Any

import pytest
from configuration import FOLDER, ROOT, sources

CHECKOV = ROOT / ".tools" / "checkov" / "bin" / "checkov"

# Its parser takes the argument `for` of a rule for an expression. The file has a group of rules and nothing else, for
# which there is no policy.
UNREADABLE = [str(FOLDER / "rules.tf")]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    if not CHECKOV.exists():
        pytest.skip("checkov is missing: make test-azure installs it")
    command = [str(CHECKOV), "--skip-download", "--compact", "--framework", "terraform", "--output", "json"]
    done = subprocess.run([*command, "--directory", FOLDER], capture_output=True, text=True, timeout=120)
    return dict(json.loads(done.stdout))


def test_nothing_fails(report: dict[str, Any]) -> None:
    failed = report["results"]["failed_checks"]
    assert [(check["check_id"], check["resource"], check["check_name"]) for check in failed] == []
    assert report["results"]["parsing_errors"] == UNREADABLE
    assert report["summary"]["passed"] > 20


def test_every_skip_has_a_reason_and_a_use(report: dict[str, Any]) -> None:
    skips = re.findall(r"#checkov:skip=(\w+)(?:: *(.*))?", "\n".join(sources().values()))
    assert all(len(reason.split()) >= 3 for _, reason in skips)
    assert {check for check, _ in skips} == {check["check_id"] for check in report["results"]["skipped_checks"]}
