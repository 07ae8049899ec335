"""The sinks of the clouds: lines for CloudWatch, and requests as AWS' and Microsoft's own libraries make them."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from azure.identity import ManagedIdentityCredential
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials
from gate import gate
from inferry import errors
from inferry.cloud.entra import ManagedIdentity
from inferry.cloud.http_client import NoResponse
from inferry.cloud.sigv4 import Credentials, Environment, Signer
from inferry.errors import InvalidSettings
from inferry.observability.registry import Metrics
from inferry.observability.sinks.amp import ManagedPrometheus
from inferry.observability.sinks.azure_monitor import AzureMonitor
from inferry.observability.sinks.emf import EMF
from inferry.observability.sinks.pusher import Pusher
from inferry.observability.sinks.sink import open_sinks
from inferry.observability.stats import ModelStats, Timings
from inferry.settings import Settings

SECRETS = ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a token/of+a role==")
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRETS[0], "AWS_REGION": "eu-central-1"}


def answered(stats: ModelStats, ms: int, rows: int = 1) -> None:
    stats.in_flight += 1
    stats.succeeded(Timings(infer=ms * 1_000_000), rows, 1, 100, 50)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def printing(metrics: Metrics, detail: str) -> Pusher:
    return Pusher(metrics, {"emf": EMF(Settings(app_name="app", emf_detail=detail), {})}, interval=15, timeout=1)


@pytest.fixture
def emf(metrics: Metrics) -> Pusher:
    return printing(metrics, "all")


def lines(output: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    for line in found:
        assert abs(line["_aws"].pop("Timestamp") / 1000 - time.time()) < 60
    return found


def directive(dimensions: list[list[str]], **units: str) -> dict[str, Any]:
    metrics = [{"Name": name, "Unit": unit} for name, unit in units.items()]
    return {"Namespace": "app", "Dimensions": dimensions, "Metrics": metrics}


SERVICE, MODEL = ["service"], ["service", "model", "version"]


def test_a_line_per_push(metrics: Metrics, emf: Pusher, capsys: pytest.CaptureFixture[str]) -> None:
    metrics.cold_start(0.5)
    stats = metrics.model("digits", "2")
    answered(stats, ms=3, rows=4)
    emf.push()
    (line,) = lines(capsys.readouterr().out)
    assert line == {
        "_aws": {
            "CloudWatchMetrics": [
                directive(
                    [SERVICE, MODEL],
                    inferry_requests_total="Count",
                    inferry_request_duration_seconds="Seconds",
                    **{"inferry_request_phase_seconds_total.infer": "Seconds"},
                    inferry_rows_total="Count",
                    inferry_batch_size="Count",
                    inferry_request_bytes_total="Bytes",
                    inferry_response_bytes_total="Bytes",
                ),
                directive([SERVICE], inferry_cold_starts_total="Count", inferry_init_seconds_total="Seconds"),
            ]
        },
        "service": "app",
        "model": "digits",
        "version": "2",
        "inferry_requests_total": [1.0],
        "inferry_request_duration_seconds": [0.003],
        "inferry_request_phase_seconds_total.infer": [0.003],
        "inferry_rows_total": [4.0],
        "inferry_batch_size": [4.0],
        "inferry_request_bytes_total": [100.0],
        "inferry_response_bytes_total": [50.0],
        "inferry_cold_starts_total": [1.0],
        "inferry_init_seconds_total": [0.5],
    }
    # Nothing has happened since.
    emf.push()
    assert capsys.readouterr().out == ""


def happened(metrics: Metrics) -> None:
    """Something of each kind: two models, a failure, a start, a load, a job."""
    for name in ("digits", "iris"):
        stats = metrics.model(name, "2")
        answered(stats, ms=3, rows=4)
        stats.in_flight += 1
        stats.failed(errors.QueueFull(), 0)
        metrics.loaded(name, "2", 0.1)
        metrics.job_rows(name, "2", 90, 10)
        metrics.job_file(name, "2")
    metrics.refused(errors.ModelNotFound())
    metrics.cold_start(0.5)
    metrics.responses["POST", "/v2/models/{model}/infer", 200] += 2


FEW = {
    "inferry_requests_total": [1.0, 2.0, 2.0],
    "inferry_request_failures_total": [1.0, 1.0, 1.0],
    "inferry_request_duration_seconds": [0.003, 0.003],
    "inferry_rows_total": [4.0, 4.0],
    "inferry_job_files_total.success": [1.0, 1.0],
    "inferry_job_rows_total": [90.0, 90.0],
    "inferry_job_row_errors_total": [10.0, 10.0],
}


def test_few_metrics_by_default(metrics: Metrics, capsys: pytest.CaptureFixture[str]) -> None:
    """Each name and set of dimensions has its price: seven for a function with any number of models."""
    happened(metrics)
    printing(metrics, "service").push()
    (line,) = lines(capsys.readouterr().out)
    (printed,) = line.pop("_aws")["CloudWatchMetrics"]
    assert (printed["Dimensions"], {metric["Name"] for metric in printed["Metrics"]}) == ([SERVICE], {*FEW})
    assert (line.pop("service"), line.pop("reasons")) == ("app", {"rejected": 2, "not_found": 1})
    assert {name: sorted(values) for name, values in line.items()} == FEW
    assert Settings().emf_detail == "service"


def test_the_few_of_each_model(metrics: Metrics, capsys: pytest.CaptureFixture[str]) -> None:
    happened(metrics)
    printing(metrics, "model").push()
    printed = lines(capsys.readouterr().out)
    assert {line.get("model") for line in printed} == {"digits", "iris", None}
    names = {name for line in printed for name in line if name.startswith("inferry")}
    assert names == FEW.keys()
    for name, values in FEW.items():
        assert sorted(value for line in printed for value in line.get(name, [])) == values


def test_all_that_is_counted(metrics: Metrics, emf: Pusher, capsys: pytest.CaptureFixture[str]) -> None:
    """API Gateway counts requests by status, so what has a route for a name is left out."""
    happened(metrics)
    emf.push()
    names = {name for line in lines(capsys.readouterr().out) for name in line if name.startswith("inferry")}
    assert names > FEW.keys()
    assert {"inferry_cold_starts_total", "inferry_model_loads_total.success"} < names
    assert not [name for name in names if "http" in name or "flushes" in name]


def billed(detail: str, models: int, capsys: pytest.CaptureFixture[str]) -> tuple[int, int]:
    """The metrics, and the bytes of a line of one request, of a function whose models failed one request each."""
    metrics = Metrics()
    metrics.cold_start(0.25)
    pusher = printing(metrics, detail)
    found = set()
    for failing in (True, False):
        for name in (f"digit{number}" for number in range(models)):
            stats = metrics.model(name, "1")
            stats.in_flight += 1
            stats.succeeded(Timings(61_234, 0, 32_123, 18_432), 1, 1, 293, 205)
            metrics.cache_hits += 1
            if failing:
                metrics.loaded(name, "1", 0.01)
                stats.in_flight += 1
                stats.failed(errors.InvalidRequest(), 1000)
            pusher.push()
            output = capsys.readouterr().out
            for line in lines(output):
                for printed in line["_aws"]["CloudWatchMetrics"]:
                    for dimensions in printed["Dimensions"]:
                        values = tuple(line[name] for name in dimensions)
                        found |= {(metric["Name"], values) for metric in printed["Metrics"]}
    return len(found), len(output)


@pytest.mark.parametrize("detail", ["service", "model", "all"])
def test_the_page_says_what_it_costs(detail: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    (row,) = re.findall(rf"^\| `{detail}`[^|]*((?:\| [\d., ]+ )+)\|$", page, re.M)
    one, further, months, size, log = (cell.strip() for cell in row.strip("|").split("|"))
    (count, width), (ten, _) = (billed(detail, models, capsys) for models in (1, 10))
    assert (count, ten) == (int(one), int(one) + 9 * int(further))
    assert months == f"{0.3 * count:.2f}, {0.3 * ten:.2f}"
    # POWERTOOLS and the clock have their part in it.
    assert width == pytest.approx(int(size), rel=0.05)
    assert float(log) == pytest.approx(int(size) * 0.5e-3, abs=0.01)


NAMES = {
    "empty": ({"APP_NAME": ""}, "APP_NAME must be a namespace of CloudWatch"),
    "blanks": ({"APP_NAME": "  "}, "APP_NAME must be"),
    "a colon": ({"APP_NAME": ":shop"}, "no colon first, and not AWS/; got ':shop'"),
    "of AWS itself": ({"APP_NAME": "AWS/Lambda"}, "not AWS/"),
    "an umlaut": ({"APP_NAME": "Küche"}, "got 'Küche'"),
    "a tab": ({"APP_NAME": "a\tb"}, "got 'a"),
    "too long": ({"APP_NAME": "x" * 256}, "1 to 255"),
    "Powertools' namespace": ({"POWERTOOLS_METRICS_NAMESPACE": "a,b"}, "POWERTOOLS_METRICS_NAMESPACE must be"),
    "Powertools' service": ({"POWERTOOLS_SERVICE_NAME": "é"}, "POWERTOOLS_SERVICE_NAME must be the value of a dim"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_cloudwatch_refuses(name: str) -> None:
    env, words = NAMES[name]
    settings = Settings.from_env({"METRICS_SINKS": "emf", **env})
    with pytest.raises(InvalidSettings) as refusal:
        open_sinks(settings, env)
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", ["inferry", "Shop/Models #1", "a.b_c-d:e", "x" * 255])
def test_names_that_cloudwatch_takes(name: str) -> None:
    assert open_sinks(Settings(metrics_sinks=("emf",), app_name=name), {}).keys() == {"emf"}


def test_failures_are_one_number_and_their_reasons_a_field(
    metrics: Metrics, emf: Pusher, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = metrics.model("digits", "2")
    for exc in (errors.QueueFull(), errors.QueueFull(), errors.InvalidRequest()):
        stats.in_flight += 1
        stats.failed(exc, 0)
    metrics.refused(errors.ModelNotFound())
    emf.push()
    found = {line.get("model"): line for line in lines(capsys.readouterr().out)}
    kept = {model: (sum(line["inferry_request_failures_total"]), line["reasons"]) for model, line in found.items()}
    assert kept == {"digits": (3, {"invalid": 1, "rejected": 2}), None: (1, {"not_found": 1})}


def test_several_observations(metrics: Metrics, emf: Pusher, capsys: pytest.CaptureFixture[str]) -> None:
    """Of more than one a line has the bounds of their buckets, and a line has room for a hundred."""
    stats = metrics.model("digits", "2")
    for _ in range(130):
        answered(stats, ms=3)
    answered(stats, ms=40_000)
    emf.push()
    name = "inferry_request_duration_seconds"
    printed = [line[name] for line in lines(capsys.readouterr().out) if name in line]
    assert [len(values) for values in printed] == [100, 31]
    assert sorted(printed[0] + printed[1]) == [0.005] * 130 + [30.0]


def test_names_from_powertools_own_variables(
    metrics: Metrics, emf: Pusher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Shop")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "digits")
    metrics.cold_start(1)
    emf.push()
    (line,) = lines(capsys.readouterr().out)
    assert (line["_aws"]["CloudWatchMetrics"][0]["Namespace"], line["service"]) == ("Shop", "digits")
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    metrics.cold_start(1)
    emf.push()
    assert capsys.readouterr().out == ""


def test_concurrent_requests(metrics: Metrics, emf: Pusher, capsys: pytest.CaptureFixture[str]) -> None:
    """Every request is in exactly one line, though each thread pushes when its own is done."""

    def invoke(number: int) -> None:
        stats = metrics.model(f"m{number % 3}", "1")
        metrics.job_rows(f"m{number % 3}", "1", number)
        stats.executed(1, 1000)
        emf.push()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(invoke, range(300)))
    totals = dict.fromkeys(("m0", "m1", "m2"), 0.0)
    runs = dict(totals)
    for line in lines(capsys.readouterr().out):
        totals[line["model"]] += sum(line.get("inferry_job_rows_total", []))
        runs[line["model"]] += len(line.get("inferry_batch_size", []))
    assert totals == {f"m{rest}": sum(range(rest, 300, 3)) for rest in range(3)}
    assert runs == dict.fromkeys(totals, 100)


# Signatures, compared with botocore's.

URLS = [
    "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-1a2b/api/v1/remote_write",
    "https://h.example:8443/a%20b/~c",
    "http://127.0.0.1:80/",
    "https://h.example/write?b=2&a=1&empty=&sp=a%20b&dup=2&dup=1&eq=a%3Db",
]


@pytest.mark.parametrize("token", ["", SECRETS[1]])
@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 99])
def test_signature(url: str, body: bytes, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
    headers = {"Content-Type": "application/x-protobuf", "X-Odd": "  two   blanks ", "Content-Encoding": "snappy"}
    ours = Signer("eu-central-1", "aps").headers(
        "POST", url, headers, body, Credentials("AKIDEXAMPLE", SECRETS[0], token), now
    )
    assert ours == {**headers, **theirs(url, headers, body, token, now, monkeypatch)}


def theirs(
    url: str, headers: dict[str, str], body: bytes, token: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What botocore adds to a request at this time."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: now)
    request = AWSRequest("POST", url, data=body, headers=headers)
    credentials = TheirCredentials("AKIDEXAMPLE", SECRETS[0], token or None)
    botocore.auth.SigV4Auth(credentials, "aps", "eu-central-1").add_auth(request)
    return {name: value for name, value in request.headers.items() if name not in headers}


def push(sink: Any, starts: int = 1) -> None:
    metrics = Metrics()
    for _ in range(starts):
        metrics.cold_start(0.5)
    try:
        sink.push(metrics.collect(), time.monotonic() + 5)
    finally:
        sink._poster.close()


def test_managed_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes over the wire has the signature that botocore makes of it."""
    with gate() as store:
        store.fate = lambda: 200
        push(ManagedPrometheus(Settings(remote_write_url=store.url), {**AWS, "AWS_SESSION_TOKEN": SECRETS[1]}))
        ((path, headers, body),) = store.requests
    sent = {name: value for name, value in headers.items() if name.startswith(("Content-T", "Content-E", "X-Prom"))}
    now = datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(now.timestamp() - time.time()) < 60
    expected = theirs(store.url, sent, body, SECRETS[1], now, monkeypatch)
    assert {name: headers[name] for name in expected} == expected
    assert path == "/write"


REGIONS: dict[str, tuple[str, dict[str, str], str]] = {
    "of the URL": ("https://aps-workspaces.us-west-2.amazonaws.com/w", {"AWS_REGION": "eu-west-1"}, "us-west-2"),
    "of the environment": ("https://vpce.example/w", {"AWS_REGION": "eu-west-1"}, "eu-west-1"),
    "by default": ("https://vpce.example/w", {"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
}


@pytest.mark.parametrize("name", REGIONS)
def test_the_region(name: str) -> None:
    url, env, region = REGIONS[name]
    env = {**AWS, **env} if "AWS_REGION" in env else {k: v for k, v in AWS.items() if k != "AWS_REGION"} | env
    assert ManagedPrometheus(Settings(remote_write_url=url), env)._signer.region == region


# What runs on the platform asks at an address of its own host.

Answer = Callable[[str, dict[str, str]], tuple[int, dict[str, Any]]]


@contextmanager
def local(answer: Answer) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A server that answers GET by `answer(path, headers)`; its address, and what it was asked."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers.items())))
            status, value = answer(*asked[-1])
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def token(_: str, __: dict[str, str]) -> tuple[int, dict[str, Any]]:
    expires = str(int(time.time()) + 3600)
    return 200, {"access_token": "a token of Entra", "expires_on": expires, "resource": "r", "token_type": "Bearer"}


@pytest.mark.parametrize("client", ["", "11111111-2222-3333-4444-555555555555"])
def test_managed_identity_asks_as_microsofts_library_does(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with local(token) as (url, asked):
        env = {"IDENTITY_ENDPOINT": f"{url}/msi/token", "IDENTITY_HEADER": "853b9a84-5bfa"}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with ManagedIdentityCredential(client_id=client or None) as credential:
            expected = credential.get_token("https://monitor.azure.com/.default").token
        identity = ManagedIdentity({**env, "AZURE_CLIENT_ID": client}, "https://monitor.azure.com")
        assert identity.token(time.monotonic() + 5) == expected
        assert identity.token(time.monotonic()) == expected  # kept, without another request
        identity._poster.close()
    (their_path, their_headers), (our_path, our_headers) = asked
    assert our_path == their_path
    told = {name.lower(): value for name, value in their_headers.items()}
    # What tells of the library, and of the connection.
    for name in ("user-agent", "accept", "accept-encoding", "connection", "x-ms-client-request-id"):
        told.pop(name, None)
    ours = {name.lower(): value for name, value in our_headers.items()}
    assert {name: ours.get(name) for name in told} == told


def test_azure_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token for several pushes, for what azure-identity asks it for."""
    with local(token) as (url, asked), gate() as store:
        store.fate = lambda: 204
        env = {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "secret"}
        sink = AzureMonitor(Settings(remote_write_url=store.url), env)
        push(sink)
        push(sink, starts=2)
        sink._identity._poster.close()
        assert [headers["Authorization"] for _, headers, _ in store.requests] == ["Bearer a token of Entra"] * 2
        assert len(asked) == 1
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with ManagedIdentityCredential() as credential:
            credential.get_token("https://monitor.azure.com/.default")
    assert asked[0][0] == asked[1][0]


def role(_: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    if headers.get("Authorization") != "a pass":
        return 403, {}
    expiry = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return 200, {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t", "Expiration": expiry}


def test_credentials_of_a_container_or_a_restored_snapshot() -> None:
    with local(role) as (url, asked):
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "a pass"}
        environment = Environment(env)
        assert [environment.get(time.monotonic() + 5) for _ in range(2)] == [Credentials("ASIA", "s", "t")] * 2
        assert len(asked) == 1
        environment._poster.close()  # type: ignore[union-attr]
        refused = Environment({**env, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "another"})
        with pytest.raises(NoResponse, match="answers 403"):
            refused.get(time.monotonic() + 5)
        refused._poster.close()  # type: ignore[union-attr]


def test_credentials_are_not_printed() -> None:
    assert repr(Credentials("AKID", *SECRETS)) == "Credentials()"


@pytest.mark.parametrize("answer", [(200, {}), (200, {"access_token": "a"}), (200, []), (500, {})])
def test_a_push_without_a_token_is_kept(answer: tuple[int, Any], metrics: Metrics) -> None:
    """And nothing is sent without one."""
    with local(lambda *_: answer) as (url, _), gate() as store:
        sink = AzureMonitor(Settings(remote_write_url=store.url), {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "x"})
        pusher = Pusher(metrics, {"azure_monitor": sink}, interval=15, timeout=1)
        metrics.cold_start(1)
        pusher.push()
        assert store.requests == []
        assert sink._kept is not None
        sink._identity._poster.close()


WRONG: dict[str, tuple[str, dict[str, str], str]] = {
    "no credentials": ("amp", {"AWS_REGION": "r"}, "AWS_ACCESS_KEY_ID"),
    "no region": ("amp", {}, "AWS_REGION"),
    "credentials from elsewhere": (
        "amp",
        {"AWS_REGION": "r", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://h.example/"},
        "must be an address of this host",
    ),
    "no identity": ("azure_monitor", {}, "IDENTITY_ENDPOINT"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_missing_is_said(name: str) -> None:
    sink, env, words = WRONG[name]
    with pytest.raises(InvalidSettings, match=words):
        open_sinks(Settings(metrics_sinks=(sink,), remote_write_url="https://h.example/w"), env)
