"""Calls a second over gRPC on one core, against a bare server of grpc.aio and MLServer with the same identity model."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from .children.stall import identity
from .measure import Samples, ratio, run, say
from .peers.load import measure
from .peers.servers import HERE, PEERS, Peer, free_port, install, serve, start, stop
from .rps import versions
from .table import Row, Target

IN_FLIGHT = 16
# Numbers of a request, with the least that we may be of the bare echo and of MLServer.
ECHO_TARGET = Target(0.85, at_least=True)
SIZES = {64: (ECHO_TARGET, Target(3, at_least=True)), 150_000: (ECHO_TARGET, Target(7, at_least=True))}


def grpc(quick: bool) -> Iterator[Row]:
    """Two rows for each size, and our HTTP beside them."""
    rounds, seconds = (1, 1) if quick else (6, 2)
    with TemporaryDirectory() as folder:
        model = Path(folder, "identity.onnx")
        model.write_bytes(identity("FP32"))
        echo = Peer("echo", ("{python}", "-P", str(HERE / "grpc_echo.py"), "{port}", str(model)))
        peers = {"echo": echo, "mlserver": mlserver(Path(folder))}
        for floats, targets in SIZES.items():
            pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
            over_http = []
            for number in range(1, rounds + 1):
                say(f"grpc: {floats} numbers, round {number} of {rounds}")
                over_http.append(http_rate(Path(folder), floats, seconds))
                for name, peer in peers.items():
                    pairs[name].append((rate(ours(Path(folder)), floats, seconds), rate(peer, floats, seconds)))
            for (name, found), target in zip(pairs.items(), targets, strict=True):
                mine, theirs = zip(*found, strict=True)
                against = f"{median(theirs):.0f} /s {'grpc.aio by hand' if name == 'echo' else versions(PEERS[name])}"
                what = f"calls/s over gRPC, {floats} numbers, {IN_FLIGHT} in flight, {name}"
                yield Row(what, f"{median(mine):.0f} /s", against, ratio(mine, theirs), target)
            mine, _ = zip(*pairs["echo"], strict=True)
            yield Row(
                f"the same over HTTP, {floats} numbers in binary",
                f"{median(over_http):.0f} /s",
                f"{median(mine):.0f} /s over gRPC",
                ratio(over_http, mine),
            )


def ours(folder: Path) -> Peer:
    """`inferry serve` over the model; its HTTP has any free port."""
    command = ("{python}", "-m", "inferry", "serve", str(folder), "--port", "0", "--grpc-port", "{port}")
    return Peer("inferry", command)


def mlserver(folder: Path) -> Peer:
    """MLServer over the same file, by the runtime that the other rows have."""
    place = folder / "mlserver"
    place.mkdir()
    shutil.copy(HERE / "mlserver/runtime.py", place)
    server = json.loads((HERE / "mlserver/settings.json").read_text())
    del server["grpc_port"]  # its environment has one
    (place / "settings.json").write_text(json.dumps(server))
    settings = json.loads((HERE / "mlserver/model-settings.json").read_text())
    settings |= {"name": "identity", "parameters": {"version": "1", "uri": str(folder / "identity.onnx")}}
    (place / "model-settings.json").write_text(json.dumps(settings))
    environment = {"MLSERVER_GRPC_PORT": "{port}", "MLSERVER_HTTP_PORT": str(free_port())}
    requirements = PEERS["mlserver"].requirements
    return Peer("mlserver", ("{bin}/mlserver", "start", str(place)), requirements=requirements, environment=environment)


def rate(peer: Peer, floats: int, seconds: float) -> float:
    """Calls a second of a server on one core, by a client on another."""
    with running(peer) as port:
        command = (sys.executable, "-m", "bench.children.calls", *map(str, (port, floats, IN_FLIGHT, seconds)))
        found: Samples = json.loads(run(("taskset", "-c", "1", *command), os.environ))
    return found["rate"][0]


def http_rate(folder: Path, floats: int, seconds: float) -> float:
    """Requests a second of our HTTP, with the tensors in binary."""
    raw = np.arange(floats, dtype=np.float32).tobytes()
    tensor = {"name": "x", "shape": [floats], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    command = ("{python}", "-m", "inferry", "serve", str(folder), "--port", "{port}")
    peer = Peer("inferry", command, "/v2/models/identity/infer", lambda: text + raw, headers)
    with serve(peer, free_port(), 0) as url:
        measure(url, text + raw, 1, headers, connections=IN_FLIGHT)
        return measure(url, text + raw, seconds, headers, connections=IN_FLIGHT)


@contextmanager
def running(peer: Peer) -> Iterator[int]:
    """The peer on one core; the port that it will listen on."""
    install(peer)
    port = free_port()
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        process = start(peer, port, 0, Path(scratch) / "server.log")
        try:
            yield port
        finally:
            stop(process)
