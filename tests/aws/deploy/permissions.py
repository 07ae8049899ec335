"""Whether a stack's policies allow what its resources do to each other.

An emulated account asks no policy what its own services may do. IAM's decision is that of @cloud-copilot/iam-simulate,
a program of its own under the AGPL, which runs beside the tests and is part of nothing that is shipped.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from assemblies import ROOT
from permission_rules import RULES, Need
from resolved import ACCOUNT
from stacks import Stack

SIMULATOR = Path(__file__).with_name("simulate.mjs")
PACKAGE = ROOT / "node_modules" / "@cloud-copilot" / "iam-simulate"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/"


def needs(stack: Stack) -> list[Need]:
    return [need for rule in RULES for need in rule(stack)]


def denied(templates: Iterable[Mapping[str, Any]], others: Mapping[str, Any] | None = None) -> list[list[str]]:
    """For each template, what its policies don't allow, and why; `others` are policies of what is in none, by ARN."""
    stacks = [Stack(template, others or {}) for template in templates]
    asked = [needs(stack) for stack in stacks]
    questions = [_question(stack, need) for stack, found in zip(stacks, asked, strict=True) for need in found]
    said = iter(answers(questions))
    # Many alarms ask for the same.
    return [list(dict.fromkeys(_refused(found, said))) for found in asked]


def _refused(asked: Iterable[Need], answers: Iterator[str]) -> Iterator[str]:
    for need in asked:
        if (answer := next(answers)) != "Allowed":
            yield f"{need}: {answer}"


def _question(stack: Stack, need: Need) -> dict[str, Any]:
    is_role = isinstance(need.who, str) and need.who.startswith(ROLE)
    return {
        "request": {
            "principal": need.who,
            "action": need.action,
            "resource": {"resource": need.target, "accountId": ACCOUNT},
            "contextVariables": {"aws:SecureTransport": "true", **need.context},
        },
        "identityPolicies": stack.identities[need.who] if is_role else [],
        "resourcePolicy": need.policy or stack.policy(need.target),
        "isListed": need.is_listed,
    }


def answers(questions: list[dict[str, Any]]) -> list[str]:
    """IAM's, to each: "Allowed", or why not."""
    assert PACKAGE.exists(), "npm's @cloud-copilot/iam-simulate is missing: make test-aws installs it"
    done = subprocess.run(
        ["node", str(SIMULATOR)], input=json.dumps(questions), check=True, stdout=subprocess.PIPE, text=True
    )
    found: list[str] = json.loads(done.stdout)
    return found
