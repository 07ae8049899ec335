"""`python -m standin FOLDER [--port N] [--key KEY]`: the app of a folder, as `func start` would serve it."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

from standin import worker
from standin.pollers import Limits, pollers
from standin.routing import BadRoute, routes
from standin.web import Web


def main() -> int:
    parser = argparse.ArgumentParser(prog="standin")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default="", help="the function key; without one none is asked for")
    parser.add_argument("--admin-key", default="")
    parser.add_argument("--index", action="store_true", help="print the functions as JSON, and end")
    options = parser.parse_args()
    # The worker's root logger hands everything from INFO on to the host.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, level="INFO")
    try:
        return asyncio.run(_index(options) if options.index else _serve(options))
    except (worker.IndexingFailed, BadRoute) as exc:
        print(exc, file=sys.stderr)
        return 1


async def _index(options: argparse.Namespace) -> int:
    functions = await worker.index(options.folder)
    print(json.dumps({function.name: function.bindings for function in functions}))
    return 0


async def _serve(options: argparse.Namespace) -> int:
    functions = await worker.index(options.folder)
    host = _host(options.folder)
    found = routes(functions, host.get("extensions", {}).get("http", {}).get("routePrefix", "api"))
    keys = {level: key for level, key in (("function", options.key), ("admin", options.admin_key)) if key}
    polling = [asyncio.create_task(p.poll()) for p in pollers(functions, os.environ, Limits.parse(host), log)]
    listener = _listener(options.port)
    config = uvicorn.Config(Web(found, keys, log), lifespan="off", log_level="warning", server_header=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    print(f"{len(functions)} functions at http://127.0.0.1:{listener.getsockname()[1]}\n", end="", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])
    for task in polling:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return 0


def _listener(port: int) -> socket.socket:
    """Named as TCP's: asyncio sends small parts at once only on such sockets, and else after the client's 40 ms."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    return listener


def _host(folder: Path) -> dict[str, Any]:
    """host.json, with what the settings AzureFunctionsJobHost__a__b say instead."""
    host: dict[str, Any] = json.loads((folder / "host.json").read_text())
    for name, value in os.environ.items():
        first, *keys, last = name.split("__") if name.startswith("AzureFunctionsJobHost__") else [""] * 2
        if first:
            at: dict[str, Any] = host
            for key in keys:
                at = at.setdefault(key, {})
            at[last] = int(value) if value.isdigit() else value
    return host


def log(text: str) -> None:
    logging.getLogger("host").info(text)


sys.exit(main())
