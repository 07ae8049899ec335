"""Tensors by reference under Lambda's runtime: more than an event has room for, in and out."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lambda_events as events
import lambda_files as files
import numpy as np
import onnx_models
import pytest
from emulator import emulated

from functions.sources import MAX_BODY

PLACE = f"s3://{files.BUCKET}/tensors"


@pytest.fixture(scope="module")
def bucket() -> Iterator[files.Bucket]:
    with files.bucket() as bucket:
        yield bucket


def test_a_tensor_that_no_event_has_room_for(
    python: Path, bucket: files.Bucket, repository: Callable[..., str]
) -> None:
    values = np.arange(MAX_BODY // 2, dtype=np.float32)
    bucket.client.put_object(Bucket=files.BUCKET, Key="tensors/x.bin", Body=values.tobytes())
    given = {"name": "x", "shape": [values.size], "datatype": "FP32", "parameters": {"uri": f"{PLACE}/x.bin"}}
    wanted = {"name": "y", "parameters": {"uri": f"{PLACE}/y.npy"}}
    env: dict[str, Any] = {
        **bucket.environment,
        "DEFAULT_MODEL": "",
        "DATA_PREFIXES": PLACE,
        "MODEL_PATH": repository({"echo.onnx": onnx_models.identity("FP32", ("n",))}),
    }
    with emulated("functions.api.handler", python, **env) as function:
        body = json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
        sent = events.http_api("POST", "/v2/models/echo/infer", body, {"content-type": "application/json"})
        answer = function.invoke(sent)
        elsewhere = {**given, "parameters": {"uri": f"s3://{files.BUCKET}/input/x.bin"}}
        refused = function.invoke(sent | {"body": json.dumps({"inputs": [elsewhere]})})
    assert answer["statusCode"] == 200, answer["body"]
    assert json.loads(answer["body"])["parameters"] == {"uri:y": f"{PLACE}/y.npy"}
    written = bucket.client.get_object(Bucket=files.BUCKET, Key="tensors/y.npy")["Body"].read()
    assert np.array_equal(np.load(io.BytesIO(written)), values)
    assert (refused["statusCode"], "DATA_PREFIXES" in refused["body"]) == (403, True)
