"""What `inferry size` found, beside the server's image in a container with the same limits."""

import http.client
import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

from inferry.sizing.limits import open_limits
from inferry.sizing.sizes import MB_PER_CPU, Measurer

from .measure import ROOT, ChildFailed, milliseconds, ratio, repository, say
from .table import RATIO, Row, Target, unavailable

# As tests/helpers/containers.py builds it, which is what make test-images does.
IMAGE = "localhost/inferry-server:latest"
PODMAN = ("podman", "--runtime", "runc", "--events-backend", "file", "--cgroup-manager", "cgroupfs")
SIZES = (512, 1024, 1769, 3538)
# Within a fifth, to either side.
TARGET = Target(1.2)
LONGEST, SOON = 120.0, 0.005


def sizing(quick: bool) -> Iterator[Row]:
    """For each size that two cores imitate: a start to a first answer, and a later answer, of 4 rows of 128 tokens."""
    if reason := _missing():
        yield unavailable("a size in a container, beside inferry size", reason)
        return
    with repository("encoder") as models, TemporaryDirectory() as folder:
        values = [number * 131 % 2000 + 1 for number in range(4 * 128)]
        tensor = {"name": "input_ids", "shape": [4, 128], "datatype": "INT64", "data": values}
        body = json.dumps({"inputs": [tensor]}).encode()
        models.chmod(0o755)  # the image's user is nobody here
        request = Path(folder, "request.json")
        request.write_bytes(body)
        task = {"model_path": str(models), "name": "encoder", "body": str(request)}
        measurer = Measurer(open_limits(), task, 1, say)
        for memory in SIZES:
            pairs = 3 if quick else 10
            say(f"sizing: {memory} MB, {pairs} times two starts")
            threads = math.ceil(memory / MB_PER_CPU)
            taken = [
                (_sized(measurer, memory, threads), _contained(models, body, memory, threads)) for _ in range(pairs)
            ]
            for what, index in (("cold", 0), ("warm", 1)):
                ours, theirs = ([each[side][index] for each in taken] for side in (0, 1))
                off = ratio(ours, theirs)
                name = f"inferry size, {what}, {memory} MB: the larger by the smaller"
                against = f"{milliseconds(theirs)} in a container"
                yield Row(name, milliseconds(ours), against, max(off, 1 / off), TARGET, RATIO)


def _sized(measurer: Measurer, memory: int, threads: int) -> tuple[float, float]:
    """Seconds of a start and of a later answer, as `inferry size` measures them."""
    said = measurer.start(memory, threads)
    if said is None:
        raise ChildFailed(f"the encoder does not fit into {memory} MB")
    return said["cold"], said["warm"]


def _missing() -> str:
    """Why there is no container; empty when there can be one."""
    if shutil.which("podman") is None or shutil.which("runc") is None:
        return "podman or runc is missing: .ci/install installs them"
    known = subprocess.run((*PODMAN, "image", "exists", IMAGE), capture_output=True, check=False)
    return "" if known.returncode == 0 else f"there is no image {IMAGE}: make test-images builds it"


def _contained(models: Path, body: bytes, memory: int, threads: int) -> tuple[float, float]:
    """Seconds from the start of the container's process to its first answer, and the median of those behind it."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _started(models, memory, threads, port) as (process, began):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
        cold = _first(connection, body, process) - began
        times: list[float] = []
        until = time.monotonic() + 1
        while len(times) < 7 or (time.monotonic() < until and len(times) < 200):
            start = time.perf_counter()
            _ask(connection, body)
            times.append(time.perf_counter() - start)
        connection.close()
    return cold, median(times)


@contextmanager
def _started(models: Path, memory: int, threads: int, port: int) -> Iterator[tuple["subprocess.Popen[str]", float]]:
    """The image under the size's limits; podman, and when the image's command began, in seconds since the machine's
    start: what podman and runc do before is no part of a size.
    """
    name = f"inferry-bench-{uuid4().hex[:12]}"
    limits = ("--memory", f"{memory}m", "--cpus", f"{memory / MB_PER_CPU:.3f}", "--network", "host")
    values = {"PORT": port, "HOST": "127.0.0.1", "METRICS_PORT": 0, "INTRA_OP_THREADS": threads}
    given = [argument for key, value in values.items() for argument in ("--env", f"{key}={value}")]
    rights = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    places = ("--volume", f"{models}:/models:ro", "--read-only", "--tmpfs", "/tmp")
    inside = ("-c", "cat /proc/uptime && exec python3 -m inferry serve")
    command = (*PODMAN, "run", "--rm", "--name", name, *limits, *rights, *places, *given, "--entrypoint", "sh", IMAGE)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen((*command, *inside), cwd=ROOT, **pipes)  # type: ignore[call-overload]
    try:
        line = process.stdout.readline()
        if not line:
            raise ChildFailed(f"podman run exited with {process.wait()}")
        yield process, float(line.split()[0])
    finally:
        subprocess.run((*PODMAN, "rm", "--force", "--time", "0", name), capture_output=True, check=False)
        process.wait(30)
        process.stdout.close()


def _first(connection: http.client.HTTPConnection, body: bytes, process: "subprocess.Popen[str]") -> float:
    """Asks until the server answers; when it did, in seconds since the machine's start."""
    until = time.monotonic() + LONGEST
    while True:
        try:
            _ask(connection, body)
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        except (ConnectionError, http.client.HTTPException, ChildFailed) as exc:
            connection.close()
            if time.monotonic() > until or process.poll() is not None:
                raise ChildFailed(f"the container does not answer: {exc}") from exc
            time.sleep(SOON)


def _ask(connection: http.client.HTTPConnection, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v2/models/encoder/infer", body, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise ChildFailed(f"the container answers {response.status}: {content[:200]!r}")
