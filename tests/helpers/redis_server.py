"""A real Redis on loopback, which may be stopped, filled and written to."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from loopback import free_port
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoRedis
from redis.retry import Retry

START_SECONDS = 30.0


@dataclass
class RedisServer:
    """A running Redis: `client` speaks to it for the test."""

    port: int
    process: subprocess.Popen[bytes]
    client: "Redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def entries(self) -> dict[bytes, Any]:
        """What it holds as strings."""
        return {key: self.client.get(key) for key in self.client.scan_iter()}

    def commands(self, name: str) -> int:
        """How often it was asked so."""
        stats: Any = self.client.info("commandstats")
        return int(stats.get(f"cmdstat_{name}", {}).get("calls", 0))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It answers nothing, and keeps its connections."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@contextmanager
def running(*options: str, port: int = 0, **client: Any) -> Iterator[RedisServer]:
    """`redis-server` with these options beside ours; `client`: what its client needs to know of them."""
    if shutil.which("redis-server") is None:
        reason = "redis-server is missing: .ci/install installs it"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(f"REDIS IS NOT TESTED: {reason}")
    port = port or free_port()
    place = () if "--tls-port" in options else ("--port", str(port))
    with TemporaryDirectory() as folder:
        command = ["redis-server", *place, "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options]
        log = Path(folder, "log")
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        if "--tls-port" in options:
            port = int(options[options.index("--tls-port") + 1])
        # The tests' own patience, whatever retries the client has by default.
        connection = Redis(host="127.0.0.1", port=port, retry=Retry(NoBackoff(), 0), protocol=2, **client)
        server = RedisServer(port, process, connection)
        try:
            _wait(server, log)
            yield server
        finally:
            connection.close()
            server.end()


def _wait(server: RedisServer, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.client.ping()
        except NoRedis:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"redis-server did not start\n{log.read_text()}") from None
            time.sleep(0.02)
        else:
            return
