"""Requests of ever changing shapes through the application: growth.py REPOSITORY N EVERY.

Prints `{"rss": [resident megabytes after EVERY requests, and after each EVERY more]}`.
"""

import asyncio
import json
import random
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from inferry.app import create_app
from inferry.http.asgi import ASGIApp
from inferry.service import Service
from inferry.settings import Settings

CLIENTS = 4
ROWS, TOKENS, VOCABULARY = 4, 64, 2048


def any_request(rng: random.Random) -> tuple[bytes, bytes]:
    """The body of a request with a binary tensor of any shape, and the length of its JSON."""
    return make_request(rng, rng.randint(1, ROWS), rng.randint(1, TOKENS))


def make_request(rng: random.Random, rows: int, tokens: int) -> tuple[bytes, bytes]:
    """The body of a request of this shape, and the length of its JSON."""
    ids = b"".join(rng.randrange(VOCABULARY).to_bytes(8, "little") for _ in range(rows * tokens))
    tensor = {
        "name": "input_ids",
        "shape": [rows, tokens],
        "datatype": "INT64",
        "parameters": {"binary_data_size": len(ids)},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return header + ids, str(len(header)).encode()


async def request(app: ASGIApp, body: bytes, length: bytes) -> None:
    """Posts the body. SystemExit unless it is answered."""
    headers = [(b"inference-header-content-length", length)]
    scope = {"type": "http", "method": "POST", "path": "/v2/models/encoder/infer", "headers": headers}

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise SystemExit(f"the answer's status is {message['status']}")

    await app(scope, receive, send)


def resident() -> float:
    """Megabytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def measure(repository: str, count: int, every: int) -> dict[str, list[float]]:
    """Resident memory on the way."""
    service = Service.from_settings(Settings(model_path=repository))
    service.preload()
    app, rng, sizes = create_app(service), random.Random(0), list[float]()
    left = iter(range(1, count + 1))

    async def client() -> None:
        for number in left:
            await request(app, *any_request(rng))
            if number % every == 0:
                sizes.append(resident())

    # The largest batch that these clients can make is one of the first: left to chance it comes once in millions of
    # requests, the next smaller ones once in ten thousands, and each takes the memory to a step that is no leak.
    largest = make_request(rng, ROWS, TOKENS)
    await asyncio.gather(*(request(app, *largest) for _ in range(CLIENTS)))
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return {"rss": sizes}


if __name__ == "__main__":
    repository, count, every = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(repository, int(count), int(every)))))
