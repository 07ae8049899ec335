"""Runs the example of each model's card against a new version, compares, and tells CodeDeploy.

The code of a function of its own: it imports boto3, which Lambda's runtime brings, and nothing of inferry.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

# Cards give rounded numbers, and processors differ in the last bits.
TOLERANCE = 1e-3


class CheckFailed(Exception):
    """The new version doesn't do what its models' cards say."""


def handler(event: Mapping[str, str], context: Any) -> dict[str, str]:
    """CodeDeploy's BeforeAllowTraffic hook; anything that goes wrong fails the deployment."""
    try:
        for model in json.loads(os.environ["MODELS"]):
            check(model)
    except Exception as exc:  # noqa: BLE001  (CodeDeploy would wait an hour for an answer)
        print(json.dumps({"check": "failed", "error": type(exc).__name__, "reason": str(exc)}))
        return _tell(event, "Failed")
    return _tell(event, "Succeeded")


def check(model: str) -> None:
    """One model's example; a card without one only asks whether the model is ready."""
    example = _card(model).get("example", {})
    if "inputs" not in example:
        _invoke({"model_name": model, "ready": True})
        return
    answer = _invoke({"model_name": model, "inputs": example["inputs"]})
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    for name, expected in example.get("expect", {}).items():
        if not alike(expected, outputs.get(name)):
            raise CheckFailed(f"{model}: {name} is {outputs.get(name)!r}, and its card says {expected!r}")


def alike(expected: Any, got: Any) -> bool:
    """The same values in the same order, however they are nested, and numbers to the card's precision."""
    pairs = list(zip(flat(expected), flat(got), strict=False))
    if len(pairs) != len(list(flat(expected))) or len(pairs) != len(list(flat(got))):
        return False
    return all(_same(*pair) for pair in pairs)


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield value


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, int | float) and isinstance(got, int | float):
        return math.isclose(expected, got, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(expected == got)


def _card(model: str) -> dict[str, Any]:
    """From the bucket that has the models, else from the copy that lies beside this file; empty: it has none."""
    bucket, key = os.environ.get("MODEL_BUCKET"), f"{model}/config.json"
    text = (
        _object(bucket, f"{os.environ['MODEL_FOLDER']}/{key}")
        if bucket
        else _file(Path(__file__).with_name("cards") / key)
    )
    card: dict[str, Any] = json.loads(text or "{}")
    return card


def _object(bucket: str, key: str) -> bytes:
    client = boto3.client("s3")
    # Of an object that is not there, S3 says "forbidden" to a role that may list below a prefix only.
    listed = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    if key not in (item["Key"] for item in listed):
        return b""
    content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def _file(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _invoke(event: Mapping[str, Any]) -> Any:
    """The response of the new version itself to a direct invocation, which needs no key."""
    answer = boto3.client("lambda").invoke(FunctionName=os.environ["VERSION"], Payload=json.dumps(event).encode())
    response = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        said = f"{response.get('errorType')}: {response.get('errorMessage')}"
        raise CheckFailed(f"{event['model_name']}: the function failed: {said[:1000]}")
    return response


def _tell(event: Mapping[str, str], status: str) -> dict[str, str]:
    boto3.client("codedeploy").put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status=status,
    )
    return {"status": status}
