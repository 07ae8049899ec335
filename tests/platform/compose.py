"""compose.yaml brought up by podman-compose, with stand-ins for the images that can't be had, and what tests ask it."""

import http.client
import json
import os
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers import IMAGES, ROOT
from loopback import free_port
from standins import ENVIRONMENT, FILES, MLFLOW_IMAGE, PARTS, eventually, podman, standin

COMPOSE = ROOT / ".tools" / "platform" / "bin" / "podman-compose"
PROJECT = "inferry-test"
PORTS = ("HTTP_PORT", "MLFLOW_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
GATEWAY = "10.189.73.1"
PASSWORDS = {
    "POSTGRES_PASSWORD": "test-postgres",
    "REQUEST_LOG_PASSWORD": "test-writer",
    "REQUEST_LOG_OWNER_PASSWORD": "test-owner",
    "REDIS_PASSWORD": "test-redis",
    "GRAFANA_PASSWORD": "test-grafana",
    "BUCKET_ACCESS_KEY": "test-access",
    "BUCKET_SECRET_KEY": "test-secret",
}
# Small enough for a test to pass it.
LIMITS = {"RATE_LIMIT": "50", "RATE_BURST": "100", "MAX_REQUEST_BYTES": "2000000", "MODEL_REFRESH": "0.5"}


@dataclass(frozen=True)
class Answer:
    """A response; `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Platform:
    """Everything, up. `ports`: where nginx, MLflow and so on are on loopback, by their variable."""

    ports: Mapping[str, int]
    env: Path

    def ask(
        self,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        port: str = "HTTP_PORT",
        method: str = "",
    ) -> Answer:
        """A GET, or a POST of the body, as JSON unless it is bytes. OSError when nobody answers."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=60)
        try:
            connection.request(method or ("GET" if data is None else "POST"), path, data, dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
        except http.client.HTTPException as exc:
            raise ConnectionError(str(exc)) from exc
        finally:
            connection.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus says to it; AssertionError when it is none."""
        path = f"/api/v1/query?query={urllib.parse.quote(expression)}"
        answer = self.ask(path, port="PROMETHEUS_PORT")
        assert answer.status == 200, (expression, answer.body)
        found: list[dict[str, Any]] = answer.json["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Of its only series."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def log(self, part: str) -> str:
        """What it has written to either stream."""
        command = ["podman", "logs", self.container(part)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def sql(self, query: str) -> str:
        """What the request log's database answers, a row in a line and `|` between two columns."""
        command = ("psql", "--username", "mlflow", "--no-align", "--tuples-only", "--command", query, "inferry")
        return podman("exec", self.container("postgres"), *command).strip()

    def container(self, part: str) -> str:
        return f"{PROJECT}_{part}_1"

    def healthy(self, part: str) -> bool:
        done = subprocess.run(
            ["podman", "healthcheck", "run", self.container(part)],
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
        )
        return done.returncode == 0

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """The part is killed, and started again afterwards, until it is healthy."""
        podman("stop", "--time", "0", self.container(part))
        try:
            yield
        finally:
            podman("start", self.container(part))
        if part not in ("nginx-exporter", "postgres-exporter", "redis-exporter", "request-log"):
            eventually(lambda: self.healthy(part))


@contextmanager
def started(folder: Path) -> Iterator[Platform]:
    """Brings compose.yaml up as a user would, with an .env in `folder`, and takes it down with all it stored."""
    ports = {name: free_port() for name in PORTS}
    images = {f"{part.upper().replace('-', '_')}_IMAGE": standin(part) for part in PARTS}
    own = {"INFERRY_IMAGE": IMAGES["server"].tag, "MLFLOW_IMAGE": MLFLOW_IMAGE, "RESOLVER": GATEWAY}
    values = {**PASSWORDS, **LIMITS, **images, **own, **ports}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    platform = Platform(ports, folder / ".env")
    compose(platform, "down", "--volumes")  # what a run that was killed has left
    try:
        compose(platform, "up", "--detach", "--no-build")
        for part in ("mlflow", "nginx", "grafana", "redis", "prometheus"):
            eventually(lambda part=part: platform.healthy(part))  # type: ignore[misc]
        yield platform
    except BaseException:
        print(logs())
        raise
    finally:
        compose(platform, "down", "--volumes")
    left = [
        podman(kind, "ls", "--filter", f"name={PROJECT}_", "--quiet") for kind in ("container", "volume", "network")
    ]
    assert left == [""] * 3


def compose(platform: Platform, *command: str) -> str:
    files = ("--file", "compose.yaml", "--file", str(FILES / "networks.yaml"))
    options = (
        "--podman-path",
        str(FILES / "podman-health"),
        "--env-file",
        str(platform.env),
        "--project-name",
        PROJECT,
    )
    # No setting of the shell is one of Compose's.
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
    done = subprocess.run(
        [str(COMPOSE), *files, *options, *command],
        cwd=ROOT,
        env={**known, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def logs() -> str:
    """The last lines of every container, for whoever reads why a test failed."""
    names = podman("ps", "--all", "--filter", f"name={PROJECT}_", "--format", "{{.Names}}").split()
    return "\n".join(f"--- {name}\n{podman('logs', '--tail', '20', name)}" for name in names)
