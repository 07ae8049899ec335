"""A life of an environment in an emulated account: bootstrap, three versions through the alias, and its end.

The CDK's own command line deploys the real template to MiniStack. The versions are the real handler under Lambda's
runtime emulator, one process each. What is replaced, and by what: account.py and codedeploy.py.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from account import PROGRAMS, Account, account, emulated
from assemblies import ROOT, Assembly, sources, synthesise
from codedeploy import CodeDeploy, codedeploy
from emulator import EMULATOR
from emulator import emulated as running

from cdk.api_keys import NOBODY

HANDLER = "functions.api.handler"
STACK = "inferry-dev"
KEY, CHECK_KEY = "the key of a caller", "the key of the check"
DIGESTS = ",".join(hashlib.sha256(key.encode()).hexdigest() for key in (KEY, CHECK_KEY))
CARD = json.loads((ROOT / "models/digits/config.json").read_text())


@dataclass
class Environment:
    """The account with what was deployed to it; `emulators` holds those of all versions until the end."""

    account: Account
    codedeploy: CodeDeploy
    folder: Path
    emulators: ExitStack
    deployments: int = 0
    keys: tuple[str, str] = ("", "")

    def deploy(self, models: Path) -> "tuple[int, str]":
        """These models as a new version: the exit status, and all that the CDK said."""
        self.deployments += 1
        folder = self.folder / str(self.deployments)
        source = sources(folder / "source")
        shutil.copytree(models, source / "models", dirs_exist_ok=True)
        version, digests = self.keys
        context = {"authorization": "api-keys", "api_keys_version": version}
        assembly = synthesise(context, folder / "out", source)
        variables = told(assembly, source / "models", digests)
        function = self.emulators.enter_context(running(HANDLER, sys.executable, timeout=29, memory=1769, **variables))
        copy = emulated(assembly, folder / "emulated", function.url, self.codedeploy.endpoint)
        done = self.account.deploy(copy)
        return done.returncode, done.stdout + done.stderr

    def store_keys(self, digests: str, check: str) -> None:
        """As an operator does it, after the first deployment."""
        given = {
            "SecretId": self.account.outputs(STACK)["ApiKeysSecret"],
            "SecretString": json.dumps({"digests": digests, "check": check}),
        }
        stored = self.account.client("secretsmanager").put_secret_value(**given)
        self.keys = stored["VersionId"], digests

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
        resources = self.account.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
        [name] = [
            item["PhysicalResourceId"]
            for item in resources
            if item["ResourceType"] == kind and item["LogicalResourceId"].startswith(start)
        ]
        return str(name)

    @property
    def status(self) -> str:
        [stack] = self.account.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
        return str(stack["StackStatus"])

    def predict(self, key: str) -> dict[str, Any]:
        """The card's example through the HTTP API, by NVIDIA's client: which version answers, and what."""
        address = self.account.endpoint.removeprefix("http://")
        api = re.match(r"https?://(\w+)\.", self.account.outputs(STACK)["Endpoint"])
        assert api
        with triton.InferenceServerClient(f"{address}/_aws/execute-api/{api[1]}/$default") as client:
            pixels = triton.InferInput("pixels", [1, 64], "FP32")
            pixels.set_data_from_numpy(np.array([CARD["example"]["inputs"][0]["data"]], np.float32))
            answer = client.infer("digits", [pixels], headers={"x-api-key": key})
            return {"version": answer.get_response()["model_version"], "label": answer.as_numpy("label").tolist()}


def told(assembly: Assembly, models: Path, digests: str) -> dict[str, str]:
    """What Lambda will tell the function: the template's words, CloudFormation's digests, and the image's models."""
    variables = assembly.only("AWS::Lambda::Function", "FunctionHandler")["Environment"]["Variables"]
    return {**variables, "API_KEYS": f"{NOBODY},{digests}", "MODEL_PATH": str(models)}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    if missing := [path.name for path in (*PROGRAMS, EMULATOR) if not path.exists()]:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"missing: {', '.join(missing)}")
    with account() as there, codedeploy() as deployments, ExitStack() as emulators:
        done = there.cdk("bootstrap", "aws://123456789012/us-east-1")
        assert done.returncode == 0, done.stderr
        yield Environment(there, deployments, tmp_path_factory.mktemp("deployed"), emulators)


def digits(folder: Path, *versions: int, **card: Any) -> Path:
    """A repository of `digits` in so many versions, all the same network: they differ in what they are called."""
    for version in versions:
        model = folder / "digits" / str(version) / "model.onnx"
        model.parent.mkdir(parents=True)
        shutil.copy(ROOT / "models" / "digits" / "2" / "model.onnx", model)
    (folder / "digits" / "config.json").write_text(json.dumps({**CARD, "sha256": {}, **card}))
    return folder


# One story, told in the order of these tests.


def test_first_version(environment: Environment, tmp_path: Path) -> None:
    """It is deployed without a check, and closed: the secret has a digest, and nobody the key."""
    status, said = environment.deploy(digits(tmp_path, 1))
    assert status == 0, said
    assert (environment.status, environment.alias["FunctionVersion"]) == ("CREATE_COMPLETE", "1")
    assert environment.codedeploy.statuses == {}
    # MiniStack's random text has all characters, whatever the template excludes.
    assert re.fullmatch(f"{NOBODY},.{{64}}", environment.environment["API_KEYS"])
    with pytest.raises(triton.InferenceServerException, match="the API key is not a valid one") as caught:
        environment.predict(KEY)
    assert caught.value.status() == "403"


def test_second_version(environment: Environment, tmp_path: Path) -> None:
    """With keys and a new model: the check runs the card's example against it, and the alias moves."""
    environment.store_keys(DIGESTS, CHECK_KEY)
    status, said = environment.deploy(digits(tmp_path, 1, 2))
    assert status == 0, said
    assert list(environment.codedeploy.statuses.values()) == ["Succeeded"]
    assert environment.alias["FunctionVersion"] == "2"
    assert environment.environment == {
        "API_KEYS": f"{NOBODY},{DIGESTS}",
        "APP_NAME": STACK,
        "DEFAULT_MODEL": "digits",
        "INTRA_OP_THREADS": "1",
        "METRICS_SINKS": "prometheus,emf",
        "MODEL_TIMEOUT": "28.0",
    }
    assert environment.predict(KEY) == {"version": "2", "label": [7]}
    with pytest.raises(triton.InferenceServerException):
        environment.predict("another key")


def test_a_version_that_fails_its_check(environment: Environment, tmp_path: Path) -> None:
    """Its model answers otherwise than its card says: no request reaches it."""
    wrong = {**CARD["example"], "expect": {**CARD["example"]["expect"], "label": [3]}}
    status, said = environment.deploy(digits(tmp_path, 3, example=wrong))
    assert status != 0
    assert "the hook BeforeAllowTraffic failed" in said
    assert list(environment.codedeploy.statuses.values()) == ["Succeeded", "Failed"]
    assert environment.status == "UPDATE_ROLLBACK_COMPLETE"
    assert environment.alias["FunctionVersion"] == "2"
    assert environment.predict(KEY) == {"version": "2", "label": [7]}


def test_a_version_that_makes_an_alarm_ring(environment: Environment, tmp_path: Path) -> None:
    alarm = environment.physical("AWS::CloudWatch::Alarm", "AlarmsErrors")
    cloudwatch = environment.account.client("cloudwatch")
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="the test says so")
    status, said = environment.deploy(digits(tmp_path, 4))
    assert status != 0
    assert f"alarms: ['{alarm}']" in said
    assert environment.status == "UPDATE_ROLLBACK_COMPLETE"
    assert (environment.alias["FunctionVersion"], environment.alias.get("RoutingConfig")) in (("2", None), ("2", {}))
    assert environment.predict(KEY) == {"version": "2", "label": [7]}


def test_destroy(environment: Environment) -> None:
    folder = environment.folder / "2" / "emulated"
    done = environment.account.cdk("destroy", "--app", str(folder), "--force")
    assert done.returncode == 0, done.stderr
    assert environment.account.client("lambda").list_functions()["Functions"] == []
    assert environment.account.client("apigatewayv2").get_apis()["Items"] == []
    assert environment.account.client("logs").describe_log_groups()["logGroups"] == []
