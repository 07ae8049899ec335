"""The check of a new version: what it asks, what it takes for the same, and that CodeDeploy always hears of it."""

import io
import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from cdk.check import handler

HOOK = {"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "e-1"}
INPUTS = [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]
CARD = {"example": {"inputs": INPUTS, "expect": {"y": [0.5, 0.25], "label": ["a"]}}}
ANSWER = {"outputs": [{"name": "y", "data": [0.5004, 0.25]}, {"name": "label", "data": ["a"]}]}
READY = {"name": "m", "ready": True}


class AWS:
    """What the check calls: each call is kept, and answered from `answers`."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def client(self, service: str) -> "AWS":
        return self

    def __getattr__(self, name: str) -> Any:
        def call(**given: Any) -> Any:
            self.calls.append((name, given))
            return self.answers.get(name)

        return call


def invoked(answer: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"Payload": io.BytesIO(json.dumps(answer).encode()), **more}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`run(card, env, **answers)`: the status that CodeDeploy hears, and the calls before that."""

    def go(
        card: dict[str, Any] | None, env: dict[str, str], **answers: Any
    ) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        (tmp_path / "cards" / "m").mkdir(parents=True)
        if card is not None:
            (tmp_path / "cards" / "m" / "config.json").write_text(json.dumps(card))
        monkeypatch.setattr(handler, "__file__", str(tmp_path / "handler.py"))
        aws = AWS(**answers)
        monkeypatch.setattr(boto3, "client", aws.client)
        for name, value in {"MODELS": '["m"]', "VERSION": "arn:function:7", **env}.items():
            monkeypatch.setenv(name, value)
        handler.handler(HOOK, None)
        *calls, (name, told) = aws.calls
        assert (name, told.pop("deploymentId"), told.pop("lifecycleEventHookExecutionId")) == (
            "put_lifecycle_event_hook_execution_status",
            "d-1",
            "e-1",
        )
        return told["status"], calls

    return go


def test_asks_the_version_itself(run: Any) -> None:
    status, [(name, given)] = run(CARD, {}, invoke=invoked(ANSWER))
    event = json.loads(given.pop("Payload"))
    assert (status, name, given) == ("Succeeded", "invoke", {"FunctionName": "arn:function:7"})
    assert event == {"model_name": "m", "inputs": INPUTS}


def test_a_card_without_an_example(run: Any) -> None:
    status, [(_, given)] = run({}, {}, invoke=invoked(READY))
    assert (status, json.loads(given["Payload"])) == ("Succeeded", {"model_name": "m", "ready": True})


def test_a_card_in_a_bucket(run: Any) -> None:
    answers = {
        "list_objects_v2": {"Contents": [{"Key": "models/m/config.json"}]},
        "get_object": {"Body": io.BytesIO(json.dumps(CARD).encode())},
    }
    status, [_, read, (name, _)] = run(
        {}, {"MODEL_BUCKET": "b", "MODEL_FOLDER": "models"}, **answers, invoke=invoked(ANSWER)
    )
    assert (status, read, name) == (
        "Succeeded",
        ("get_object", {"Bucket": "b", "Key": "models/m/config.json"}),
        "invoke",
    )


def test_a_model_in_a_bucket_that_has_no_card(run: Any) -> None:
    """S3 tells a role with these rights that an object is not there by its list alone."""
    empty = {"list_objects_v2": {"KeyCount": 0}}
    status, [listed, (name, given)] = run(
        CARD, {"MODEL_BUCKET": "b", "MODEL_FOLDER": "models"}, **empty, invoke=invoked(READY)
    )
    assert (status, listed) == ("Succeeded", ("list_objects_v2", {"Bucket": "b", "Prefix": "models/m/config.json"}))
    assert (name, json.loads(given["Payload"])) == ("invoke", {"model_name": "m", "ready": True})


def test_a_model_in_the_image_that_has_no_card(run: Any) -> None:
    status, [(_, given)] = run(None, {}, invoke=invoked(READY))
    assert (status, json.loads(given["Payload"])) == ("Succeeded", {"model_name": "m", "ready": True})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            invoked({"errorType": "ModelNotFound", "errorMessage": "unknown model 'm'"}, FunctionError="Unhandled"),
            "m: the function failed: ModelNotFound: unknown model 'm'",
        ),
        (
            invoked({"errorMessage": "out of memory"}, FunctionError="Unhandled"),
            "m: the function failed: None: out of memory",
        ),
        (invoked({"outputs": []}), "m: y is None, and its card says [0.5, 0.25]"),
        (invoked({"nonsense": 1}), "'outputs'"),
    ],
)
def test_what_goes_wrong(run: Any, capsys: pytest.CaptureFixture[str], answer: Any, reason: str) -> None:
    status, _ = run(CARD, {}, invoke=answer)
    assert (status, json.loads(capsys.readouterr().out)["reason"]) == ("Failed", reason)


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ([0.5, 1], [0.5009, 1.0], True),
        ([0.5], [0.502], False),
        ([1000.0], [1000.9], True),
        ([[1, 2], [3, 4]], [1, 2, 3, 4], True),
        ([1, 2], [1, 2, 3], False),
        ([1, 2, 3], [1, 2], False),
        ([1], None, False),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        ([True], [True], True),
        (["1"], [1], False),
        ([float("nan")], [float("nan")], False),
    ],
)
def test_alike(expected: Any, got: Any, same: bool) -> None:
    assert handler.alike(expected, got) is same
