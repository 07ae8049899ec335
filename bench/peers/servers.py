"""The peers of `make bench`: each serves version 2 of the digits model on 127.0.0.1 from one core.

Linux only: it pins with taskset and finds child processes in /proc.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from .errors import Unavailable, WrongAnswer, tail
from .example import Arrays, infer_body, keyword_body, predict, read_infer_response, read_mapping
from .load import JSON, measure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
READY_WITHIN = 90.0
STOP_WITHIN = 10.0
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "OTEL_SDK_DISABLED": "true",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Peer:
    """A server of the digits model.

    In `command` and `environment`, {python} and {bin} are of the peer's venv, {port} is the port to listen on
    and {scratch} a folder that is gone afterwards. `requirements` empty: it runs on this project's own venv.
    """

    name: str
    command: tuple[str, ...]
    path: str = "/v2/models/digits/infer"
    body: Callable[[], bytes] = infer_body
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    read: Callable[[Any], Arrays] = read_infer_response
    requirements: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def venv(self) -> Path:
        """The venv that it runs on."""
        return ROOT / ".bench" / self.name if self.requirements else Path(sys.prefix)


def uvicorn(app: str) -> tuple[str, ...]:
    """The command that serves a peer's module with uvicorn, as inferry is served."""
    server = ("{python}", "-m", "uvicorn", app, "--app-dir", str(HERE))
    address = ("--host", "127.0.0.1", "--port", "{port}", "--workers", "1")
    return (*server, *address, "--loop", "uvloop", "--http", "httptools", "--no-access-log")


# Access logs, metrics and compression are off wherever a peer lets us, and of the ways that its documentation
# shows each peer is written in the fastest that runs: MLServer without worker processes, LitServe with its fast
# queue, FastAPI and BentoML with `async def`.
_PEERS = (
    Peer("asgi", uvicorn("asgi:app")),
    Peer("fastapi_pydantic", uvicorn("fastapi_pydantic:app")),
    Peer(
        "mlserver",
        ("{bin}/mlserver", "start", str(HERE / "mlserver")),
        requirements=HERE / "mlserver/requirements.txt",
        environment={"MLSERVER_HTTP_PORT": "{port}"},
    ),
    Peer(
        "litserve",
        ("{python}", str(HERE / "litserve/server.py"), "{port}"),
        requirements=HERE / "litserve/requirements.txt",
    ),
    Peer(
        "bentoml",
        (
            *("{bin}/bentoml", "serve", "service:Digits", "--working-dir", str(HERE / "bentoml")),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        path="/infer",
        body=keyword_body,
        read=read_mapping,
        requirements=HERE / "bentoml/requirements.txt",
        environment={"BENTOML_HOME": "{scratch}"},
    ),
)
PEERS: dict[str, Peer] = {peer.name: peer for peer in _PEERS}


def install(peer: Peer) -> None:
    """Make the peer's venv unless it is there with the same pins. Raises Unavailable when pip fails."""
    if peer.requirements is None:
        return
    pins, stamp = peer.requirements.read_text(encoding="utf-8"), peer.venv / "installed.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == pins:
        return
    print(f"installing {peer.name} into .bench/{peer.name}: once, about a minute", flush=True)
    pip = (str(peer.venv / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    for command in (
        (sys.executable, "-m", "venv", "--clear", str(peer.venv)),
        (*pip, "-r", str(peer.requirements)),
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"{peer.name} cannot be installed: {tail(done.stdout + done.stderr, 1)}")
    stamp.write_text(pins, encoding="utf-8")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serve(peer: Peer, port: int, core: int) -> Iterator[str]:
    """Run the peer with all its processes on one core; yields the URL to post to once a prediction succeeds.

    Raises Unavailable when the peer cannot be installed or is not ready in 90 seconds.
    """
    install(peer)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        log = Path(scratch) / "server.log"
        process = start(peer, port, core, log)
        try:
            url = f"http://127.0.0.1:{port}{peer.path}"
            wait_until_ready(peer, url, process, log)
            yield url
        finally:
            stop(process)


def start(peer: Peer, port: int, core: int, log: Path) -> subprocess.Popen[bytes]:
    """The peer's main process, the leader of its own process group."""
    bin_ = peer.venv / "bin"
    places = {"python": bin_ / "python", "bin": bin_, "port": port, "scratch": log.parent}
    command = [word.format(**places) for word in ("taskset", "-c", str(core), *peer.command)]
    settings = {name: value.format(**places) for name, value in peer.environment.items()}
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env={**os.environ, **QUIET, "TMPDIR": str(log.parent), **settings},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_ready(peer: Peer, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the peer answers a prediction with 200."""
    deadline, body, last = time.monotonic() + READY_WITHIN, peer.body(), ""
    while process.poll() is None and time.monotonic() < deadline:
        try:
            status, answer = post(url, body, peer.headers)
        except OSError as exc:
            last = str(exc)
        else:
            if status == 200:
                return
            last = f"{status} {answer[:200]!r}"
        time.sleep(0.2)
    raise Unavailable(f"{peer.name} does not predict: {last}\n{tail(log.read_text(errors='replace'))}")


def post(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """The answer's status and body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("POST", parts.path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and all its descendants."""
    # BentoML's arbiter puts its workers into sessions of their own, where killpg would not find them.
    members = descendants(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN)
    for pid in (process.pid, *members):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """The ids of the process's children and theirs."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listing.read_text().split()):
                found += [child, *descendants(child)]
    return found


def check(peer: Peer, url: str) -> None:
    """Raises WrongAnswer unless the peer's outputs for the example are those of onnxruntime."""
    status, body = post(url, peer.body(), peer.headers)
    if status != 200:
        raise WrongAnswer(f"{peer.name} answered {status}: {body[:200]!r}")
    answer, expected = peer.read(json.loads(body)), predict()
    if answer.keys() != expected.keys():
        raise WrongAnswer(f"{peer.name} answered {sorted(answer)}, the model has {sorted(expected)}")
    for name, array in expected.items():
        # MLServer sends a tensor of one dimension as a column, so the shapes are not compared.
        if answer[name].size != array.size or not np.allclose(answer[name].ravel(), array.ravel(), atol=1e-5):
            raise WrongAnswer(f"{peer.name} answered {name} {answer[name]}, onnxruntime {array}")


def rate(peer: Peer, seconds: float = 5, server_core: int = 0, load_core: int = 1) -> float:
    """Requests a second of the peer, its answer checked first, after a second to warm up."""
    with serve(peer, free_port(), server_core) as url:
        check(peer, url)
        measure(url, peer.body(), 1, peer.headers, load_core)
        return measure(url, peer.body(), seconds, peer.headers, load_core)
