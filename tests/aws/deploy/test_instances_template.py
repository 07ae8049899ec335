"""Managed Instances in the template. MiniStack has none; tests/wrappers/test_managed_instances.py has the processes."""

import json
from typing import Any

import pytest
from assemblies import Assembly
from moto.iam.aws_managed_policies import aws_managed_policies_data
from resolved import resolved
from stacks import Stack
from templates import FUNCTION


@pytest.fixture
def instances(assemblies: dict[str, Assembly]) -> Assembly:
    return assemblies["instances"]


def own(assembly: Assembly, kind: str, start: str = "") -> dict[str, Any]:
    """The properties of the only resource of its kind, as an account has them."""
    [found] = [
        item["Properties"]
        for name, item in resolved(assembly.template).items()
        if item["Type"] == f"AWS::{kind}" and name.startswith(start)
    ]
    properties: dict[str, Any] = found
    return properties


def test_the_provider(instances: Assembly) -> None:
    found = own(instances, "Lambda::CapacityProvider")
    assert found["VpcConfig"] == {
        "SubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        "SecurityGroupIds": ["sg-0123456789abcdef0"],
    }
    assert found["InstanceRequirements"] == {
        "Architectures": ["arm64"],
        "AllowedInstanceTypes": ["m7g.large", "c7g.xlarge"],
    }
    assert found["CapacityProviderScalingConfig"] == {"MaxVCpuCount": 48, "ScalingMode": "Auto"}
    tags = {tag["Key"]: tag["Value"] for tag in found["PropagateTags"]["ExplicitTags"]}
    assert tags == {"Environment": "dev", "Project": "inferry", "ManagedBy": "cdk", "team": "ml"}


def test_the_function(instances: Assembly) -> None:
    """It has the provider's network, and a process for each request; the version that nobody calls runs nowhere."""
    given = own(instances, "Lambda::Function", "FunctionHandler")
    config = given["CapacityProviderConfig"]["LambdaManagedInstancesCapacityProviderConfig"]
    assert ":capacity-provider:" in config.pop("CapacityProviderArn")
    assert config == {"ExecutionEnvironmentMemoryGiBPerVCpu": 2, "PerExecutionEnvironmentMaxConcurrency": 2}
    assert (given["PublishToLatestPublished"], "VpcConfig" in given, "SnapStart" in given) == (False, False, False)
    variables = instances.only(FUNCTION, "FunctionHandler")["Environment"]["Variables"]
    assert variables["INTRA_OP_THREADS"] == "2"
    assert own(instances, "Lambda::Version")["FunctionScalingConfig"] == {"MinExecutionEnvironments": 3}
    assert "VpcConfig" in own(instances, "Lambda::Function", "CheckHandler")


def test_the_cost_has_instances_and_no_duration(instances: Assembly) -> None:
    """Three environments of four vCPUs are six instances of two."""
    [alarm] = [item for name, item in instances.resources("AWS::CloudWatch::Alarm").items() if "AlarmsCost" in name]
    [formula] = [metric["Expression"] for metric in alarm["Properties"]["Metrics"] if "Expression" in metric]
    assert "duration" not in formula
    assert float(formula.rpartition("+")[2]) == pytest.approx(6 * 24 * 0.0816 * 1.15)


def test_the_operator_may_do_what_aws_policy_says_and_no_more(instances: Assembly) -> None:
    """But log groups: it has one. AWS's own policy is for all subnets of an account."""
    aws = json.loads(aws_managed_policies_data)["AWSLambdaManagedEC2ResourceOperator"]["Document"]["Statement"]
    [role] = [name for name in Stack(instances.template).identities if "FunctionCapacityRole" in name]
    statements = [
        statement
        for policy in Stack(instances.template).identities[role]
        for statement in policy["policy"]["Statement"]
    ]
    assert actions(statements) == actions(aws) - {"logs:CreateLogGroup"}
    assert {json.dumps(found["Condition"]) for found in statements if "Condition" in found} == {
        json.dumps(found["Condition"]) for found in aws if "Condition" in found
    }


def actions(statements: list[dict[str, Any]]) -> set[str]:
    return {
        action
        for statement in statements
        for action in (statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
    }
