"""One row of 64 floats through the ASGI application, and through the session alone, in turns: overhead.py REPOSITORY N.

Prints `{"app": [seconds], "session": [seconds]}`.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import onnxruntime as ort
from inferry.app import create_app
from inferry.service import Service
from inferry.settings import Settings

from bench.measure import MODELS
from bench.peers.example import example, infer_body

WARM_UP = 200


async def measure(repository: str, count: int) -> dict[str, list[float]]:
    """Samples of both."""
    service = Service.from_settings(Settings(model_path=repository, intra_op_threads=1))
    service.preload()
    app = create_app(service)
    body = infer_body()
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    scope = {"type": "http", "method": "POST", "path": "/v2/models/digits/infer", "headers": headers}
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(MODELS / "digits/2/model.onnx", options, providers=["CPUExecutionProvider"])
    feed = {t["name"]: np.array(t["data"], np.float32).reshape(t["shape"]) for t in example()["inputs"]}
    samples: dict[str, list[float]] = {"app": [], "session": []}
    # As `inferry serve` does.
    gc.collect()
    gc.freeze()
    for _ in range(WARM_UP + count):
        sent.clear()
        start = time.perf_counter()
        await app(scope, receive, send)
        between = time.perf_counter()
        session.run(None, feed)
        samples["session"].append(time.perf_counter() - between)
        samples["app"].append(between - start)
    if sent[0]["status"] != 200:
        raise SystemExit(f"{sent}")
    return {name: values[WARM_UP:] for name, values in samples.items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2])))))
