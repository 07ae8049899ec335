"""An environment in the emulated account: deployed, looked at, asked for predictions."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tritonclient.http as triton
from account import REGION, Account, emulated
from assemblies import EXAMPLES, ROOT, Assembly, sources, synthesise
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from codedeploy import CodeDeploy
from emulator import emulated as running

HANDLER = "functions.api.handler"
CARD = json.loads((ROOT / "models/digits/config.json").read_text())


@dataclass
class Environment:
    """The account with what was deployed to it; `emulators` holds those of all versions until the end."""

    account: Account
    codedeploy: CodeDeploy
    folder: Path
    emulators: ExitStack
    stack: str = "inferry-dev"
    others: Mapping[str, str] = field(default_factory=dict)
    """The URLs of the other handlers, where the stack has them."""
    deployments: int = 0
    assembly: Assembly = field(init=False)
    """What was synthesised last."""

    def deploy(self, models: Path | None, context: Mapping[str, Any], **told: str) -> "tuple[int, str]":
        """These models as a new version: the exit status, and all that the CDK said.

        `told` is what the function is told and its template can't say: what CloudFormation or the image fills in.
        """
        self.deployments += 1
        folder = self.folder / str(self.deployments)
        source = sources(folder / "source", models or EXAMPLES)
        self.assembly = assembly = synthesise(context, folder / "out", source)
        variables = assembly.only("AWS::Lambda::Function", "FunctionHandler")["Environment"]["Variables"]
        variables = {**variables, "MODEL_PATH": str(source / "models"), **told}
        function = self.emulators.enter_context(running(HANDLER, sys.executable, timeout=29, memory=1769, **variables))
        urls = {HANDLER: function.url, **self.others}
        done = self.account.deploy(emulated(assembly, folder / "emulated", urls, self.codedeploy.endpoint))
        return done.returncode, done.stdout + done.stderr

    @property
    def deployed(self) -> str:
        """The assembly that was deployed last."""
        return str(self.folder / str(self.deployments) / "emulated")

    def diff(self) -> str:
        """What another deployment would change, in the words of `make diff`."""
        done = self.account.cdk("diff", "--app", self.deployed)
        return done.stdout + done.stderr

    def destroy(self) -> "tuple[int, str]":
        done = self.account.cdk("destroy", "--app", self.deployed, "--force")
        return done.returncode, done.stdout + done.stderr

    @property
    def outputs(self) -> dict[str, str]:
        return self.account.outputs(self.stack)

    @property
    def status(self) -> str:
        [stack] = self.account.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        return str(stack["StackStatus"])

    @property
    def environment(self) -> dict[str, str]:
        """What Lambda tells the latest version."""
        function = self.physical("AWS::Lambda::Function", "FunctionHandler")
        found = self.account.client("lambda").get_function_configuration(FunctionName=function)
        variables: dict[str, str] = found["Environment"]["Variables"]
        return variables

    @property
    def alias(self) -> dict[str, Any]:
        function = self.physical("AWS::Lambda::Function", "FunctionHandler")
        found: dict[str, Any] = self.account.client("lambda").get_alias(FunctionName=function, Name="live")
        return found

    def physical(self, kind: str, start: str) -> str:
        resources = self.account.client("cloudformation").describe_stack_resources(StackName=self.stack)
        [name] = [
            item["PhysicalResourceId"]
            for item in resources["StackResources"]
            if item["ResourceType"] == kind and item["LogicalResourceId"].startswith(start)
        ]
        return str(name)

    def credentials(self, role: str) -> dict[str, str]:
        """Those of a user that may do what the role may, and nothing else, for a function that runs elsewhere."""
        client = self.account.client("iam")
        name = self.physical("AWS::IAM::Role", role)
        policies = client.list_role_policies(RoleName=name)["PolicyNames"]
        return self.user(
            name, *(client.get_role_policy(RoleName=name, PolicyName=p)["PolicyDocument"] for p in policies)
        )

    def user(self, name: str, *policies: Mapping[str, Any]) -> dict[str, str]:
        """The credentials of a new user with these policies."""
        client = self.account.client("iam")
        client.create_user(UserName=name)
        for number, policy in enumerate(policies):
            client.put_user_policy(UserName=name, PolicyName=f"policy-{number}", PolicyDocument=json.dumps(policy))
        key = client.create_access_key(UserName=name)["AccessKey"]
        secret = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        return {**self.account.environment, **secret, "AWS_ALLOW_HTTP": "true"}

    @property
    def address(self) -> str:
        """The API, without a scheme; its host name is none that the machine knows."""
        api = re.match(r"https?://(\w+)[^/]*(?:/(\w+))?", self.outputs["Endpoint"])
        assert api
        return f"{self.account.endpoint.removeprefix('http://')}/_aws/execute-api/{api[1]}/{api[2] or '$default'}"

    def predict(self, **headers: str) -> dict[str, Any]:
        """The card's example through the HTTP API, by NVIDIA's client: which version answers, and what."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with triton.InferenceServerClient(self.address) as client:
            pixels = triton.InferInput("pixels", [1, 64], "FP32")
            pixels.set_data_from_numpy(np.array([CARD["example"]["inputs"][0]["data"]], np.float32))
            answer = client.infer("digits", [pixels], headers=named)
            return {"version": answer.get_response()["model_version"], "label": answer.as_numpy("label").tolist()}

    def curl(self, **variables: str) -> dict[str, Any]:
        """The answer to the line of curl that a deployment ends with, in a shell that has these variables."""
        command = f"{self.outputs['Curl']} --silent --connect-to ::{self.account.endpoint.removeprefix('http://')}"
        env = {"PATH": os.environ["PATH"], "NO_PROXY": "*", **variables}
        done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """What the alias returns to an event."""
        function = self.outputs["FunctionArn"]
        answer = self.account.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
        return json.load(answer["Payload"])

    def predict_signed(self, credentials: Mapping[str, str]) -> httpx.Response:
        """The same in JSON, signed by botocore."""
        return _post(f"http://{self.address}", _signed(f"http://{self.address}", "execute-api", credentials))

    def predict_at_function_url(self, credentials: Mapping[str, str] | None = None, **headers: str) -> httpx.Response:
        """The same past the API: at the function's own URL, whose host name leads here."""
        url = self.outputs["FunctionUrl"].rstrip("/")
        host = {"host": url.removeprefix("https://")}
        signed = _signed(url, "lambda", credentials) if credentials else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _post(self.account.endpoint, {**host, **signed, **named})


PATH = "/v2/models/digits/infer"
BODY = json.dumps({"inputs": CARD["example"]["inputs"]})


def _signed(address: str, service: str, credentials: Mapping[str, str]) -> dict[str, str]:
    """The headers of such a request, signed by botocore."""
    request = AWSRequest("POST", f"{address}{PATH}", data=BODY)
    who = Credentials(credentials["AWS_ACCESS_KEY_ID"], credentials["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(who, service, REGION).add_auth(request)
    return dict(request.headers)


def _post(address: str, headers: Mapping[str, str]) -> httpx.Response:
    return httpx.post(f"{address}{PATH}", content=BODY, headers=dict(headers), timeout=60, trust_env=False)


def digits(folder: Path, *versions: int, **card: Any) -> Path:
    """A repository of `digits` in so many versions, all the same network: they differ in what they are called."""
    for version in versions:
        model = folder / "digits" / str(version) / "model.onnx"
        model.parent.mkdir(parents=True)
        shutil.copy(ROOT / "models" / "digits" / "2" / "model.onnx", model)
    # The other outputs that the card names labels of are those of another version.
    labels = {"probabilities": CARD["labels"]["probabilities"]}
    told = {**CARD, "labels": labels, "sha256": {}, **card}
    (folder / "digits" / "config.json").write_text(json.dumps(told))
    return folder
