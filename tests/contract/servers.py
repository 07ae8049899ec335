"""`inferry serve` as a process of its own on loopback, and HTTP to it without a client's habits."""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
from inferry.http.asgi import ASGIApp

EXAMPLES = Path(__file__).parents[2] / "models"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
JSON = "application/json"
OCTETS = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"
# However often a test asks until its server is ready, its traces are the same.
UNSAMPLED = {"traceparent": f"00-{'1' * 32}-{'1' * 16}-00"}


class Answer(NamedTuple):
    """A response in full; `headers` by lower-case name, without the host's own (the date)."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The JSON of the body, binary tensors left out."""
        return json.loads(self.body[: int(self.headers.get(HEADER_LENGTH, len(self.body)))])

    @property
    def tail(self) -> bytes:
        """The binary tensors behind the JSON."""
        return self.body[int(self.headers.get(HEADER_LENGTH, len(self.body))) :]


@dataclass
class Server:
    """A running server: `log` is its stderr so far, `final_log` all of it when it has ended."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    stopped: int | None = None
    final_log: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        """The address of GRPC_PORT, as the server prints it."""
        printed = re.search(r'(?:gRPC +|"grpc":")([\w.:\[\]]+)', self.output)
        assert printed, self.output
        return printed[1]

    @property
    def log(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def output(self) -> str:
        return (self.folder / "stdout").read_text()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request with exactly these headers, Host, and Content-Length when there is a body."""
        with self.connected() as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return received(connection)

    def post(self, path: str, value: Any) -> Answer:
        """A JSON value, posted as curl would with its header set."""
        return self.ask("POST", path, json.dumps(value).encode(), {"Content-Type": JSON})

    def infer(self, model: str, *inputs: Mapping[str, Any], **members: Any) -> Answer:
        """An inference request in JSON."""
        return self.post(f"/v2/models/{model}/infer", {"inputs": inputs, **members})

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def terminate(self) -> None:
        """SIGTERM, without waiting for the end."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status; a server that doesn't end in time is killed, and fails the test."""
        try:
            self.stopped = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            killed(self.process)
            raise AssertionError(f"the server did not end {STOP_SECONDS} s after SIGTERM\n{self.log}") from None
        return self.stopped


def received(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(
        response.status, {name: value for name, value in headers.items() if not of_the_host(name, value)}, body
    )


def date(name: str, _: str) -> bool:
    return name == "date"


# The headers that every answer of this process's servers has, as `host` below is.
of_the_host: Callable[[str, str], bool] = date


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def serving(
    path: Path | str, *arguments: str, cwd: Path | str | None = None, **env: str
) -> AbstractContextManager["Server"]:
    """A host over a repository: `inferry serve`, or what TEST_HOST ("module:function") names for the same tests."""
    module, _, function = os.environ.get("TEST_HOST", f"{__name__}:serving_locally").partition(":")
    host: AbstractContextManager[Server] = getattr(import_module(module), function)(path, *arguments, cwd=cwd, **env)
    return host


@contextmanager
def serving_locally(path: Path | str, *arguments: str, cwd: Path | str | None = None, **env: str) -> Iterator[Server]:
    """`inferry serve` over a repository on a free port, ended by SIGTERM; its exit status must be 0."""
    with TemporaryDirectory() as folder:
        server = started(path, arguments, env, Path(folder), cwd)
        try:
            _wait_until_loaded(server)
            yield server
        finally:
            if server.stopped is None:
                server.terminate()
                server.wait()
            server.final_log = server.log
    assert server.stopped == 0, f"exit status {server.stopped}: {server.final_log}"


def inferry_serve(path: Path | str, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that serves a repository, and its environment."""
    return [sys.executable, "-m", "inferry", "serve", str(path), "--port", "0", *arguments], {}


# What the servers of this process are: tests/azure lets the same tests run over another host.
host = inferry_serve


def started(
    path: Path | str, arguments: Sequence[str], env: Mapping[str, str], folder: Path, cwd: Path | str | None
) -> Server:
    """The server as soon as it has printed its address."""
    command, its_env = host(path, arguments)
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdout=stdout,
            stderr=stderr,
            env=environment(its_env | dict(env)),
            cwd=cwd,
            start_new_session=True,
        )
    server = Server(0, process, folder)
    deadline = time.monotonic() + START_SECONDS
    while not (greeting := re.search(r"http://127\.0\.0\.1:(\d+)(/[^\s\"]*)?[\"\n]", server.output)):
        if process.poll() is not None or time.monotonic() > deadline:
            killed(process)
            raise AssertionError(f"the server did not start\n{server.output}{server.log}")
        time.sleep(0.02)
    server.port = int(greeting[1])
    return server


def killed(process: subprocess.Popen[bytes]) -> None:
    """Ends a server that doesn't answer, and its workers."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """What a command gets: none of the tester's settings, one thread for each session, and no time to say goodbye.

    What measures the lines that the tests run measures those of the command too.
    """
    ours = {"ORT_DISABLE_TELEMETRY": "1", "INTRA_OP_THREADS": "1", "SHUTDOWN_GRACE": "0"}
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": os.environ["PATH"], **measured, **ours, **env}


def _wait_until_loaded(server: Server) -> None:
    """The server answers before it is ready, and one that is strict may never be."""
    deadline = time.monotonic() + START_SECONDS
    try:
        while b"are being loaded" in server.ask("GET", "/v2/health/ready", headers=UNSAMPLED).body:
            assert time.monotonic() < deadline, "the models are not loaded in time"
            time.sleep(0.02)
        assert server.ask("GET", "/v2/health/live").status == 200
    except BaseException:
        killed(server.process)
        server.stopped = -signal.SIGKILL
        raise


def ask(app: ASGIApp, method: str, path: str, root_path: str = "", **options: Any) -> httpx.Response:
    """One request to an application in this process; whatever it raises reaches the caller."""

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(go())
