"""What metrics and logs cost: a request's counts and its line, the import of a sink, a push."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from statistics import median
from tempfile import TemporaryDirectory

from .measure import ROOT, ChildFailed, microseconds, milliseconds, repository, sample, say
from .peers.example import infer_body
from .start import spend
from .table import MICROSECONDS, MILLISECONDS, Row, Target, unavailable

REQUEST, OFF, PUSH = Target(5), Target(1), Target(1.5)
IMPORTS = {"emf": Target(60), "remote_write": Target(20)}
START_SECONDS = 30.0


def metrics(quick: bool) -> Iterator[Row]:
    """The rows of the budget."""
    yield from _requests(10_000 if quick else 100_000)
    yield from _imports(5 if quick else 25)
    yield _push(100 if quick else 1_000)


def _requests(count: int) -> Iterator[Row]:
    say(f"metrics: three times {count} requests")
    with repository("digits") as folder:
        took = sample("observed", folder, count)
    for what, name, target in (
        ("counting a request", "counted", REQUEST),
        ("the same, with its line of JSON", "line", REQUEST),
        ("the same, with its line, one by one", "line alone", None),
    ):
        unseen = took["unseen alone" if name.endswith("alone") else "unseen"]
        more = median(seen - without for seen, without in zip(took[name], unseen, strict=True))
        yield Row(what, microseconds(took[name]), f"{microseconds(unseen)} without", more * 1e6, target, MICROSECONDS)
    off = took["looks"]
    yield Row("traces that are off", microseconds(off), "", median(off) * 1e6, OFF, MICROSECONDS)


def _imports(turns: int) -> Iterator[Row]:
    say(f"metrics: {turns} times {len(IMPORTS) + 1} starts")
    with repository("digits") as folder, TemporaryDirectory() as bytecode:
        child = str(ROOT / "bench/children/sinks.py")
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "OPENBLAS_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = [(sys.executable, child, str(folder), infer_body().decode(), sink) for sink in ("", *IMPORTS)]
        for command in commands:
            spend(command, environment)  # compiles what it imports
        none, *others = zip(
            *(tuple(spend(command, environment).cpu for command in commands) for _ in range(turns)), strict=True
        )
    for (sink, target), cpu in zip(IMPORTS.items(), others, strict=True):
        more = median(with_it - without for with_it, without in zip(cpu, none, strict=True))
        against = f"{milliseconds(none)} without a sink"
        yield Row(f"start with the sink {sink}, cpu", milliseconds(cpu), against, more * 1e3, target, MILLISECONDS)


def _push(count: int) -> Row:
    name = "push of 34 series, loopback"
    if shutil.which("prometheus") is None:
        return unavailable(name, "prometheus is missing", PUSH, MILLISECONDS)
    say(f"metrics: {count} pushes")
    with _prometheus() as url:
        took = sample("pushes", count, url)["push"]
    return Row(name, milliseconds(took), "", median(took) * 1e3, PUSH, MILLISECONDS)


@contextmanager
def _prometheus() -> Iterator[str]:
    """The URL of its remote-write endpoint."""
    with TemporaryDirectory() as folder:
        Path(folder, "prometheus.yml").touch()
        address = f"127.0.0.1:{_free_port()}"
        command = [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
            "--web.enable-remote-write-receiver",
            "--log.level=error",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(f"http://{address}/-/ready")
            yield f"http://{address}/api/v1/write"
        finally:
            process.terminate()
            process.wait()


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise ChildFailed("prometheus did not start")


def _free_port() -> int:
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
