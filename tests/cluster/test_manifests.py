"""deploy/kubernetes under the schemas of Kubernetes and of others' kinds, and numbers that fit each other."""

import json
import re
import runpy
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from inferry.observability.request_log import request_log
from inferry.settings import Settings
from manifests import COMPONENTS, FOLDER, OVERLAYS, ROOT, overlay, rendered, resources, tool

VERSIONS = ("1.35", "1.36", "1.37")
# Not in Kubernetes itself: their types are those of npm's @kubernetes-models.
OTHERS = {"HTTPRoute", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
KINDS = ROOT / ".tools" / "cluster" / "npm"


@pytest.fixture(params=[*OVERLAYS, *COMPONENTS])
def text(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An overlay, or the base with one component alone."""
    name = request.param
    if name in OVERLAYS:
        return rendered(FOLDER / "overlays" / name)
    # kustomize takes no absolute paths, and nothing that is not below or beside it.
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    own = tmp_path / "kubernetes" / "overlays" / "own"
    own.mkdir()
    kustomization = {"resources": ["../../base"], "components": [f"../../components/{name}"]}
    (own / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return rendered(own)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(text: str, version: str, tmp_path: Path) -> None:
    done = validated(text, version, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    unknown = set(re.findall(r"Couldn't find schema for kind (\w+)", done.stdout + done.stderr))
    assert unknown <= OTHERS


def validated(text: str, version: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    path = folder / "rendered.yaml"
    path.write_text(text)
    command = [tool("kubernetes-validate"), "--strict", "-k", version, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("old", "new"), [("maxSurge", "maxSurges"), ("replicas: 3", "replicas: three")])
def test_what_is_wrong_is_found(old: str, new: str, tmp_path: Path) -> None:
    text = rendered(FOLDER / "overlays" / "prod")
    assert old in text
    assert validated(text.replace(old, new), VERSIONS[-1], tmp_path).returncode != 0


def judged(found: list[Any]) -> "subprocess.CompletedProcess[str]":
    command = ["node", str(Path(__file__).with_name("kinds.mjs")), str(KINDS)]
    return subprocess.run(command, input=json.dumps(found), capture_output=True, text=True, timeout=120)


def test_others_take_theirs(text: str) -> None:
    found = [document for document in yaml.safe_load_all(text) if document["kind"] in OTHERS]
    done = judged(found)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [document["kind"] for document in found]


def test_others_find_what_is_wrong() -> None:
    monitor = overlay("prod")["ServiceMonitor", "inferry"]
    assert judged([{**monitor, "spec": {"endpoints": monitor["spec"]["endpoints"]}}]).returncode != 0


def test_rules_are_current() -> None:
    text = runpy.run_path(str(FOLDER / "generate.py"))["text"]()
    path = FOLDER / "components" / "monitoring" / "rules.yaml"
    assert path.read_text() == text, "run python -m deploy.kubernetes.generate"


@pytest.mark.parametrize("name", OVERLAYS)
def test_settings_are_inferrys(name: str) -> None:
    (config,) = [document for (kind, _), document in overlay(name).items() if kind == "ConfigMap"]
    known = {field.name.upper() for field in fields(Settings)}
    assert config["data"].keys() <= known
    assert Settings.from_env(config["data"]).environment == name


def container(name: str = "prod") -> dict[str, Any]:
    pod = overlay(name)["Deployment", "inferry"]["spec"]["template"]["spec"]
    (found,) = pod["containers"]
    return dict(found)


def test_a_pod_is_given_the_time_that_it_takes() -> None:
    deployment = overlay("prod")["Deployment", "inferry"]
    (config,) = [document for (kind, _), document in overlay("prod").items() if kind == "ConfigMap"]
    settings = Settings.from_env(config["data"])
    pod = deployment["spec"]["template"]["spec"]
    rest = 5 + request_log.LAST_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= settings.shutdown_grace + settings.model_timeout + rest
    # It answers for as long as it takes to see that it is not ready.
    readiness = container()["readinessProbe"]
    assert settings.shutdown_grace >= readiness["periodSeconds"] * readiness["failureThreshold"]
    ingress = overlay("prod")["Ingress", "inferry"]["metadata"]["annotations"]
    assert int(ingress["nginx.ingress.kubernetes.io/proxy-body-size"]) == settings.max_request_bytes
    assert int(ingress["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > settings.model_timeout
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_probes_ask_what_there_is() -> None:
    paths = {kind: container()[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {
        "startup": {"path": "/v2/health/ready", "port": "http"},
        "readiness": {"path": "/v2/health/ready", "port": "http"},
        "liveness": {"path": "/v2/health/live", "port": "http"},
    }
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    dockerfile = (ROOT / "deploy" / "server" / "Dockerfile").read_text()
    (config,) = [document for (kind, _), document in overlay("prod").items() if kind == "ConfigMap"]
    assert ports == {
        "http": 8000,
        "grpc": Settings.from_env(config["data"]).grpc_port,
        "http-metrics": int(re.findall(r"METRICS_PORT=(\d+)", dockerfile)[0]),
    }


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_restricted_profile(name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    found = overlay(name)
    labels = found["Namespace", f"inferry-{name}"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = found["Deployment", "inferry"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(set(volume) <= {"name", "emptyDir"} for volume in pod["volumes"])
    assert not pod.get("hostNetwork")
    assert pod["automountServiceAccountToken"] is False


def test_every_selector_selects_its_pods() -> None:
    """And DNS's are not mistaken for ours."""
    found = overlay("prod")
    pods = found["Deployment", "inferry"]["spec"]["template"]["metadata"]["labels"]
    assert pods == {"app.kubernetes.io/name": "inferry"}
    selectors = [
        found["Deployment", "inferry"]["spec"]["selector"]["matchLabels"],
        found["PodDisruptionBudget", "inferry"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy", "inferry"]["spec"]["podSelector"]["matchLabels"],
        found["Service", "inferry"]["spec"]["selector"],
        found["Service", "inferry-metrics"]["spec"]["selector"],
    ]
    assert selectors == [pods] * len(selectors)
    (names, _) = found["NetworkPolicy", "inferry"]["spec"]["egress"]
    assert names["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    monitor = found["ServiceMonitor", "inferry"]["spec"]
    metrics = found["Service", "inferry-metrics"]
    assert monitor["selector"]["matchLabels"].items() <= metrics["metadata"]["labels"].items()
    assert metrics["metadata"]["labels"][monitor["jobLabel"]] == "inferry"


@pytest.mark.parametrize(("name", "least", "most"), [("dev", 1, 2), ("staging", 3, 4), ("prod", 3, 12)])
def test_sizes(name: str, least: int, most: int) -> None:
    found = overlay(name)
    scaler = found["HorizontalPodAutoscaler", "inferry"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (least, most)
    assert found["Deployment", "inferry"]["spec"]["replicas"] == least


def test_keda_is_instead_of_the_autoscaler(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    own = tmp_path / "kubernetes" / "overlays" / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text("resources: [../../base]\ncomponents: [../../components/keda]\n")
    kinds = {kind for kind, _ in resources(rendered(own))}
    assert "ScaledObject" in kinds
    assert "HorizontalPodAutoscaler" not in kinds
