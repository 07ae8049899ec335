"""The parts of compose.yaml at work: how a request, a model and a metric flow, and what happens when a part is lost."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import compose
import numpy as np
import onnx_models
import pytest
import tritonclient.grpc as grpc_client
from compose import LIMITS, Answer, Platform
from conftest import Registered, inputs, register
from containers import ROOT
from loopback import free_port
from standins import eventually, podman, standin
from tritonclient.utils import InferenceServerException

DASHBOARD = json.loads((ROOT / "deploy" / "monitoring" / "dashboards" / "inferry.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
VARIABLES = {"$job": ".*", "$model": ".*", "$__rate_interval_ms": "60000", "$__rate_interval": "1m"}


def doubled(answer: Answer) -> bool:
    return answer.status == 200 and answer.json["outputs"][0]["data"] == [0.0, 2.0, 4.0]


def test_a_registered_model_is_served(platform: Platform, twice: Registered) -> None:
    """From MLflow, through nginx, under the name and the version that its registry has."""
    answer = platform.ask(twice.path, inputs())
    assert doubled(answer)
    assert (answer.json["model_name"], answer.json["model_version"]) == (twice.name, twice.version)
    query = f"/api/2.0/mlflow/model-versions/get?name={twice.name}&version={twice.version}"
    version = platform.ask(query, port="MLFLOW_PORT").json["model_version"]
    assert (version["status"], version["source"]) == ("READY", f"models:/{twice.id}")


def test_a_request_has_one_id_everywhere(platform: Platform, twice: Registered) -> None:
    answer = platform.ask(twice.path, inputs(), {"X-Request-Id": "followed-1"})
    assert answer.headers["x-request-id"] == "followed-1"
    (line,) = eventually(lambda: logged(platform, "nginx", "followed-1"))
    assert (line["method"], line["path"], line["status"]) == ("POST", twice.path, 200)
    assert float(line["upstream_seconds"]) <= line["seconds"] + 0.001
    (line,) = eventually(lambda: logged(platform, "api", "followed-1"))
    assert (line["path"], line["status"], line["model"]) == (twice.path, 200, twice.name)


def logged(platform: Platform, part: str, request_id: str) -> list[dict[str, object]]:
    """The lines of a request."""
    lines = [json.loads(line) for line in platform.log(part).splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("request_id") == request_id]


def row(name: str) -> str:
    """The question for the row of a request with this id."""
    return f"SELECT model, status, outcome FROM inferry.requests WHERE request_id = '{name}'"


def test_a_request_has_a_row(platform: Platform, twice: Registered) -> None:
    assert doubled(platform.ask(twice.path, inputs(), {"X-Request-Id": "followed-3"}))
    eventually(lambda: platform.sql(row("followed-3")) == f"{twice.name}|200|success")
    # Of the database beside it, whose server it shares, the server knows nothing.
    code = "import os, psycopg; psycopg.connect(os.environ['REQUEST_LOG_URL']{}).execute('{}')"
    for more, statement in (("", "SELECT * FROM inferry.requests"), (", dbname='mlflow'", "SELECT 1")):
        with pytest.raises(AssertionError, match="permission denied"):
            podman("exec", platform.container("api"), "python3", "-c", code.format(more, statement))


def test_an_id_that_is_none_is_replaced(platform: Platform, twice: Registered) -> None:
    answer = platform.ask(twice.path, inputs(), {"X-Request-Id": 'a"b c'})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_http_2(platform: Platform) -> None:
    url = f"http://127.0.0.1:{platform.ports['HTTP_PORT']}/v2/health/ready"
    command = ["curl", "--silent", "--http2-prior-knowledge", "--write-out", "\n%{http_version} %{http_code}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "2 200"


def test_grpc(platform: Platform, twice: Registered) -> None:
    """On the same port: a prediction, the health of the server, and who is too large is told so by it."""
    values = np.array([[0, 1, 2]], np.float32)
    with grpc_client.InferenceServerClient(f"127.0.0.1:{platform.ports['HTTP_PORT']}") as client:
        given = grpc_client.InferInput("x", [1, 3], "FP32").set_data_from_numpy(values)
        headers = {"x-request-id": "followed-2"}
        assert client.infer(twice.name, [given], headers=headers).as_numpy("y").tolist() == [[0, 2, 4]]
        assert client.is_server_ready()
        rows = np.zeros((int(LIMITS["MAX_REQUEST_BYTES"]) // 12, 3), np.float32)
        large = grpc_client.InferInput("x", list(rows.shape), "FP32").set_data_from_numpy(rows)
        with pytest.raises(InferenceServerException) as failed:
            client.infer(twice.name, [large])
    assert failed.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    (line,) = eventually(lambda: logged(platform, "api", "followed-2"))
    assert (line["path"], line["model"]) == ("/inference.GRPCInferenceService/ModelInfer", twice.name)


def test_connections_are_kept(platform: Platform) -> None:
    request = b"GET /v2/health/ready HTTP/1.1\r\nHost: inferry\r\n\r\n"
    with socket.create_connection(("127.0.0.1", platform.ports["HTTP_PORT"]), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_answers_are_compressed_and_bodies_inflated(platform: Platform, twice: Registered) -> None:
    answer = platform.ask(twice.path, inputs(rows=1000), {"Accept-Encoding": "gzip"})
    assert (answer.status, answer.headers["content-encoding"]) == (200, "gzip")


def test_a_body_that_is_too_large(platform: Platform, twice: Registered) -> None:
    answer = platform.ask(twice.path, b" " * (int(LIMITS["MAX_REQUEST_BYTES"]) + 1))
    assert answer.status == 413
    assert "is over 2000000 bytes (MAX_REQUEST_BYTES)" in answer.json["error"]


def test_metrics_are_for_prometheus_alone(platform: Platform, twice: Registered) -> None:
    assert platform.ask("/metrics").status == 404
    counted = f'inferry_requests_total{{job="inferry",model="{twice.name}"}}'
    before = platform.value(counted) or 0
    assert doubled(platform.ask(twice.path, inputs()))
    eventually(lambda: (platform.value(counted) or 0) > before)


def test_every_part_is_scraped(platform: Platform) -> None:
    for expression in ("nginx_up", "pg_up", "redis_up", 'up{job="prometheus"}', 'up{job="inferry"}'):
        eventually(lambda expression=expression: platform.value(expression) == 1)  # type: ignore[misc]
    # What the alerts ask for is there.
    for metric in ("pg_stat_activity_count", "pg_settings_max_connections", "redis_memory_max_bytes"):
        assert eventually(lambda metric=metric: platform.query(metric))  # type: ignore[misc]


def test_alerts_are_loaded(platform: Platform) -> None:
    groups = platform.ask("/api/v1/rules", port="PROMETHEUS_PORT").json["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert {"InferryDown", "PlatformNginxDown"} <= rules.keys()
    assert [name for name, rule in rules.items() if rule["health"] == "err"] == []


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_panels_of_the_dashboard(platform: Platform, expression: str) -> None:
    """Prometheus takes every panel's question; whether each has an answer is tests/monitoring's."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    platform.query(expression)


def test_grafanas_stand_in_is_where_grafana_would_be(platform: Platform) -> None:
    assert platform.ask("/api/health", port="GRAFANA_PORT").status == 200


def test_the_server_may_do_nothing_else(platform: Platform) -> None:
    code = "import os; print(os.getuid()); open('/app/x', 'w')"
    with pytest.raises(AssertionError, match="Read-only file system"):
        podman("exec", platform.container("api"), "python3", "-c", code)
    # nginx, which others reach, can't reach the stores.
    command = ("curl", "--silent", "--show-error", "--max-time", "5")
    for store in ("bucket:8333", "postgres:5432", "redis:6379"):
        with pytest.raises(AssertionError, match="Could not resolve host"):
            podman("exec", platform.container("nginx"), *command, f"http://{store}")


def test_ports_are_for_this_machine(platform: Platform) -> None:
    names = podman("ps", "--filter", f"name={compose.PROJECT}_", "--format", "{{.Ports}}").splitlines()
    published = [port for line in names for port in line.split(", ") if port]
    assert len(published) == len(compose.PORTS)
    assert all(port.startswith("127.0.0.1:") for port in published)


def goes_on(platform: Platform, model: Registered) -> None:
    """Predictions are made while a part is away; podman's name server is too, for a moment, when a container ends."""
    eventually(lambda: doubled(platform.ask(model.path, inputs())))


def test_without_mlflow_models_go_on(platform: Platform, twice: Registered) -> None:
    with platform.without("mlflow"):
        goes_on(platform, twice)
        with pytest.raises(OSError):
            platform.ask("/health", port="MLFLOW_PORT")
    eventually(lambda: platform.ask("/health", port="MLFLOW_PORT").status == 200)


def test_without_postgres_models_go_on(platform: Platform, twice: Registered) -> None:
    """MLflow fails, and works again by itself. One that never had its database tries for 100 s before it says so."""
    search = "/api/2.0/mlflow/registered-models/search"
    eventually(lambda: platform.ask(search, port="MLFLOW_PORT").status == 200)
    with platform.without("postgres"):
        goes_on(platform, twice)
        assert doubled(platform.ask(twice.path, inputs(), {"X-Request-Id": "followed-4"}))
        assert platform.ask(search, port="MLFLOW_PORT").status >= 500
        eventually(lambda: platform.value("pg_up") == 0)
    eventually(lambda: platform.ask(search, port="MLFLOW_PORT").status == 200)
    eventually(lambda: platform.value("pg_up") == 1)
    eventually(lambda: platform.sql(row("followed-4")) == f"{twice.name}|200|success")


def test_without_the_owner_of_the_request_log_rows_are_written(platform: Platform, twice: Registered) -> None:
    with platform.without("request-log"):
        assert doubled(platform.ask(twice.path, inputs(), {"X-Request-Id": "followed-5"}))
        eventually(lambda: platform.sql(row("followed-5")) != "")


def test_responses_are_kept_in_redis(platform: Platform, kept: str) -> None:
    """On a busy machine not each time: then the model runs."""
    hits = 'inferry_response_cache_lookups_total{model="kept",outcome="hit"}'

    def found() -> bool:
        assert fourfold(platform.ask(kept, inputs()))
        return (platform.value(hits) or 0) > 0

    eventually(found)
    names = podman("exec", platform.container("redis"), "valkey-cli", "--scan", "--pattern", "inferry1:*")
    assert re.fullmatch(r"(inferry1:[0-9a-f]{64}\n)+", names)


def fourfold(answer: Answer) -> bool:
    return answer.status == 200 and answer.json["outputs"][0]["data"] == [0.0, 4.0, 8.0]


def test_without_redis_nothing_else_is_lost(platform: Platform, twice: Registered, kept: str) -> None:
    with platform.without("redis"):
        goes_on(platform, twice)
        eventually(lambda: fourfold(platform.ask(kept, inputs())))
        eventually(lambda: platform.value("redis_up") == 0)
    eventually(lambda: platform.value("redis_up") == 1)
    assert fourfold(platform.ask(kept, inputs()))


def test_without_the_bucket_loaded_models_go_on(platform: Platform, twice: Registered, tmp_path: Path) -> None:
    """A model that is not loaded yet waits for it."""
    with platform.without("bucket"):
        time.sleep(2 * float(LIMITS["MODEL_REFRESH"]))  # so that the next request has it look for changes
        goes_on(platform, twice)
        goes_on(platform, twice)
        assert platform.ask("/v2/health/ready").status == 200
    again = register(tmp_path, "thrice", onnx_models.scaled(3.0))
    eventually(lambda: platform.ask(again.path, inputs()).status == 200)
    assert platform.ask(again.path, inputs()).json["outputs"][0]["data"] == [0.0, 3.0, 6.0]


def test_without_prometheus_only_metrics_are_lost(platform: Platform, twice: Registered) -> None:
    with platform.without("prometheus"):
        goes_on(platform, twice)
    eventually(lambda: platform.value('up{job="inferry"}') == 1)


@pytest.mark.parametrize("part", ["nginx-exporter", "postgres-exporter", "redis-exporter"])
def test_without_an_exporter(platform: Platform, twice: Registered, part: str) -> None:
    up = f'up{{job="{part.removesuffix("-exporter")}"}}'
    with platform.without(part):
        eventually(lambda: platform.value(up) == 0)
        goes_on(platform, twice)
    eventually(lambda: platform.value(up) == 1)


def test_without_grafana_models_go_on(platform: Platform, twice: Registered) -> None:
    with platform.without("grafana"):
        goes_on(platform, twice)


def test_without_nginx_nobody_is_let_in(platform: Platform, twice: Registered) -> None:
    with platform.without("nginx"):
        with pytest.raises(OSError):
            platform.ask(twice.path, inputs())
        eventually(lambda: platform.value("nginx_up") == 0)
    eventually(lambda: doubled(platform.ask(twice.path, inputs())))
    eventually(lambda: platform.value("nginx_up") == 1)


def test_without_the_server_nginx_says_so(platform: Platform, twice: Registered) -> None:
    """And finds it again where it comes back, with another address or the same; Prometheus does, too."""
    with platform.without("api"):
        answer = eventually(lambda: gone(platform.ask(twice.path, inputs())))
        assert (answer.headers["retry-after"], answer.json) == (
            "1",
            {"error": "the model server is not there: try later"},
        )
        eventually(lambda: platform.query('up{job="inferry"} == 1') == [])
    eventually(lambda: doubled(platform.ask(twice.path, inputs())))
    eventually(lambda: platform.value('up{job="inferry"}') == 1)


def gone(answer: Answer) -> Answer | None:
    return answer if answer.status == 502 else None


def test_a_server_that_dies_comes_back_by_itself(platform: Platform, twice: Registered) -> None:
    process = state(platform, "Pid")
    os.kill(int(process), signal.SIGKILL)
    eventually(lambda: state(platform, "Pid") not in ("0", process))
    eventually(lambda: doubled(platform.ask(twice.path, inputs())))


def state(platform: Platform, name: str) -> str:
    return podman("inspect", "--format", f"{{{{.State.{name}}}}}", platform.container("api")).strip()


def test_a_stop_loses_no_request(platform: Platform, twice: Registered) -> None:
    """What nginx has passed on before SIGTERM is answered; the server ends with status 0."""
    statuses: list[int] = []
    ask = answering(platform, twice, statuses)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        eventually(lambda: len(statuses) > 5)
        podman("stop", "--time", "40", platform.container("api"))
        asked.result(60)
    assert set(statuses) <= {200, 502}
    # Once it is gone it is gone: no answer was lost in between.
    assert statuses == sorted(statuses)
    assert state(platform, "ExitCode") == "0"
    podman("start", platform.container("api"))
    eventually(lambda: doubled(platform.ask(twice.path, inputs())))


def answering(platform: Platform, twice: Registered, statuses: list[int]) -> Callable[[], None]:
    """Asks until it is told that the server is not there, at most a minute, below the rate that is let through."""

    def ask() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and 502 not in statuses:
            statuses.append(platform.ask(twice.path, inputs()).status)
            time.sleep(0.04)

    return ask


def test_tls(platform: Platform, twice: Registered, tmp_path: Path) -> None:
    """deploy/compose/tls.yaml's template, in a second nginx beside the first: HTTP/2 and the models behind it."""
    subject = ("-subj", "/CN=inferry", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(tmp_path / "tls.key"), "-out", str(tmp_path / "tls.crt"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "tls.key").chmod(0o644)
    tmp_path.chmod(0o755)
    port = free_port()
    name = f"{compose.PROJECT}_tls"
    folder = ROOT / "deploy" / "compose"
    template = "/etc/nginx/templates"
    volumes = {
        folder / "nginx" / "nginx.conf": "/etc/nginx/nginx.conf",
        folder / "nginx" / "templates" / "10-log.conf.template": f"{template}/10-log.conf.template",
        folder / "nginx" / "templates" / "20-api.conf.template": f"{template}/20-api.conf.template",
        folder / "nginx" / "templates" / "site": f"{template}/site",
        folder / "tls" / "30-tls.conf.template": f"{template}/30-tls.conf.template",
        tmp_path: "/etc/nginx/tls",
    }
    env = {**LIMITS, "PROXY_TIMEOUT": "35", "RESOLVER": compose.GATEWAY, "NGINX_ENVSUBST_OUTPUT_DIR": "/tmp"}
    given = [part for item in volumes.items() for part in ("--volume", f"{item[0]}:{item[1]}:ro")]
    given += [part for key, value in env.items() for part in ("--env", f"{key}={value}")]
    network = ("--network", f"{compose.PROJECT}_front", "--publish", f"127.0.0.1:{port}:8443")
    limits = ("--user", "101:101", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all")
    podman("run", "--detach", "--rm", "--name", name, *network, *limits, *given, standin("nginx"))
    try:
        url = f"https://127.0.0.1:{port}{twice.path}"
        command = ["curl", "--silent", "--cacert", str(tmp_path / "tls.crt"), "--data", json.dumps(inputs())]
        command += ["--write-out", "\n%{http_version} %{http_code}", url]

        def said() -> bool:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            return done.stdout.splitlines()[-1:] == ["2 200"]

        eventually(said, 30)
    finally:
        podman("rm", "--force", "--time", "0", name)


def test_too_many_requests(platform: Platform, twice: Registered) -> None:
    """Some are told to come again; all the others are predicted. The last test, as others would be told so, too."""
    count = 3 * int(LIMITS["RATE_BURST"])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: platform.ask(twice.path, inputs()), range(count)))
    refused = [answer for answer in answers if answer.status == 429]
    assert refused, "the rate limit let everything through"
    assert all(doubled(answer) for answer in answers if answer.status != 429)
    assert refused[0].headers["retry-after"] == "1"
    assert "more than 50 requests per second (RATE_LIMIT)" in refused[0].json["error"]
    eventually(lambda: platform.ask(twice.path, inputs()).status == 200)
