"""CodeDeploy, which MiniStack lacks: a custom resource plays its part of an update, as the template orders it.

On AWS, CloudFormation gives a change of the alias to CodeDeploy: the hook, the share of the requests, the alarms, the
rest of the requests. Here the alias stays pinned to the version that it was made with, and a custom resource moves it.
It has the role that the template gives to CodeDeploy. What this doesn't cover is the wait between the steps.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import listening

STAND_IN = """
import json, os, urllib.request, uuid

import boto3

def handler(event, context):
    given = event["ResourceProperties"]
    status, reason = "SUCCESS", ""
    try:
        if event["RequestType"] == "Update":
            deploy(given)
    except Exception as exc:
        status, reason = "FAILED", f"{type(exc).__name__}: {exc}"
    body = {"Status": status, "Reason": reason, "PhysicalResourceId": "rollout", "Data": {}}
    body |= {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    request = urllib.request.Request(event["ResponseURL"], data=json.dumps(body).encode(), method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)

def deploy(given):
    client = boto3.client("lambda")
    alias = {"FunctionName": given["Function"], "Name": given["Alias"]}
    old, new = client.get_alias(**alias)["FunctionVersion"], given["Version"]
    if old == new:
        return
    execution = str(uuid.uuid4())
    hook = {"DeploymentId": "d-TEST", "LifecycleEventHookExecutionId": execution}
    client.invoke(FunctionName=given["Hook"], Payload=json.dumps(hook).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    if opener.open(f"{given['Endpoint']}/{execution}", timeout=30).read() != b"Succeeded":
        raise RuntimeError("the hook BeforeAllowTraffic failed")
    client.update_alias(**alias, RoutingConfig={"AdditionalVersionWeights": {new: 0.1}})
    alarms = boto3.client("cloudwatch").describe_alarms(AlarmNames=given["Alarms"])["MetricAlarms"]
    ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
    if ringing:
        client.update_alias(**alias, RoutingConfig={"AdditionalVersionWeights": {}})
        raise RuntimeError(f"alarms: {ringing}")
    client.update_alias(**alias, FunctionVersion=new, RoutingConfig={"AdditionalVersionWeights": {}})
"""


class CodeDeploy:
    """Its API, as far as a hook calls it: `statuses` by the execution's id."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.statuses: dict[str, str] = {}


@contextmanager
def codedeploy() -> Iterator[CodeDeploy]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Target"] == "CodeDeploy_20141006.PutLifecycleEventHookExecutionStatus"
            service.statuses[sent["lifecycleEventHookExecutionId"]] = sent["status"]
            self._answer(json.dumps({"lifecycleEventHookExecutionId": sent["lifecycleEventHookExecutionId"]}))

        def do_GET(self) -> None:
            self._answer(service.statuses.get(self.path.strip("/"), ""))

        def _answer(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    with listening(Handler) as url:
        service = CodeDeploy(url)
        yield service


def played(template: dict[str, Any], endpoint: str, runtime: str) -> None:
    """Replaces CodeDeploy in the template by the stand-in, with what the template told CodeDeploy."""
    resources = template["Resources"]
    for alias in [name for name, item in resources.items() if item["Type"] == "AWS::Lambda::Alias"]:
        _played(resources, alias, endpoint, runtime)
    for name in [name for name, r in resources.items() if r["Type"].startswith("AWS::CodeDeploy::")]:
        del resources[name]
        _forget(resources, name)


def _played(resources: dict[str, Any], alias: str, endpoint: str, runtime: str) -> None:
    item, part = resources[alias], f"StandIn{alias}"
    order = item.pop("UpdatePolicy")["CodeDeployLambdaAliasUpdate"]
    group = resources[order["DeploymentGroupName"]["Ref"]]["Properties"]
    version = item["Properties"]["FunctionVersion"]
    item["Properties"]["FunctionVersion"] = "1"
    item.setdefault("DependsOn", []).append(version["Fn::GetAtt"][0])
    hook = resources[order["BeforeAllowTrafficHook"]["Ref"]]
    hook["Properties"]["Environment"]["Variables"]["AWS_ENDPOINT_URL_CODEDEPLOY"] = endpoint
    resources[f"{part}Function"] = {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Code": {"ZipFile": STAND_IN},
            "Handler": "index.handler",
            "Runtime": runtime,
            "Timeout": 60,
            "Role": group["ServiceRoleArn"],
            "LoggingConfig": hook["Properties"]["LoggingConfig"],
        },
    }
    # MiniStack takes GetAlias for this one; all else the role must allow itself.
    resources[f"{part}Policy"] = {
        "Type": "AWS::IAM::Policy",
        "Properties": {
            "PolicyName": f"{part}Policy",
            "Roles": [{"Ref": group["ServiceRoleArn"]["Fn::GetAtt"][0]}],
            "PolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "lambda:ListAliases", "Resource": "*"}],
            },
        },
    }
    resources[part] = {
        "Type": "Custom::CodeDeploy",
        "DependsOn": [alias, f"{part}Policy"],
        "Properties": {
            "ServiceToken": {"Fn::GetAtt": [f"{part}Function", "Arn"]},
            "Function": item["Properties"]["FunctionName"],
            "Alias": item["Properties"]["Name"],
            "Version": version,
            "Hook": order["BeforeAllowTrafficHook"],
            "Alarms": [alarm["Name"] for alarm in group["AlarmConfiguration"]["Alarms"]],
            "Endpoint": endpoint,
        },
    }


def _forget(value: Any, name: str) -> None:
    """Writes the name where there was a reference to it."""
    for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
        if part == {"Ref": name}:
            value[key] = name
        elif isinstance(part, dict | list):
            _forget(part, name)
