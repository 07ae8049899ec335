"""A server's process without its port: python -m inferry.sizing.child TASK, whose findings are printed as JSON.

It starts as functions do, answers a request by the application, and then some more.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from inferry.app import create_app
from inferry.http.asgi import Exchange
from inferry.protocol.signature import Feed
from inferry.runtime.model import Model
from inferry.runtime.row_proof import random_feeds
from inferry.runtime.verdicts import PROVEN
from inferry.service import Service
from inferry.settings import Settings

# Seconds that warm requests go on for, and how many there are at least and at most.
_LONG, _LEAST, _MOST = 1.0, 7, 200


def measure(model_path: str, name: str, threads: int, body: str, batches: list[int]) -> dict[str, Any]:
    """When the first response was there, seconds of the others, and of a row in requests of so many rows."""
    values = {**os.environ, "MODEL_PATH": model_path, "INTRA_OP_THREADS": str(threads), "LOG_LEVEL": "CRITICAL"}  # noqa: TID251
    service = Service.from_settings(Settings.from_env(values))
    model = service.repository.get(name)
    content = Path(body).read_bytes() if body else request(model, 0)
    app = create_app(service)
    first = _ask(app, name, content)
    answered = time.time()
    times = [first]
    began = time.monotonic()
    while len(times) <= _LEAST or (time.monotonic() - began < _LONG and len(times) <= _MOST):
        times.append(_ask(app, name, content))
    rows: dict[int, float] = {}
    if batches and _joins(model):
        for count in batches:
            many = request(model, count)
            rows[count] = median(_ask(app, name, many) for _ in range(5)) / count
    service.close()
    return {"answered": answered, "warm": median(times[1:]), "rows": rows, "peak": _peak()}


def _ask(app: Any, name: str, body: bytes) -> float:
    """Seconds of a request; RuntimeError says how it failed."""
    exchange = Exchange(lambda: body)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/v2/models/{name}/infer",
        "raw_path": f"/v2/models/{name}/infer".encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": None,
        "server": None,
    }
    began = time.perf_counter()
    asyncio.run(app(scope, exchange.receive, exchange.send))
    seconds = time.perf_counter() - began
    if exchange.status != 200:
        raise RuntimeError(f"it answers {exchange.status}: {exchange.body[:300].decode(errors='replace')}")
    return seconds


def request(model: Model, rows: int) -> bytes:
    """A request of the model's example, or of random values; of so many rows, 0: as it is."""
    from inferry.errors import InferryError

    try:
        feed = model.example()
    except InferryError:
        feed = {name: array[:1] for name, array in next(iter(random_feeds(model.session.signature))).items()}
    return json.dumps({"inputs": [_tensor(model, feed, name, rows) for name in feed]}).encode()


def _tensor(model: Model, feed: Feed, name: str, rows: int) -> dict[str, Any]:
    array = feed[name][[0] * rows] if rows else feed[name]
    datatype = model.session.signature.inputs[name].datatype.name
    return {"name": name, "shape": [*array.shape], "datatype": datatype, "data": array.reshape(-1).tolist()}


def _joins(model: Model) -> bool:
    return model.prove_rows().rows == PROVEN


def _peak() -> int:
    """Bytes of memory at the most, of pages that are files' as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    try:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
    except Exception as exc:  # noqa: BLE001
        sys.exit(str(exc))
