"""AWS's runtime emulator as a process of its own on loopback: the real runtime client around a handler of ours.

It takes one invocation at a time: two at once end it. Its init happens within the first.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / ".tools" / "emulator" / "aws-lambda-rie"
TOOLS = ROOT / ".tools" / "lambda"
# The Pythons that `make` found a function's environment for.
PYTHONS = {path.parents[1].name: path for path in sorted(TOOLS.glob("*/bin/python"), reverse=True)}
INVOCATIONS = "/2015-03-31/functions/function/invocations"
START_SECONDS = 30.0


@dataclass
class Emulator:
    """A running function. `log` is what the emulator, the runtime and the handler have written so far."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Takes events by POST."""
        return f"http://127.0.0.1:{self.port}{INVOCATIONS}"

    @property
    def log(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")

    @property
    def init_ms(self) -> float:
        """How long the init took, as the emulator reports it: the first, if there were several."""
        return float(re.findall(r"INIT REPORT\(durationMs: ([\d.]+)\)", self.log)[0])

    def invoke(self, event: Any) -> Any:
        """What the function returns: an answer, or {"errorMessage": ..., "errorType": ...}."""
        return json.loads(self.invoke_raw(json.dumps(event).encode()))

    def invoke_raw(self, event: bytes) -> bytes:
        """The bytes of the answer; the emulator says 200 to whatever happens but to an answer over the limit (502)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request("POST", INVOCATIONS, event)
            return connection.getresponse().read()
        finally:
            connection.close()

    def runtimes(self) -> list[int]:
        """The processes that the emulator started: the runtime, while it is alive."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for children in tasks for pid in children.read_text().split()]


@contextmanager
def emulated(
    handler: str, python: str | Path, timeout: int = 30, memory: int = 1024, runtime: str = "functions", **env: str
) -> Iterator[Emulator]:
    """`handler` under the emulator with this Python, as a function of this timeout (s) and memory (MB).

    `runtime` is the module that runs it: "functions" as in our image, "awslambdaric" as everywhere else.
    """
    command = (str(python), "-m", runtime, handler)
    with TemporaryDirectory() as folder:
        given = {
            "PATH": os.environ["PATH"],
            "ORT_DISABLE_TELEMETRY": "1",
            "AWS_LAMBDA_FUNCTION_NAME": "inferry",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        }
        emulator = start(command, Path(folder), {**given, **env})
        try:
            yield emulator
        finally:
            stop(emulator.process)


def start(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Emulator:
    """The emulator as soon as it listens."""
    port, runtime = free_ports()
    addresses = (
        "--runtime-interface-emulator-address",
        f"127.0.0.1:{port}",
        "--runtime-api-address",
        f"127.0.0.1:{runtime}",
    )
    with (folder / "stderr").open("wb") as log:
        process = subprocess.Popen(
            [str(EMULATOR), "--log-level", "info", *addresses, *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=env,
            start_new_session=True,
        )
    emulator = Emulator(port, folder, process)
    try:
        wait(emulator)
    except AssertionError:
        stop(process)
        raise
    return emulator


def wait(emulator: Emulator) -> None:
    """Returns when the emulator listens. AssertionError when it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while not listens(emulator.port):
        if emulator.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the emulator did not start\n{emulator.log}")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the emulator and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
