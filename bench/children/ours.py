"""From a process's start to its first prediction: ours.py REPOSITORY BODY hand|loop [rss].

The request for `digits` is driven by `hand` (a loaded model's answer waits for nothing) or in asyncio's `loop`, as
hosts do. `rss` prints the resident memory in kB. Exit status EX_TEMPFAIL asks for another try by hand.
"""

import os
import sys
from collections.abc import Coroutine, MutableMapping
from pathlib import Path
from typing import Any

from inferry.process import importing

with importing():  # as hosts do
    from inferry.app import create_app
    from inferry.service import Service
    from inferry.settings import Settings

repository, body, way, *report = sys.argv[1:]
service = Service.from_settings(Settings(model_path=repository))
service.preload()
app = create_app(service)
statuses: list[int] = []


async def receive() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": body.encode(), "more_body": False}


async def send(message: MutableMapping[str, Any]) -> None:
    statuses.append(message.get("status", 0))


async def infer() -> None:
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v2/models/digits/infer", "headers": headers}
    await app(scope, receive, send)


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    # Something else ran during the warm-up, which took too long for a model to be run without a thread.
    raise SystemExit(os.EX_TEMPFAIL)


if way == "hand":
    drive(infer())
else:
    import asyncio

    asyncio.run(infer())
if statuses[:1] != [200]:
    raise SystemExit(f"the answer's status is {statuses}")
if report:
    status = Path("/proc/self/status").read_text()
    print(status.partition("VmRSS:")[2].split()[0], flush=True)
# What it takes to end is no part of a start.
os._exit(0)
