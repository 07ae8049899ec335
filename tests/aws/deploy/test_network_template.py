"""A network in the template: functions in a VPC, a REST API in one, a WAF, a bucket that there is already."""

import json
import shlex
from typing import Any

import pytest
from assemblies import WEB_ACL, Assembly, sources, synthesise
from permissions import answers
from resolved import ACCOUNT, REGION, resolved
from stacks import VERSION
from templates import ALIAS, FUNCTION

PLACE = {
    "SubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "SecurityGroupIds": ["NetworkFunctions44D4AE3D.GroupId"],
}


@pytest.fixture
def network(assemblies: dict[str, Assembly]) -> Assembly:
    return assemblies["network"]


def own(network: Assembly, kind: str) -> dict[str, Any]:
    """The properties of the resources of a kind, as an account has them."""
    return {
        name: item["Properties"] for name, item in resolved(network.template).items() if item["Type"] == f"AWS::{kind}"
    }


def test_every_function_is_in_the_vpc(network: Assembly) -> None:
    assert {name: given.get("VpcConfig") for name, given in own(network, "Lambda::Function").items()} == {
        "BatchHandler680B6981": PLACE,
        "CheckHandler6801A3DA": PLACE,
        "FunctionHandlerB180C98D": PLACE,
    }


def test_functions_are_made_when_the_endpoints_are_there(network: Assembly) -> None:
    """Their init reads models and keys."""
    endpoints = set(own(network, "EC2::VPCEndpoint"))
    assert len(endpoints) == 4
    for item in network.resources(FUNCTION).values():
        assert endpoints <= set(item["DependsOn"])


def test_security_groups(network: Assembly) -> None:
    """Functions reach HTTPS, and nobody them; endpoints are reached by the functions."""
    https = {"FromPort": 443, "ToPort": 443, "IpProtocol": "tcp"}
    found = own(network, "EC2::SecurityGroup")
    functions, endpoints = found["NetworkFunctions44D4AE3D"], found["NetworkEndpoints88F47C84"]
    assert functions.get("SecurityGroupIngress", []) == []
    assert [{**rule, "Description": ""} for rule in functions["SecurityGroupEgress"]] == [
        {**https, "CidrIp": "0.0.0.0/0", "Description": ""}
    ]
    assert [{**rule, "Description": ""} for rule in endpoints["SecurityGroupIngress"]] == [
        {**https, "SourceSecurityGroupId": "NetworkFunctions44D4AE3D.GroupId", "Description": ""}
    ]


def test_endpoints(network: Assembly) -> None:
    found = {
        given["ServiceName"].removeprefix(f"com.amazonaws.{REGION}."): (
            given["VpcEndpointType"],
            given.get("PrivateDnsEnabled"),
            given.get("RouteTableIds") or given.get("SubnetIds"),
        )
        for given in own(network, "EC2::VPCEndpoint").values()
    }
    interface = ("Interface", True, PLACE["SubnetIds"])
    assert found == {
        "s3": ("Gateway", None, ["rtb-0123456789abcdef0"]),
        "sqs": interface,
        "lambda": interface,
        "codedeploy": interface,
    }


def test_code_makes_no_network_interfaces(network: Assembly) -> None:
    """Only Lambda does, with the role's rights: requests of the code have the function's ARN."""
    found = [statement for _, statement in network.statements() if statement["Effect"] == "Deny"]
    assert len(found) == len(network.resources(FUNCTION))
    for statement in found:
        assert statement["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}
        assert "ec2:CreateNetworkInterface" in statement["Action"]


def test_the_private_api(network: Assembly) -> None:
    [api] = own(network, "ApiGateway::RestApi").values()
    assert api["EndpointConfiguration"] == {"Types": ["PRIVATE"], "VpcEndpointIds": ["vpce-0123456789abcdef0"]}
    assert api["BinaryMediaTypes"] == ["*/*"]
    [alias] = network.resources(ALIAS)
    for item in network.resources("AWS::ApiGateway::Method").values():
        given = item["Properties"]
        assert (given["HttpMethod"], given["AuthorizationType"]) == ("ANY", "AWS_IAM")
        assert {"Ref": alias} in given["Integration"]["Uri"]["Fn::Join"][1]
    resources = own(network, "ApiGateway::Resource")
    assert [given["PathPart"] for given in resources.values()] == ["{proxy+}"]
    parts = network.template["Outputs"]["Curl"]["Value"]["Fn::Join"][1]
    command = shlex.split("".join(part if isinstance(part, str) else "REF" for part in parts))
    assert "https://REF-vpce-0123456789abcdef0.execute-api.REF.REF/live/v2/models/digits/infer" in command


def test_the_stage(network: Assembly) -> None:
    [stage] = own(network, "ApiGateway::Stage").values()
    [settings] = stage["MethodSettings"]
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == (50, 100)
    assert (settings["MetricsEnabled"], settings["DataTraceEnabled"], stage["TracingEnabled"]) == (True, False, True)
    assert json.loads(stage["AccessLogSetting"]["Format"])["status"] == "$context.status"
    assert "ApiAccessLogs" in stage["AccessLogSetting"]["DestinationArn"]


def test_the_waf(network: Assembly) -> None:
    [association] = own(network, "WAFv2::WebACLAssociation").values()
    [api] = own(network, "ApiGateway::RestApi")
    assert association == {
        "ResourceArn": f"arn:aws:apigateway:{REGION}::/restapis/{api}/stages/live",
        "WebACLArn": WEB_ACL,
    }


INVOKE = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
MAY = [{"name": "may", "policy": {"Version": VERSION, "Statement": [INVOKE]}}]
HERE, ELSEWHERE = "vpce-0123456789abcdef0", "vpce-0fedcba9876543210"
CALLS: dict[str, tuple[str, list[Any], str, bool]] = {
    "an identity that may": ("iam", MAY, HERE, True),
    "an identity that may not": ("iam", [], HERE, False),
    "another endpoint": ("iam", MAY, ELSEWHERE, False),
    "anybody, where keys are checked later": ("api-keys", [], HERE, True),
    "anybody by another endpoint": ("api-keys", [], ELSEWHERE, False),
}


@pytest.mark.parametrize("case", CALLS)
def test_who_reaches_the_private_api(network: Assembly, tmp_path_factory: pytest.TempPathFactory, case: str) -> None:
    """IAM's simulator over the API's policy."""
    authorization, identity, endpoint, is_allowed = CALLS[case]
    assembly = network
    if authorization != "iam":
        folder = tmp_path_factory.mktemp("private")
        context = {"api": "private", "vpc_endpoints": HERE, "authorization": authorization}
        assembly = synthesise(context, folder / "out", sources(folder / "source"))
    [(name, api)] = own(assembly, "ApiGateway::RestApi").items()
    place = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{name}"
    question = {
        "request": {
            "principal": f"arn:aws:iam::{ACCOUNT}:role/caller" if authorization == "iam" else {"type": "Anonymous"},
            "action": "execute-api:Invoke",
            "resource": {"resource": f"{place}/live/POST/predict", "accountId": ACCOUNT},
            "contextVariables": {"aws:SourceVpce": endpoint},
        },
        "identityPolicies": identity,
        # As API Gateway stores it.
        "resourcePolicy": json.loads(json.dumps(api["Policy"]).replace("execute-api:/", f"{place}/")),
        "isListed": True,
    }
    [answer] = answers([question])
    assert (answer == "Allowed") == is_allowed, answer


def test_files_of_a_bucket_that_there_is_already(network: Assembly) -> None:
    """Its events come by EventBridge, and what can't be sent is a dead letter."""
    assert network.resources("AWS::S3::Bucket") == {}
    [rule] = own(network, "Events::Rule").values()
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": ["lake"]}, "object": {"key": [{"prefix": "input/"}]}},
    }
    queues = {name[:9]: f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}" for name in network.resources("AWS::SQS::Queue")}
    [target] = rule["Targets"]
    assert (target["Arn"], target["DeadLetterConfig"]) == (queues["BatchJobs"], {"Arn": queues["BatchDead"]})
    told = network.only(FUNCTION, "BatchHandler")["Environment"]["Variables"]
    assert (told["BATCH_INPUT"], told["BATCH_OUTPUT"]) == ("s3://lake/input", "s3://lake/output")
