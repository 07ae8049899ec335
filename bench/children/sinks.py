"""A process that serves one prediction with these sinks: sinks.py REPOSITORY BODY SINKS."""

import asyncio
import os
import sys
from collections.abc import MutableMapping
from typing import Any

from inferry.app import create_app
from inferry.observability.sinks.pusher import open_pusher
from inferry.service import Service
from inferry.settings import Settings

_, folder, body, sinks = sys.argv
settings = Settings(
    model_path=folder,
    intra_op_threads=1,
    metrics_sinks=tuple(filter(None, sinks.split(","))),
    remote_write_url="http://127.0.0.1:9/",
)
service = Service.from_settings(settings)
pusher = open_pusher(settings, service.metrics, os.environ)
sent: list[MutableMapping[str, Any]] = []


async def receive() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": body.encode(), "more_body": False}


async def send(message: MutableMapping[str, Any]) -> None:
    sent.append(message)


scope = {"type": "http", "method": "POST", "path": "/v2/models/digits/infer", "headers": []}


async def infer() -> None:
    await create_app(service)(scope, receive, send)


asyncio.run(infer())
if sent[0]["status"] != 200 or (pusher is None) != (not sinks):
    raise SystemExit(f"{sent}")
os._exit(0)
