"""Prometheus and VictoriaMetrics on loopback, and questions to them."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loopback import free_port

START_SECONDS = 30.0
# Programs of a newer Debian, unpacked.
NEWER = Path(__file__).parents[2] / ".tools" / "stores"


@dataclass
class Store:
    """A running store; `restart` keeps its data and its port."""

    command: Sequence[str]
    url: str
    write_path: str
    log: Path
    flush_path: str = ""  # what makes the newest samples visible to queries
    process: subprocess.Popen[bytes] | None = None

    @property
    def write_url(self) -> str:
        return self.url + self.write_path

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{self.command[0]} did not start\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query."""
        if self.flush_path:
            urllib.request.urlopen(self.url + self.flush_path, timeout=10).close()
        parameters = urllib.parse.urlencode({"query": expression, "time": at or time.time(), "nocache": 1})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{parameters}", timeout=10) as response:
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return result

    def numbers(self, expression: str, at: float | None = None) -> dict[tuple[str, ...], float]:
        """The same as numbers by the values of the labels, sorted by the labels' names."""
        return {
            tuple(value for _, value in sorted(item["metric"].items())): float(item["value"][1])
            for item in self.query(expression, at)
        }

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def eventually(check: Callable[[], Any], expected: Any, seconds: float = 10) -> None:
    """What `check` returns is what is expected, within so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := check()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == expected


def need(program: str) -> None:
    """Skips where a program is missing, which CI must not."""
    if shutil.which(program) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is missing: .ci/install brings it")
        pytest.skip(f"{program} is missing: install Debian's package {program}")


def newer(program: str) -> str:
    """The path of the program of a newer Debian; skips where it could not be had."""
    path = NEWER / "usr" / "bin" / program
    if not path.exists():
        pytest.skip(f"NOT TESTED with the newest {program}: make .tools/stores/installed could not get it")
    return str(path)


@contextmanager
def prometheus(
    folder: Path, targets: Sequence[str] = (), rules: Sequence[Path] = (), program: str = "prometheus"
) -> Iterator[Store]:
    """Prometheus, which takes remote write, scrapes `targets` and evaluates the files of `rules` every 200 ms."""
    need("prometheus")
    address = f"127.0.0.1:{free_port()}"
    scrape = {"job_name": "inferry", "static_configs": [{"targets": list(targets)}]}
    intervals = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "200ms")
    config = {"global": intervals, "rule_files": [str(path) for path in rules], "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [
        program,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/prometheus",
        f"--web.listen-address={address}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]
    with running(Store(command, f"http://{address}", "/api/v1/write", folder / "prometheus.log")) as store:
        yield store


@contextmanager
def victoria(folder: Path, program: str = "victoria-metrics") -> Iterator[Store]:
    """VictoriaMetrics, which answers from what it has just taken."""
    need("victoria-metrics")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"-httpListenAddr={address}",
        f"-storageDataPath={folder}/victoria",
        "-retentionPeriod=1d",
        "-search.latencyOffset=0s",
        "-search.disableCache",
        "-loggerLevel=ERROR",
    ]
    log = folder / "victoria.log"
    with running(Store(command, f"http://{address}", "/api/v1/write", log, "/internal/force_flush")) as store:
        yield store


@contextmanager
def running(store: Store) -> Iterator[Store]:
    try:
        store.start()
        yield store
    finally:
        store.stop()


STORES: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {"prometheus": prometheus, "victoria": victoria}
ALL_STORES = STORES | {
    "newest prometheus": lambda folder: prometheus(folder, program=newer("prometheus")),
    "newest victoria": lambda folder: victoria(folder, newer("victoria-metrics")),
}
