"""Posts the same encoder request on CONNECTIONS connections for SECONDS: load.py PORT CONNECTIONS SECONDS TOKENS.

Prints `{"rate": [requests a second], "latency": [seconds of each request]}`.
"""

import asyncio
import json
import struct
import sys
import time
from typing import cast

import uvloop

PATH = "/v2/models/encoder/infer"
WARM_UP = 0.5


def make_request(tokens: int) -> bytes:
    """One row of token ids as a binary tensor, the answer asked for as one too, with its HTTP head."""
    ids = struct.pack(f"<{tokens}q", *(7 * position % 2048 for position in range(tokens)))
    tensor = {
        "name": "input_ids",
        "shape": [1, tokens],
        "datatype": "INT64",
        "parameters": {"binary_data_size": len(ids)},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\nContent-Length: {len(header) + len(ids)}\r\n\r\n"
    )
    return head.encode() + header + ids


class Client(asyncio.Protocol):
    """One connection: sends `request` again whenever an answer is complete."""

    def __init__(self, request: bytes, latencies: list[float]) -> None:
        self._request = request
        self._latencies = latencies
        self._received = b""
        self._sent = 0.0
        self.failure = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < content_length(head):
            return
        self._latencies.append(time.perf_counter() - self._sent)
        self._received = b""
        if head.startswith(b"HTTP/1.1 200 "):
            self._send()
        else:
            self.failure = (head + body)[:300].decode("latin-1")

    def connection_lost(self, exc: Exception | None) -> None:
        self.failure = self.failure or f"the connection was closed: {exc}"

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def content_length(head: bytes) -> int:
    """The body's bytes that a response's head announces."""
    lines = head.lower().split(b"\r\n")
    return next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))


async def measure(port: int, connections: int, seconds: float, tokens: int) -> dict[str, list[float]]:
    """Rate and latencies after a warm-up."""
    loop, request, latencies = asyncio.get_running_loop(), make_request(tokens), list[float]()
    clients = [
        (await loop.create_connection(lambda: Client(request, latencies), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(WARM_UP)
    latencies.clear()
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    rate = len(latencies) / (time.perf_counter() - start)
    for client in clients:
        if client.failure:
            raise SystemExit(client.failure)
    return {"rate": [rate], "latency": latencies}


if __name__ == "__main__":
    port, connections, seconds, tokens = sys.argv[1:]
    coroutine = measure(int(port), int(connections), float(seconds), int(tokens))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(coroutine)))
