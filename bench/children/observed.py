"""A request through the application: with its line of JSON, counted only, and unseen: observed.py REPOSITORY N.

Prints `{"line": [seconds], "counted": [seconds], "unseen": [seconds]}` of requests of which eight come in one turn of
the event loop, the same as "line alone" and so on of those that come one by one, and "looks": means of AT_A_TIME
requests in turns. Lines are written as under `inferry serve`, into a pipe that another process reads, as under every
container's runtime. The looks are more than a request does for traces and lines where both are off: what is far below
the app asks a variable, the app itself has nothing but arguments to look at.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import MutableMapping
from functools import partial
from typing import Any

import uvloop
from inferry.app import create_app
from inferry.http.asgi import ASGIApp
from inferry.observability import logs
from inferry.observability.record import current_record
from inferry.service import Service
from inferry.settings import Settings

from bench.peers.example import infer_body

# One clock read costs a part of what is measured, and a code that was just run is quicker.
AT_A_TIME = 200
WARM_UP = 5
WAYS = {"": 8, " alone": 1}


class Unseen:
    """In the place of a model's counts."""

    in_flight = 0

    def succeeded(self, *_: Any) -> None:
        """Nothing is counted."""

    executed = failed = succeeded


def applications(repository: str) -> dict[str, ASGIApp]:
    """By what they do beside answering."""
    settings = Settings(model_path=repository, default_model="digits", intra_op_threads=1)
    seen = Settings(model_path=repository, default_model="digits", intra_op_threads=1, log_format="json")
    logs.configure(seen)
    services = {
        "line": Service.from_settings(seen),
        "counted": Service.from_settings(settings),
        "unseen": Service.from_settings(settings),
    }
    for service in services.values():
        service.preload()
    services["unseen"].repository.get("digits").stats = Unseen()  # type: ignore[assignment]
    return {name: create_app(service) for name, service in services.items()}


def looks() -> float:
    """Seconds in which a request finds out, four times, that nobody looks at it."""
    start = time.perf_counter()
    for _ in range(AT_A_TIME):
        for _ in range(4):
            if current_record.get() is not None:
                raise SystemExit("somebody looks")
    return (time.perf_counter() - start) / AT_A_TIME


async def turns(app: ASGIApp, clients: int) -> float:
    """Seconds of a request, `clients` of which come in one turn; what is put off to its end is in them."""
    body, sent = infer_body(), list[MutableMapping[str, Any]]()
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", b"8f14e45fceea167a"),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/v2/models/digits/infer", "headers": headers}

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def request() -> None:
        await app(scope, receive, send)

    new = asyncio.get_running_loop().create_task
    start = time.perf_counter()
    for _ in range(AT_A_TIME // clients):
        sent.clear()
        for task in [new(request()) for _ in range(clients)]:
            await task
    logs.log.handlers[0].flush()  # no other's time has lines of these
    took = time.perf_counter() - start
    if sent[0]["status"] != 200:
        raise SystemExit(f"{sent}")
    return took / AT_A_TIME


async def measure(repository: str, count: int) -> dict[str, list[float]]:
    """Samples of each."""
    apps = applications(repository)
    kinds = [(f"{name}{how}", app, clients) for how, clients in WAYS.items() for name, app in apps.items()]
    samples: dict[str, list[float]] = {name: [] for name in ("looks", *(name for name, *_ in kinds))}
    # As `inferry serve` does.
    logs.together(partial(asyncio.get_running_loop().call_later, 0.05))
    gc.collect()
    gc.freeze()
    for _ in range(WARM_UP + count // AT_A_TIME):
        for name, app, clients in kinds:
            samples[name].append(await turns(app, clients))
        samples["looks"].append(looks())
    return {name: values[WARM_UP:] for name, values in samples.items()}


if __name__ == "__main__":
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        os.dup2(reader.stdin.fileno(), sys.stderr.fileno())
        try:
            print(json.dumps(uvloop.run(measure(sys.argv[1], int(sys.argv[2])))))
        finally:
            os.close(sys.stderr.fileno())  # for the reader to end
