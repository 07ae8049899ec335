"""Imports the handlers, and asks the application: predict.py MODULE...; the models are MODEL_PATH's.

Fails unless all modules can be imported, the pages of FastAPI are there, and every model predicts the example of its
config.json. A model without one is loaded only.
"""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from inferry.app import create_app
from inferry.http.asgi import ASGIApp, Scope
from inferry.repository.digests import ship
from inferry.repository.repository import open_repository, shipped
from inferry.runtime.session import RUNTIME
from inferry.runtime.verdicts import Verdicts
from inferry.service import Service
from inferry.settings import Settings

PAGES = ("/v2", "/openapi.json", "/docs", "/docs/assets/docs.js", "/docs/assets/swagger-ui-bundle.js", "/metrics")


async def ask(app: ASGIApp, path: str, body: Any = None) -> None:
    """SystemExit with the answer to a GET, or to a POST of the body as JSON, unless it is a 200."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode() if body else b""}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    method = "POST" if body else "GET"
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise SystemExit(f"{path}: {sent[0]['status']}: {sent[1]['body'].decode()}")


def main(modules: list[str]) -> None:
    """Prints the models that work."""
    for module in modules:
        importlib.import_module(module)
    settings = Settings.from_env(os.environ)
    # What is found out of the models' rows now, the functions need not ask again.
    verdicts = Verdicts(RUNTIME, shipped(settings.model_path))
    # Nor hash large files whose bytes are those of now.
    ship(Path(settings.model_path))
    service = Service(open_repository(settings.model_path, verdicts=verdicts), settings)
    app = create_app(service)
    for page in PAGES:
        asyncio.run(ask(app, page))
    for name in service.repository.names():
        model = service.repository.get(name)
        model.prove_rows()
        inputs = model.config.example.get("inputs")
        if inputs:
            asyncio.run(ask(app, f"/v2/models/{name}/infer", {"inputs": inputs}))
        print(f"model {name} {'predicts' if inputs else 'loads'}")
    # Threads of a handler are nobody's to end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
