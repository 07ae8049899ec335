"""Imports the handlers, and predicts the example of every model: predict.py MODULE...; the models are MODEL_PATH's.

Fails unless all of that works. A model without an example in its config.json is loaded only.
"""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import MutableMapping
from typing import Any

from inferry.app import create_app
from inferry.asgi import ASGIApp
from inferry.service import Service
from inferry.settings import Settings


async def predict(app: ASGIApp, model: str, inputs: Any) -> None:
    """SystemExit with the answer unless it is one."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": json.dumps({"inputs": inputs}).encode()}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": f"/v2/models/{model}/infer", "headers": []}, receive, send)
    if sent[0]["status"] != 200:
        raise SystemExit(f"model {model}: {sent[1]['body'].decode()}")


def main(modules: list[str]) -> None:
    """Prints the models that work."""
    for module in modules:
        importlib.import_module(module)
    service = Service.from_settings(Settings.from_env(os.environ))
    app = create_app(service)
    for name in service.repository.names():
        inputs = service.repository.get(name).config.example.get("inputs")
        if inputs:
            asyncio.run(predict(app, name, inputs))
        print(f"model {name} {'predicts' if inputs else 'loads'}")
    # Threads of a handler are nobody's to end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
