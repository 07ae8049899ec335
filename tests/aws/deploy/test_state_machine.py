"""Direct invocations from a state machine, which tries again and catches by the class of an error.

MiniStack interprets the machine, and is Lambda. Its function's bootstrap is the image's command: errors reach the
machine as the runtime reports them.
"""

import io
import json
import os
import re
import shlex
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lambda_events as events
import onnx_models
import pytest
from account import ACCOUNT, MINISTACK, REGION, Account
from account import account as running_account
from assemblies import ROOT
from test_runs_on_aws import PATIENCE

ROLE = f"arn:aws:iam::{ACCOUNT}:role/predicting"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:predict"
DIGIT = events.load("direct")
X = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
# Shorter than in the docs: nothing here gets better with time.
SECONDS = 1


def definition() -> dict[str, Any]:
    """That of docs/aws.md."""
    [text] = re.findall(r"```json\n(\{\n  \"StartAt\".*?)```", (ROOT / "docs/aws.md").read_text(), re.DOTALL)
    machine: dict[str, Any] = json.loads(text)
    predict = machine["States"]["Predict"]
    predict["Parameters"]["FunctionName"] = FUNCTION
    predict["Retry"][0] |= {"IntervalSeconds": SECONDS, "BackoffRate": 1}
    return machine


TRIES = definition()["States"]["Predict"]["Retry"][0]["MaxAttempts"]


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    if not MINISTACK.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("missing: ministack")
    with running_account() as there:
        yield there


def package(models: Path, log: Path) -> bytes:
    """A bootstrap that starts the image's command."""
    told = {
        "PYTHONPATH": str(ROOT),
        "MODEL_PATH": str(models),
        "DEFAULT_MODEL": "digits",
        "ORT_DISABLE_TELEMETRY": "1",
        "API_KEYS": "0" * 64,
    }
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in told.items())
    script = (
        f"#!/bin/sh\ncd {shlex.quote(str(ROOT))}\nexec env {variables} {shlex.quote(sys.executable)} -m functions "
        f"functions.api.handler 2>>{shlex.quote(str(log))}\n"
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        file.writestr(entry, script)
    return content.getvalue()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "stderr"


@pytest.fixture(scope="module")
def machine(account: Account, log: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The state machine, and the function that it invokes."""
    models = onnx_models.write(
        tmp_path_factory.mktemp("models"),
        {
            "digits/2/model.onnx": (ROOT / "models/digits/2/model.onnx").read_bytes(),
            "failing.onnx": onnx_models.failing(),
            "slow.onnx": onnx_models.slow(),
            "broken.onnx": b"?",
        },
    )
    iam = account.client("iam")
    service = {"Effect": "Allow", "Principal": {"Service": ["lambda.amazonaws.com", "states.amazonaws.com"]}}
    trust = {"Version": "2012-10-17", "Statement": [{**service, "Action": "sts:AssumeRole"}]}
    iam.create_role(RoleName="predicting", AssumeRolePolicyDocument=json.dumps(trust))
    may = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": FUNCTION}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_role_policy(RoleName="predicting", PolicyName="invoke", PolicyDocument=policy)
    account.client("lambda").create_function(
        FunctionName="predict",
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role=ROLE,
        Code={"ZipFile": package(models, log)},
        Timeout=60,
        MemorySize=1769,
    )
    made = account.client("stepfunctions").create_state_machine(
        name="predicting", definition=json.dumps(definition()), roleArn=ROLE
    )
    return str(made["stateMachineArn"])


def run(account: Account, machine: str, event: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """What Step Functions says of an execution that is over, and how often it invoked the function."""
    client = account.client("stepfunctions")
    arn = client.start_execution(stateMachineArn=machine, input=json.dumps(event))["executionArn"]
    deadline = time.monotonic() + PATIENCE
    while (found := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    history = client.get_execution_history(executionArn=arn, maxResults=1000)["events"]
    return found, sum(event["type"] == "TaskScheduled" for event in history)


def test_a_prediction_is_the_output(account: Account, machine: str, log: Path) -> None:
    found, tries = run(account, machine, DIGIT)
    assert (found["status"], tries) == ("SUCCEEDED", 1), log.read_text()
    assert json.loads(found["output"]) == {
        "model_name": "digits",
        "model_version": "2",
        "id": DIGIT["id"],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}],
    }


WRONG, MISSING = "a person has to look at the request", "deploy the model"
# The event, the classes that its error may have, and what the state says that catches it.
CAUGHT: dict[str, tuple[dict[str, Any], set[str], str]] = {
    "a wrong request": ({"model_name": "digits", "inputs": []}, {"InvalidRequest"}, WRONG),
    "what there isn't": ({**DIGIT, "parameters": {"binary_data_output": True}}, {"NotSupported"}, WRONG),
    "no known form": ({"model_name": "digits"}, {"UnknownEvent"}, WRONG),
    "no such model": ({"model_name": "nobody", "inputs": [X]}, {"ModelNotFound"}, MISSING),
    # The first request finds out, and the others hear of it.
    "a broken model": ({"model_name": "broken", "inputs": [X]}, {"InvalidModel", "ModelUnavailable"}, MISSING),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_an_error_is_caught_by_its_class(account: Account, machine: str, name: str) -> None:
    event, kinds, advice = CAUGHT[name]
    found, tries = run(account, machine, event)
    output = json.loads(found["output"])
    assert (found["status"], output["advice"], tries) == ("SUCCEEDED", advice, 1)
    cause = json.loads(output["Cause"])
    assert output["Error"] in kinds
    assert cause["errorType"] == output["Error"]


def test_what_may_go_well_another_time_is_tried_again(account: Account, machine: str) -> None:
    turns = {"name": "turns", "shape": [1], "datatype": "INT64", "data": [10**9]}
    event = {"model_name": "slow", "inputs": [turns], "parameters": {"timeout": 50_000}}
    found, tries = run(account, machine, event)
    assert (found["status"], found["error"], tries) == ("FAILED", "InferenceTimeout", 1 + TRIES)


def test_what_nothing_catches_fails_the_execution(account: Account, machine: str) -> None:
    found, tries = run(account, machine, {"model_name": "failing", "inputs": [X]})
    assert (found["status"], found["error"], tries) == ("FAILED", "InferenceFailed", 1)


def test_an_error_that_is_a_response(account: Account, machine: str) -> None:
    event, *_ = CAUGHT["a wrong request"]
    found, tries = run(account, machine, {**event, "on_error": "return"})
    assert (found["status"], tries) == ("SUCCEEDED", 1)
    text = "the request's 'inputs' must be an array of at least one object"
    assert json.loads(found["output"]) == {"error": text, "status": 400}
