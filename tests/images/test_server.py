"""The image of `inferry serve` as Compose and Kubernetes run it: read-only, without rights, models from outside."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import lambda_files as files
import onnx_models
import pytest
from containers import BASE_IMAGE, CERTIFICATES, LIMITS, ROOT, Image, inspect, peak_megabytes, podman, run, started
from emulator import free_ports

SECONDS = 60.0
DOUBLED = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2.5, -3]}]}
CHECK = ("python3", "-IS", "/app/healthy.py")
DOCKERFILE = (ROOT / "deploy" / "server" / "Dockerfile").read_text()


@dataclass(frozen=True)
class Container:
    """A container of the image on the host's network; `log` is what it has written so far."""

    name: str
    port: int
    metrics_port: int
    file: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return self.file.read_text()

    def ask(self, path: str, body: Any = None, port: int | None = None) -> tuple[int, str]:
        """Status and body of the answer to a GET, or to a POST of the body as JSON; (0, reason) without an answer."""
        url = f"http://127.0.0.1:{port or self.port}{path}"
        try:
            with urlopen(Request(url, json.dumps(body).encode() if body else None), timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()
        except (URLError, OSError) as exc:
            return 0, str(exc)

    def health(self, *path: str) -> bool:
        """What the image's health check says inside the container."""
        try:
            podman("exec", self.name, *CHECK, *path)
        except AssertionError:
            return False
        return True


@contextmanager
def serving(image: Image, folder: Path, *options: str, name: str = "inferry-test-server") -> Iterator[Container]:
    """The image with its own command and environment, but for what would be seen outside of this machine."""
    port, metrics_port = free_ports()
    env = ("--env", "HOST=127.0.0.1", "--env", f"PORT={port}", "--env", f"METRICS_PORT={metrics_port}")
    with started(name, *env, *options, image.tag, log=folder / "log") as process:
        yield Container(name, port, metrics_port, folder / "log", process)


def eventually(condition: Callable[[], Any], container: Container) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, container.log
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(built: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """With a folder of models as a volume."""
    folder = tmp_path_factory.mktemp("server")
    models = onnx_models.write(folder / "models", {"twice.onnx": onnx_models.scaled()})
    with serving(built["server"], folder, "--volume", f"{models}:/models:ro") as server:
        eventually(lambda: server.ask("/v2/health/ready")[0] == 200, server)
        yield server


def test_models_of_a_volume(server: Container) -> None:
    status, answer = server.ask("/v2/models/twice/infer", DOUBLED)
    assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [2.0, 5.0, -6.0])


def test_metrics_have_a_port_of_their_own(server: Container) -> None:
    assert server.ask("/v2/models/twice/infer", DOUBLED)[0] == 200
    status, page = server.ask("/metrics", port=server.metrics_port)
    assert (status, 'inferry_requests_total{model="twice"' in page) == (200, True)
    assert server.ask("/v2/models/twice/infer", DOUBLED, port=server.metrics_port)[0] in (404, 501)


def test_health_check(server: Container) -> None:
    assert server.health()
    assert server.health("/v2/health/live")
    assert not server.health("/v2/models/absent/ready")


def test_its_memory(server: Container, capsys: pytest.CaptureFixture[str]) -> None:
    megabytes = peak_megabytes(server.name)
    with capsys.disabled():
        print(f"\nimage server: {megabytes:.0f} MB of memory at most")
    assert megabytes < 512


def test_models_of_a_bucket(built: dict[str, Image], tmp_path: Path) -> None:
    with files.bucket() as bucket:
        bucket.put("models/twice/1/model.onnx", onnx_models.scaled())
        url = f"s3://{files.BUCKET}/input/models"
        env = [part for item in bucket.moto.environment.items() for part in ("--env", "=".join(item))]
        with serving(built["server"], tmp_path, *env, "--env", f"MODEL_PATH={url}", name="inferry-test-url") as server:
            eventually(lambda: server.ask("/v2/health/ready")[0] == 200, server)
            assert server.ask("/v2/models/twice/infer", DOUBLED)[0] == 200


def test_without_models_it_says_what_to_do(built: dict[str, Image], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="/models does not exist: name the folder with the models"):
        podman("run", "--rm", *LIMITS, "--env", "HOST=127.0.0.1", built["server"].tag)


def test_it_ends_when_it_is_told_to(built: dict[str, Image], tmp_path: Path) -> None:
    """As process 1, which hears only the signals that it listens to."""
    models = onnx_models.write(tmp_path / "models", {"twice.onnx": onnx_models.scaled()})
    options = ("--env", "SHUTDOWN_GRACE=0", "--volume", f"{models}:/models:ro")
    with serving(built["server"], tmp_path, *options, name="inferry-test-end") as server:
        eventually(lambda: server.ask("/v2/health/ready")[0] == 200, server)
        podman("kill", "--signal", "TERM", server.name)
        assert server.process.wait(SECONDS) == 0


def test_what_a_host_is_told(built: dict[str, Image]) -> None:
    """Ports and command; buildah's format of images has no health check, which Docker takes from the Dockerfile."""
    config = inspect(built["server"])["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["python3", "-m", "inferry"], ["serve"])
    assert sorted(config["ExposedPorts"]) == ["8000/tcp", "8001/tcp", "8002/tcp"]
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert tuple(json.loads(check)) == CHECK


def test_make_image(built: dict[str, Image]) -> None:
    """The verb builds it with podman too, and names it after the tag."""
    secret = f"--secret id=ca,src={CERTIFICATES}" if CERTIFICATES else ""
    options = f"--isolation chroot --layers --timestamp 0 {secret} --build-arg BASE_IMAGE={BASE_IMAGE}"
    run("make", "image", "BUILDER=podman", "TAG=made", f"BUILD_ARGS={options}")
    assert (
        json.loads(podman("image", "inspect", "localhost/inferry-server:made"))[0]["Id"]
        == inspect(built["server"])["Id"]
    )
    podman("rmi", "localhost/inferry-server:made")
