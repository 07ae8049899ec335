"""An AsgiFunctionApp around an answer that is always the same: what the Functions library itself costs."""

import json
import os
from typing import Any

import azure.functions as func

ANSWER = os.environ["CONSTANT_ANSWER"].encode()
HEADERS = [(name.encode(), value.encode()) for name, value in json.loads(os.environ["CONSTANT_HEADERS"]).items()]


async def constant(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


app = func.AsgiFunctionApp(constant, function_name="constant")
