"""cdk-nag, cfn-lint, and the least that every role needs."""

import json
from pathlib import Path
from typing import Any

import pytest
from assemblies import Assembly
from aws_cdk import App, Stack, Validations
from aws_cdk.aws_s3 import Bucket
from cdk_nag import AwsSolutionsChecks
from linting import lint

EXECUTIONS = (
    "IAM5[Resource::arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:"
    "<BatchRunsMachineEAAAD697.Name>:*]"
)
EC2 = "arn:<AWS::Partition>:ec2:<AWS::Region>"
# What may be accepted, and where; a new finding is a decision, not a line that is copied.
ACKNOWLEDGED = {
    "dev": {
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Function", "@aws-cdk/aws-lambda:snapStartRequirePublish"),
        ("Rollout", "IAM5[Resource::*]"),
    },
    "prod": {
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Check", "IAM5[Resource::<ModelsBucket970C6ADA.Arn>/models/*]"),
        ("Function", "IAM5[Resource::*]"),
        ("Function", "IAM5[Resource::<ModelsBucket970C6ADA.Arn>/models/*]"),
        ("Models", "S1"),
        ("Rollout", "IAM5[Resource::*]"),
    },
    "open": {
        ("Api", "APIG4"),
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Function", "IAM5[Resource::*]"),
        ("Function", "IAM5[Resource::arn:<AWS::Partition>:s3:::tensors/in/*]"),
        ("Rollout", "IAM5[Resource::*]"),
    },
    "batch": {
        ("Api", "APIG4"),
        ("Batch", "IAM5[Resource::*]"),
        ("Batch", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/input/*]"),
        ("Batch", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/output/*.inferry/runs/*]"),
        ("Batch", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/output/*]"),
        ("Batch", "IAM5[Resource::<ModelsBucket970C6ADA.Arn>/models/*]"),
        ("Batch", EXECUTIONS),
        ("Batch", "SF1"),
        ("Data", "S1"),
        ("Function", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/input/requests/*]"),
        ("Function", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/output/requests/*]"),
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Check", "IAM5[Resource::<ModelsBucket970C6ADA.Arn>/models/*]"),
        ("Function", "@aws-cdk/aws-lambda:snapStartRequirePublish"),
        ("Function", "IAM5[Resource::*]"),
        ("Function", "IAM5[Resource::<ModelsBucket970C6ADA.Arn>/models/*]"),
        ("Models", "S1"),
        ("Rollout", "IAM5[Resource::*]"),
    },
    "runs": {
        ("Batch", "IAM5[Resource::*]"),
        ("Batch", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/input/*]"),
        ("Batch", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/output/*.inferry/runs/*]"),
        ("Batch", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/output/*]"),
        ("Batch", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/in/*.inferry/runs/*]"),
        ("Batch", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/in/*]"),
        ("Batch", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/out/*.inferry/runs/*]"),
        ("Batch", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/out/*]"),
        ("Batch", EXECUTIONS),
        ("Batch", "SF1"),
        ("Batch", "SF2"),
        ("Data", "S1"),
        ("Function", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/input/requests/*]"),
        ("Function", "IAM5[Resource::<DataBucketE6B0FAA8.Arn>/output/requests/*]"),
        ("Function", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/in/*]"),
        ("Function", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/out/*]"),
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Function", "@aws-cdk/aws-lambda:snapStartRequirePublish"),
        ("Rollout", "IAM5[Resource::*]"),
    },
    "network": {
        ("Api", "APIG2"),
        ("Api", "APIG6"),
        ("Api", "COG4"),
        ("Batch", "IAM5[Resource::*]"),
        ("Batch", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/input/*]"),
        ("Batch", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/output/*.inferry/runs/*]"),
        ("Batch", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/output/*]"),
        ("Batch", EXECUTIONS),
        ("Batch", "SF1"),
        ("Check", "IAM5[Resource::*]"),
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Function", "@aws-cdk/aws-lambda:snapStartRequirePublish"),
        ("Function", "IAM5[Resource::*]"),
        ("Function", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/input/requests/*]"),
        ("Function", "IAM5[Resource::arn:<AWS::Partition>:s3:::lake/output/requests/*]"),
        ("Rollout", "IAM5[Resource::*]"),
    },
    "instances": {
        ("Check", "IAM5[Resource::*]"),
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Function", "IAM5[Resource::*]"),
        *(("Function", f"IAM5[Resource::{EC2}:<AWS::AccountId>:{kind}/*]") for kind in ("instance", "volume")),
        ("Function", f"IAM5[Resource::{EC2}:<AWS::AccountId>:network-interface/*]"),
        ("Function", f"IAM5[Resource::{EC2}:*:image/*]"),
        ("Rollout", "IAM5[Resource::*]"),
    },
    "keys": {
        ("Api", "APIG4"),
        ("ApiKeys", "SMG4"),
        ("Check", "IAM5[Resource::<FunctionHandlerB180C98D.Arn>:*]"),
        ("Function", "@aws-cdk/aws-lambda:snapStartRequirePublish"),
        ("Rollout", "IAM5[Resource::*]"),
    },
}


def acknowledged(item: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = item.get("Metadata", {}).get("cdk_nag", {}).get("rules_to_suppress", [])
    return found


def construct(item: dict[str, Any]) -> str:
    """The part of the stack that a resource is in."""
    return str(item["Metadata"]["aws:cdk:path"]).split("/")[1]


@pytest.mark.parametrize("variant", ACKNOWLEDGED)
def test_nag(assemblies: dict[str, Assembly], variant: str) -> None:
    """No finding is open, of the CDK's own rules neither; the accepted ones are these, each with its reason."""
    report = json.loads((assemblies[variant].folder / "validation-report.json").read_text())
    assert report["pluginReports"] == []
    resources = assemblies[variant].resources().values()
    rules = [(construct(item), rule) for item in resources for rule in acknowledged(item)]
    assert {(part, rule["id"].removeprefix("AwsSolutions-")) for part, rule in rules} == ACKNOWLEDGED[variant]
    assert all(len(rule["reason"].split()) >= 5 for _, rule in rules)


def test_nag_would_say_so(tmp_path: Path) -> None:
    app = App(outdir=str(tmp_path))
    Bucket(Stack(app, "careless"), "Bucket")
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text())
    assert "AwsSolutions-S1" in json.dumps(report)


def test_cfn_lint(assembly: Assembly) -> None:
    assert lint([assembly.template_file]) == ""


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_no_action_has_a_wildcard(assembly: Assembly) -> None:
    actions = {action for _, statement in assembly.statements() for action in listed(statement["Action"])}
    assert actions
    assert [action for action in actions if "*" in action] == []


def test_a_resource_with_a_wildcard_has_its_reason(assembly: Assembly) -> None:
    for name, statement in assembly.statements():
        wild = [resource for resource in listed(statement["Resource"]) if "*" in json.dumps(resource)]
        reasons = [rule["reason"] for rule in acknowledged(assembly.resources()[name])]
        assert not wild or reasons, (name, wild)


def test_no_role_has_a_managed_policy(assembly: Assembly) -> None:
    """But the CDK's own, which empties buckets before they are deleted, where there is one."""
    roles = assembly.resources("AWS::IAM::Role")
    managed = [name for name, role in roles.items() if "ManagedPolicyArns" in role["Properties"]]
    assert [name for name in managed if not name.startswith("CustomS3AutoDeleteObjects")] == []


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("dev", {"logs:CreateLogStream", "logs:PutLogEvents"}),
        (
            "prod",
            {
                "logs:CreateLogStream",
                "logs:PutLogEvents",
                "s3:GetObject",
                "s3:ListBucket",
                "xray:PutTelemetryRecords",
                "xray:PutTraceSegments",
            },
        ),
        (
            "open",
            {
                "aps:RemoteWrite",
                "logs:CreateLogStream",
                "logs:PutLogEvents",
                "s3:GetObject",
                "s3:PutObject",
                "xray:PutTelemetryRecords",
                "xray:PutTraceSegments",
            },
        ),
    ],
)
def test_what_the_function_may_do(assemblies: dict[str, Assembly], variant: str, expected: set[str]) -> None:
    found = [s for name, s in assemblies[variant].statements() if name.startswith("FunctionRole")]
    assert {action for statement in found for action in listed(statement["Action"])} == expected


def test_only_the_function_reads_the_secret(keys: Assembly) -> None:
    [secret] = keys.resources("AWS::SecretsManager::Secret")
    readers = {
        n[: n.index("Role")]: s["Resource"] for n, s in keys.statements() if "secretsmanager" in str(s["Action"])
    }
    assert readers == {"Function": {"Ref": secret}}
