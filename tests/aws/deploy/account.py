"""A whole AWS account on loopback (MiniStack), and deployments to it by the CDK's own command line."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from assemblies import ROOT, Assembly
from codedeploy import played
from contract.services import HOST, _running
from loopback import free_port

ACCOUNT, REGION = "123456789012", "us-east-1"
CDK = ROOT / "node_modules" / ".bin" / "cdk"
MINISTACK = ROOT / ".tools" / "ministack" / "bin" / "ministack"
PROGRAMS = (CDK, MINISTACK)
PYTHON = "python3.12"

# MiniStack runs no images: the function hands its event to the emulator, where the image's handler runs. It forgets the
# type of what a function raises, unless the text is that of a timeout: so it hears of a runtime that was killed.
FORWARDER = """
import json, urllib.request

def handler(event, context):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(URL, data=json.dumps(event).encode(), timeout=900) as response:
        answer = json.loads(response.read())
    if isinstance(answer, dict) and "errorType" in answer:
        ended = answer["errorType"].startswith("Runtime.")
        raise Exception("Task timed out after 30.00 seconds" if ended else answer["errorMessage"])
    return answer
"""


@dataclass(frozen=True)
class Account:
    endpoint: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CDK_DISABLE_CLI_TELEMETRY": "1",
            "HOME": str(self.folder),
        }

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCOUNT,
            aws_secret_access_key="test",
        )

    def cdk(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(CDK), *arguments, "--no-color", "--ci"]
        environment = {"PATH": os.environ["PATH"], **self.environment}
        return subprocess.run(
            command, env=environment, cwd=self.folder, check=False, capture_output=True, text=True, timeout=600
        )

    def deploy(self, assembly: Path) -> "subprocess.CompletedProcess[str]":
        return self.cdk("deploy", "--app", str(assembly), "--require-approval", "never", "--progress", "events")

    def outputs(self, stack: str) -> dict[str, str]:
        [found] = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {item["OutputKey"]: item["OutputValue"] for item in found["Outputs"]}


@contextmanager
def account() -> Iterator[Account]:
    port = free_port()
    environment = {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "LAMBDA_EXECUTOR": "local",
        # It would listen on all addresses.
        "IOT_MTLS_ENABLED": "0",
        # Signatures and policies count, those of the functions' roles too.
        "AUTH": "true",
    }
    with tempfile.TemporaryDirectory() as folder, _running([str(MINISTACK)], [port], environment):
        yield Account(f"http://{HOST}:{port}", Path(folder))


def emulated(assembly: Assembly, folder: Path, urls: Mapping[str, str], codedeploy: str) -> Path:
    """A copy of the assembly: image functions forward to the URLs of their handlers, CodeDeploy is the stand-in.

    `urls` are by handlers; several functions have one, and are told apart by how their names in the template begin.
    """
    shutil.copytree(assembly.folder, folder)
    template = json.loads(json.dumps(assembly.template))
    for name, item in template["Resources"].items():
        if item["Properties"].get("PackageType") == "Image":
            [handler] = item["Properties"]["ImageConfig"]["Command"]
            url = next((urls[part] for part in urls if name.startswith(part)), None) or urls[handler]
            item["Properties"] = _zipped(item["Properties"], f"URL = {url!r}\n{FORWARDER}")
        if "Metrics" in item["Properties"]:
            item["Properties"] = _without_formula(item["Properties"])
    _leave_out(template["Resources"])
    _name_secrets(template["Resources"])
    played(template, codedeploy, PYTHON)
    _replace(folder, assembly.template_file.name, template)
    return folder


def _zipped(properties: Mapping[str, Any], code: str) -> dict[str, Any]:
    kept = {
        name: value for name, value in properties.items() if name not in ("PackageType", "ImageConfig", "SnapStart")
    }
    # The emulator ends what takes too long; waiting for its turn there takes as long as it does.
    return {**kept, "Code": {"ZipFile": code}, "Handler": "index.handler", "Runtime": PYTHON, "Timeout": 900}


def _leave_out(resources: dict[str, Any]) -> None:
    """The CDK's own function that empties buckets: it is for Node, where MiniStack has no AWS SDK. And what refuses
    plain HTTP, which loopback is: the policies of buckets, and statements in those of queues.
    """
    for name, item in list(resources.items()):
        own = name.startswith("CustomS3AutoDeleteObjects") or item["Type"] == "Custom::S3AutoDeleteObjects"
        if own or item["Type"] == "AWS::S3::BucketPolicy":
            del resources[name]
        if item["Type"] == "AWS::SQS::QueuePolicy":
            policy = item["Properties"]["PolicyDocument"]
            policy["Statement"] = [found for found in policy["Statement"] if found["Effect"] == "Allow"]
            if not policy["Statement"]:
                del resources[name]


def _name_secrets(resources: dict[str, Any]) -> None:
    """A Ref of a secret is its ARN; in MiniStack it is its name, which no policy knows."""
    secrets = [name for name, item in resources.items() if item["Type"] == "AWS::SecretsManager::Secret"]
    for item in resources.values():
        if item["Type"] == "AWS::IAM::Policy":
            for statement in item["Properties"]["PolicyDocument"]["Statement"]:
                for secret in secrets:
                    if statement["Resource"] == {"Ref": secret}:
                        start = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
                        statement["Resource"] = {"Fn::Join": ["", [start, {"Ref": secret}, "-*"]]}


def _without_formula(alarm: Mapping[str, Any]) -> dict[str, Any]:
    """MiniStack's alarms know no metric math; nothing here makes one ring but the test itself."""
    plain = {name: value for name, value in alarm.items() if name != "Metrics"}
    first = next(metric["MetricStat"] for metric in alarm["Metrics"] if "MetricStat" in metric)
    return {**plain, **first["Metric"], "Period": first["Period"], "Statistic": first["Stat"]}


def _replace(folder: Path, name: str, template: Mapping[str, Any]) -> None:
    """Writes the template, and its new hash wherever the old one named it; takes the images out of the assets."""
    text = json.dumps(template)
    (folder / name).write_text(text)
    [assets] = folder.glob("*.assets.json")
    manifest = json.loads(assets.read_text())
    [old] = [key for key, file in manifest["files"].items() if file["source"]["path"] == name]
    manifest["dockerImages"] = {}
    new = hashlib.sha256(text.encode()).hexdigest()
    assets.write_text(json.dumps(_without_roles(manifest)).replace(old, new))
    main = folder / "manifest.json"
    main.write_text(json.dumps(_without_roles(json.loads(main.read_text()))).replace(old, new))


def _without_roles(value: Any) -> Any:
    """The caller deploys: MiniStack doesn't know a condition that the roles of `cdk bootstrap` have."""
    if isinstance(value, list):
        return [_without_roles(item) for item in value]
    if not isinstance(value, dict):
        return value
    roles = ("assumeRoleArn", "cloudFormationExecutionRoleArn", "lookupRole")
    return {name: _without_roles(item) for name, item in value.items() if name not in roles}
