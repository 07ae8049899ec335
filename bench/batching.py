"""Dynamic batching against none: the encoder with many clients, and with one."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from .measure import MODELS, Samples, milliseconds, ratio, repository, sample, say
from .peers.example import compact
from .peers.servers import Peer, free_port, serve
from .table import Row, Target

THROUGHPUT, LATENCY = Target(1.5, at_least=True), Target(1.05)
CLIENTS, TOKENS = 32, 16


def batching(quick: bool) -> Iterator[Row]:
    """Rows of throughput and of the median latency. Both servers run at once, on all cores; only one has work."""
    rounds, seconds = (2, 1) if quick else (10, 1.5)
    results: dict[tuple[str, int], list[Samples]] = {}
    with ExitStack() as stack:
        ports = {}
        for name, without in (("batched", ""), ("unbatched", "dynamic_batching")):
            folder = stack.enter_context(repository("encoder", without))
            ports[name] = free_port()
            stack.enter_context(serve(server(name, folder), ports[name], 0))
        for number in range(1, rounds + 1):
            say(f"batching: round {number} of {rounds}")
            for clients in (CLIENTS, 1):
                for name, port in ports.items():
                    found = sample("load", port, clients, seconds, TOKENS)
                    results.setdefault((name, clients), []).append(found)
    batched, unbatched = ([found["rate"][0] for found in results[name, CLIENTS]] for name in ports)
    against = f"{median(unbatched):.0f} /s without"
    value = ratio(batched, unbatched)
    yield Row(
        f"dynamic batching, {CLIENTS} clients, {TOKENS} tokens", f"{median(batched):.0f} /s", against, value, THROUGHPUT
    )
    batched, unbatched = ([median(found["latency"]) for found in results[name, 1]] for name in ports)
    against = f"{milliseconds(unbatched)} without"
    yield Row(
        f"dynamic batching, 1 client, {TOKENS} tokens, p50",
        milliseconds(batched),
        against,
        ratio(batched, unbatched),
        LATENCY,
    )


def server(name: str, folder: Path) -> Peer:
    """`inferry serve` over the repository."""
    # A run of the encoder uses all cores; `serve` would give it one.
    everywhere = ("taskset", "-c", ",".join(map(str, os.sched_getaffinity(0))))
    command = (*everywhere, "{python}", "-m", "inferry", "serve", str(folder), "--port", "{port}")
    return Peer(name, command, path="/v2/models/encoder/infer", body=card_body)


def card_body() -> bytes:
    """The example on the encoder's card."""
    card = json.loads((MODELS / "encoder/config.json").read_text(encoding="utf-8"))
    return compact({"inputs": card["example"]["inputs"]})
