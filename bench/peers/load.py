"""The load generator: wrk."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .errors import LoadFailed, tail

SCRIPT = Path(__file__).resolve().parent / "post.lua"
JSON = {"Content-Type": "application/json"}


def measure(
    url: str,
    body: bytes,
    seconds: float,
    headers: Mapping[str, str] = JSON,
    core: int = 1,
    connections: int = 8,
) -> float:
    """Requests a second that wrk sees on `connections` connections, wrk itself on `core`.

    Raises LoadFailed when wrk is missing or an answer was not 2xx.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadFailed("wrk is missing: apt-get install wrk")
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        load = (wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT))
        arguments = (file.name, *(f"{name}: {value}" for name, value in headers.items()))
        command = ("taskset", "-c", str(core), *load, url, "--", *arguments)
        done = subprocess.run(command, capture_output=True, text=True)
    return parse(done.stdout + done.stderr)


def parse(output: str) -> float:
    """Requests a second from the line that post.lua prints."""
    found = re.search(r"^result requests=(\d+) microseconds=(\d+) status=(\d+) socket=(\d+)$", output, re.M)
    if found is None:
        raise LoadFailed(f"wrk gave no result:\n{tail(output)}")
    requests, microseconds, status, sockets = map(int, found.groups())
    if status or sockets or not requests:
        raise LoadFailed(f"of {requests} requests {status} were not answered 2xx, {sockets} socket errors")
    return requests / microseconds * 1e6
