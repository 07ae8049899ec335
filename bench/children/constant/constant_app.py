"""An AsgiFunctionApp around an answer that is always the same: what the Functions library itself costs."""

import os
from typing import Any

import azure.functions as func

ANSWER = os.environ["CONSTANT_ANSWER"].encode()


async def constant(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


app = func.AsgiFunctionApp(constant, function_name="constant")
