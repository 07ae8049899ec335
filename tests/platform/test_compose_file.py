"""compose.yaml and its files as they are written: names, defaults, limits that fit each other, and no secret."""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import ROOT
from inferry.observability.request_log import request_log
from inferry.settings import Settings

BIN = ROOT / ".tools" / "platform" / "bin"
FOLDER = ROOT / "deploy" / "compose"
TEXT = (ROOT / "compose.yaml").read_text()
TLS = (FOLDER / "tls.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
SETTINGS = {
    field.name.upper(): ",".join(field.default)
    if isinstance(field.default, tuple)
    else str(field.default).lower()
    if isinstance(field.default, bool)
    else str(field.default)
    for field in fields(Settings)
}
# Of the image, or of the version that is served.
ELSEWHERE = {"HOST", "PORT", "METRICS_PORT", "APP_VERSION"}
# Secrets that a server needs only where others ask for them.
OPTIONAL = {*SETTINGS, "MLFLOW_TRACKING_PASSWORD"}
OWN = {
    "MODEL_PATH": "mlflow+http://mlflow:5000",
    "MODEL_REFRESH": "10.0",
    "TRUSTED_PROXIES": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
    "LOG_FORMAT": "json",
    "REQUEST_LOG_URL": "postgresql://inferry_writer@postgres/inferry",
    "REQUEST_LOG_RETENTION": "30",
    "RESPONSE_CACHE_URL": "redis://redis:6379/0",
    "GRPC_PORT": "8001",
}
# Under another name, which another part has too.
SHARED = {"RESPONSE_CACHE_PASSWORD": "${REDIS_PASSWORD:?give it a value in .env}"}
# ${NAME:-default} and ${NAME:?what to do}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def variables(text: str) -> dict[str, tuple[str, str]]:
    """Name to (- or ?, the default or what to do); AssertionError where a name has two defaults."""
    found: dict[str, tuple[str, str]] = {}
    for name, kind, value in VARIABLE.findall(text):
        assert found.setdefault(name, (kind, value)) == (kind, value), name
    return found


def listed() -> dict[str, str]:
    """The names of .env.example that are for Compose alone."""
    text = (ROOT / ".env.example").read_text()
    (section,) = re.findall(r"^# For compose.yaml alone.*?(?=^# For )", text, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", section, re.MULTILINE))


@pytest.mark.parametrize("path", ["compose.yaml", "deploy/compose/tls.yaml"])
def test_schema(path: str) -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_name_is_listed() -> None:
    """In .env.example, with the same default; what must be given has none there."""
    used = variables(TEXT + TLS)
    others = {name: ("" if kind == "?" else value) for name, (kind, value) in used.items() if name not in SETTINGS}
    assert others == listed()


def test_every_setting_reaches_the_server() -> None:
    given = SERVICES["api"]["environment"]
    env = {name: value for name, value in given.items() if not name.startswith(("AWS_", "MLFLOW_", "PGPASSWORD"))}
    assert env == {
        name: SHARED.get(name, f"${{{name}:-{OWN.get(name, default)}}}")
        for name, default in SETTINGS.items()
        if name not in ELSEWHERE
    }


def test_secrets_are_given_by_whoever_starts_it() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASS|AUTH|SECRET|KEY|STORE_URI", variable) and variable not in OPTIONAL:
                assert ":?give it a value in .env}" in value, (name, variable)


def test_without_passwords_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    command = [str(BIN / "podman-compose"), "--env-file", str(tmp_path / ".env"), "config"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": "/usr/bin"}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "give it a value in .env" in done.stdout + done.stderr


def test_limits_fit_each_other() -> None:
    """nginx takes what inferry takes, and waits longer than it may; a stop waits for what is in flight."""
    settings = Settings()
    used = variables(TEXT)
    assert used["MAX_REQUEST_BYTES"] == ("-", str(settings.max_request_bytes))
    assert float(used["PROXY_TIMEOUT"][1]) > settings.model_timeout
    stop = int(SERVICES["api"]["stop_grace_period"].removesuffix("s"))
    assert stop >= settings.shutdown_grace + settings.model_timeout + 5 + request_log.LAST_SECONDS
    site = (FOLDER / "nginx/templates/site/api.template").read_text()
    assert f"client_header_timeout {settings.header_timeout:.0f}s;" in site
    assert f"client_body_timeout {settings.body_timeout:.0f}s;" in site


def test_every_part_may_do_little() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        # The two whose images make their folder their own before they give their rights up.
        assert service.get("read_only") or name in ("bucket", "postgres"), name
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", ())), name


def test_images_have_a_registry_and_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()]
    assert all(re.fullmatch(r"\$\{\w+:-[\w.]+(/[\w.-]+)+:[\w.]+\}", image) for image in images)
    assert {image for image in images if image.endswith(":latest}")} == {
        "${INFERRY_IMAGE:-localhost/inferry-server:latest}",
        "${MLFLOW_IMAGE:-localhost/inferry-mlflow:latest}",
    }


def test_files_are_where_they_are_mounted_from() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    mounted = [volume.split(":")[0] for volume in volumes if volume.startswith("./")]
    assert len(mounted) > 5
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_mlflows_packages_are_pinned_by_their_hashes() -> None:
    lines = (FOLDER / "mlflow/packages.txt").read_text().replace(" \\\n", "\n").splitlines()
    pins = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert all(re.match(r"[a-z0-9.-]+==\S+", lines[number]) for number in pins)
    assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", lines[number + 1]) for number in pins)


def judged(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """With both folders of rules where the file looks for them."""
    places = {"/etc/prometheus/rules": "deploy/monitoring/rules", "/etc/prometheus/platform": "deploy/compose/rules"}
    text = (FOLDER / "prometheus.yml").read_text()
    for place, folder in places.items():
        text = text.replace(place, str(ROOT / folder))
    (tmp_path / "prometheus.yml").write_text(text)
    assert text.count(str(ROOT)) == len(places)
    assert "rule files found" in judged("promtool", "check", "config", str(tmp_path / "prometheus.yml"))


def test_alerts() -> None:
    judged("promtool", "test", "rules", "tests/platform/alerts.yml")


def test_every_alert_is_tested_and_described() -> None:
    (group,) = yaml.safe_load((FOLDER / "rules/platform.yml").read_text())["groups"]
    rules = {rule["alert"]: rule["labels"]["severity"] for rule in group["rules"]}
    tests = yaml.safe_load((ROOT / "tests/platform/alerts.yml").read_text())["tests"]
    told = [alert for test in tests for alert in test["alert_rule_test"]]
    assert {alert["alertname"] for alert in told if alert["exp_alerts"]} == rules.keys()
    assert {alert["alertname"] for alert in told if not alert["exp_alerts"]} == rules.keys()
    page = (ROOT / "docs" / "compose.md").read_text()
    assert re.findall(r"^\| `(Platform\w+)` \| (\w+) \|", page, re.MULTILINE) == list(rules.items())


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    """As its documentation has it; Grafana itself is not to be had here."""
    source: Any = yaml.safe_load((FOLDER / "grafana/datasources/prometheus.yml").read_text())
    provider: Any = yaml.safe_load((FOLDER / "grafana/dashboards/inferry.yml").read_text())
    assert (source["apiVersion"], provider["apiVersion"]) == (1, 1)
    (store,) = source["datasources"]
    assert (store["type"], store["url"], store["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    volumes = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert volumes["./deploy/compose/grafana"] == "/etc/grafana/provisioning"
    (folder,) = provider["providers"]
    assert volumes["./deploy/monitoring/dashboards"] == folder["options"]["path"]
    dashboards = [json.loads(path.read_text()) for path in (ROOT / "deploy/monitoring/dashboards").glob("*.json")]
    assert dashboards
    for dashboard in dashboards:
        # A dashboard asks for a source of this type, and takes the default one.
        assert dashboard["templating"]["list"][0]["query"] == store["type"]


def test_failures_are_described() -> None:
    """docs/compose.md says of each part what happens without it."""
    page = (ROOT / "docs" / "compose.md").read_text()
    (table,) = re.findall(r"^\| Lost \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([a-z-]+)`(?:, `([a-z-]+)`)*", table, re.MULTILINE)
    assert {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`([a-z-]+)`", row)
    } == set(SERVICES)
    assert rows
