"""A rolling change of three pods under load, as Kubernetes would do it: no request is lost.

podman runs the deployment's own pods, one document each, as its `kube play` knows no probes and no strategy. nginx is
the service in front. It is told of a pod when that is ready, and that it is gone a second after the pod was told to
end: Kubernetes does both at once, and endpoints lag behind.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import onnx_models
import pytest
import yaml
from containers import IMAGES
from loopback import free_port
from manifests import overlay
from standins import build_server, build_standins, eventually, missing, podman, standin

NAME = "inferry-test-rolling"
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()
# How long a service goes on sending requests to a pod that has been told to end.
LAG = 1.0
CONFIG = """
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    access_log off;
    upstream pods {{ {servers} keepalive 8; keepalive_timeout 3s; }}
    server {{
        listen 8080;
        location / {{
            proxy_pass http://pods;
            proxy_connect_timeout 2s;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            # Nobody tries again for the client: what is lost is seen.
            proxy_next_upstream off;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """With the images that run in it."""
    if reason := missing():
        pytest.fail(f"NO POD IS TESTED: {reason}")
    build_server()
    build_standins("nginx")
    clean()
    podman("network", "create", NAME)
    try:
        yield NAME
    finally:
        clean()


def clean() -> None:
    """What this test, or one that was killed, has left."""
    for pod in podman("pod", "ls", "--filter", f"name={NAME}", "--format", "{{.Name}}").split():
        podman("pod", "rm", "--force", "--time", "0", pod)
    for container in podman("ps", "--all", "--filter", f"name={NAME}", "--format", "{{.Names}}").split():
        podman("rm", "--force", "--time", "0", container)
    if NAME in podman("network", "ls", "--format", "{{.Name}}").split():
        podman("network", "rm", "--force", NAME)


class Service:
    """Pods of the deployment behind nginx, which a reload tells of them."""

    def __init__(self, folder: Path, network: str, **settings: str) -> None:
        self._folder, self._network, self._settings = folder, network, settings
        self._pods: list[str] = []
        self.port = free_port()
        onnx_models.write(folder / "models", {"twice.onnx": onnx_models.scaled()})
        (folder / "nginx").mkdir()
        folder.chmod(0o755)

    def start(self, *pods: str) -> None:
        for pod in pods:
            self._play(pod)
        self._pods = list(pods)
        self._write()
        nginx = ("--name", f"{NAME}-nginx", "--network", self._network, "--publish", f"127.0.0.1:{self.port}:8080")
        limits = ("--user", "101:101", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all")
        volume = ("--volume", f"{self._folder / 'nginx'}:/own:ro", "--entrypoint", "nginx")
        podman(
            "run", "--detach", *nginx, *limits, *volume, standin("nginx"), "-c", "/own/nginx.conf", "-g", "daemon off;"
        )
        eventually(lambda: self.ask()[0] == 200)

    def roll(self, old: str, new: str) -> str:
        """A pod more, ready, and then one less; the state in which the old one ended."""
        self._play(new)
        self._pods.append(new)
        self._reload()
        # The container first: with its pod, podman would take its network away at once.
        ending = threading.Thread(target=podman, args=("stop", "--time", "45", f"{old}-inferry"))
        ending.start()
        time.sleep(LAG)
        self._pods.remove(old)
        self._reload()
        ending.join()
        status = podman("inspect", "--format", "{{.State.ExitCode}}", f"{old}-inferry").strip()
        podman("pod", "rm", "--force", old)
        return status

    def ask(self) -> tuple[int, str]:
        """Status of a prediction, and the version that gave it; 0 and the reason without an answer."""
        url = f"http://127.0.0.1:{self.port}/v2/models/twice/infer"
        try:
            with urlopen(Request(url, BODY), timeout=30) as answer:
                outputs = json.load(answer)["outputs"]
                return (200, "") if outputs[0]["data"] == [2.0, 4.0, 6.0] else (0, str(outputs))
        except HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()
        except OSError as exc:
            return 0, str(exc)

    def _play(self, pod: str) -> None:
        path = self._folder / f"{pod}.yaml"
        path.write_text(yaml.safe_dump_all(documents(pod, self._folder / "models", self._settings)))
        podman("kube", "play", "--network", self._network, str(path))
        check = ("python3", "-IS", "/app/healthy.py")
        eventually(lambda: podman("exec", f"{pod}-inferry", *check) == "")

    def _write(self) -> None:
        servers = "".join(f"server {address(pod)}:8000 max_fails=0; " for pod in self._pods)
        (self._folder / "nginx" / "nginx.conf").write_text(CONFIG.format(servers=servers))

    def _reload(self) -> None:
        self._write()
        podman("exec", f"{NAME}-nginx", "nginx", "-c", "/own/nginx.conf", "-s", "reload")


def address(pod: str) -> str:
    infra = podman("pod", "inspect", "--format", "{{.InfraContainerID}}", pod).strip()
    found = json.loads(podman("inspect", infra))[0]["NetworkSettings"]["Networks"][NAME]["IPAddress"]
    return str(found)


def documents(pod: str, models: Path, settings: dict[str, str]) -> list[Any]:
    """The pod of the overlay prod with its settings; without what podman does not know, and models from a folder."""
    found = overlay("prod")
    (config,) = [document for (kind, _), document in found.items() if kind == "ConfigMap"]
    config = {**config, "data": {**config["data"], "MODEL_PATH": "/models", **settings}}
    spec = dict(found["Deployment", "inferry"]["spec"]["template"]["spec"])
    for unknown in ("serviceAccountName", "automountServiceAccountToken", "topologySpreadConstraints"):
        del spec[unknown]
    (container,) = spec["containers"]
    container = dict(container)
    # podman would publish the ports, run no probe, and miss the secret that need not be there.
    for unknown in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
        del container[unknown]
    container["envFrom"] = [source for source in container["envFrom"] if "configMapRef" in source]
    container["image"] = IMAGES["server"].tag
    container["imagePullPolicy"] = "Never"
    container["volumeMounts"] = [
        *container["volumeMounts"],
        {"name": "models", "mountPath": "/models", "readOnly": True},
    ]
    spec["volumes"] = [*spec["volumes"], {"name": "models", "hostPath": {"path": str(models), "type": "Directory"}}]
    spec["containers"] = [container]
    return [config, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec}]


@contextmanager
def asked(service: Service) -> Iterator[Counter[tuple[int, str]]]:
    """What came of the requests that three clients send as long as the block lasts."""
    outcomes: Counter[tuple[int, str]] = Counter()
    ended = threading.Event()

    def client() -> None:
        while not ended.wait(0.02):
            outcomes[service.ask()] += 1

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    try:
        yield outcomes
    finally:
        ended.set()
        for thread in clients:
            thread.join()


def test_a_rolling_change_loses_no_request(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(tmp_path, network)
    pods = [f"{NAME}-{number}" for number in range(3)]
    service.start(*pods)
    began = time.monotonic()
    with asked(service) as outcomes:
        ends = [service.roll(pod, f"{pod}-new") for pod in pods]
        eventually(lambda: outcomes.total() > 300)
    with capsys.disabled():
        print(f"\nrolling change: {outcomes.total()} requests in {time.monotonic() - began:.0f} s, {dict(outcomes)}")
    assert set(outcomes) == {(200, "")}
    assert ends == ["0"] * 3
    podman("rm", "--force", "--time", "0", f"{NAME}-nginx")


def test_without_a_grace_some_are_lost(network: str, tmp_path: Path) -> None:
    """Which is what the test above would see."""
    clean_pods()
    service = Service(tmp_path, network, SHUTDOWN_GRACE="0")
    service.start(f"{NAME}-0")
    with asked(service) as outcomes:
        service.roll(f"{NAME}-0", f"{NAME}-0-new")
    assert {status for status, _ in outcomes} - {200}


def clean_pods() -> None:
    for pod in podman("pod", "ls", "--filter", f"name={NAME}", "--format", "{{.Name}}").split():
        podman("pod", "rm", "--force", "--time", "0", pod)
