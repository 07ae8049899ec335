"""Metrics of real servers: scraped over one port and two, from one process and several, and pushed."""

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import onnx_models
import pytest
from gate import gate
from inferry.app import ASGIApp
from inferry.observability.sinks.prometheus import text as prometheus_text
from inferry.server.metrics import Pages
from loopback import free_port
from prometheus_client.openmetrics import parser
from servers import Server, ask, environment, received, serving, tensor
from timeseries import STORES, Store, eventually, prometheus

ONE = {"quick.onnx": onnx_models.identity()}
ROW = tensor("x", "FP32", [1, 3], [1, 2, 3])
BODY = json.dumps({"inputs": [ROW]}).encode()


def predict(server: Server, count: int) -> None:
    """Each over a connection of its own, so that several workers get some."""
    for _ in range(count):
        assert server.infer("quick", ROW).status == 200


def page(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        text: str = response.read().decode()
    return text


OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.mark.parametrize("workers", [1, 2])
def test_openmetrics_and_gzip(repository: Callable[..., str], workers: int) -> None:
    """On both ports, and of several processes."""
    port = free_port()
    with serving(repository(ONE), "--workers", str(workers), METRICS_PORT=str(port)) as server:
        eventually(lambda: page(server.url).count("\ninferry_build_info"), workers, 30)
        predict(server, 20)
        for url in (server.url, f"http://127.0.0.1:{port}"):
            asked = urllib.request.Request(f"{url}/metrics", headers={"Accept": OPENMETRICS, "Accept-Encoding": "gzip"})
            with urllib.request.urlopen(asked, timeout=10) as response:
                told = response.headers
                text = gzip.decompress(response.read()).decode()
            assert (told["content-type"], told["content-encoding"]) == (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                "gzip",
            )
            samples = [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]
            totals = [sample.value for sample in samples if sample.name == "inferry_requests_total"]
            starts = [sample.value for sample in samples if sample.name == "process_start_time_seconds"]
            assert (sum(totals), len(starts)) == (20, workers)
            assert all(time.time() - 600 < start < time.time() for start in starts)


def test_requests_by_route_and_status(app: Callable[..., ASGIApp]) -> None:
    served: Any = app(ONE)
    asked = [
        ("POST", "/v2/models/quick/infer", BODY),
        ("POST", "/v2/models/quick/infer", BODY),
        ("POST", "/v2/models/quick/versions/1/infer", b"{"),
        ("HEAD", "/v2/health/live", b""),
        ("GET", "/v2/models/quick", b""),
        ("GET", "/v2/models/absent", b""),
        ("POST", "/predict", b'{"features":[1,2,3]}'),
        ("GET", "/wp-admin/setup.php", b""),
        ("BREW", "/v2", b""),
    ]
    for method, path, body in asked:
        ask(served, method, path, content=body)
    assert dict(served._service.metrics.responses) == {
        ("POST", "/v2/models/{model}/infer", 200): 2,
        ("POST", "/v2/models/{model}/versions/{version}/infer", 400): 1,
        ("GET", "/v2/health/live", 200): 1,
        ("GET", "/v2/models/{model}", 200): 1,
        ("GET", "/v2/models/{model}", 404): 1,
        ("POST", "/predict", 200): 1,
        ("GET", "", 404): 1,
        ("_OTHER", "", 405): 1,
    }


def test_a_client_that_goes_away_is_counted(app: Callable[..., ASGIApp]) -> None:
    served: Any = app(ONE)

    async def gone() -> Any:
        raise asyncio.CancelledError

    async def send(_: Any) -> None:
        raise AssertionError("nobody is there")

    scope = {"type": "http", "method": "POST", "path": "/v2/models/quick/infer", "headers": []}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(served(scope, gone, send))
    assert dict(served._service.metrics.responses) == {("POST", "/v2/models/{model}/infer", 499): 1}


def test_a_scrape_holds_up_no_request(app: Callable[..., ASGIApp]) -> None:
    """The page is made in a thread: while it is, the event loop answers."""
    served: Any = app(ONE)
    begun, may_end = threading.Event(), threading.Event()

    def scrape(_: Any) -> str:
        begun.set()
        assert may_end.wait(10)
        return "page"

    served._host = served._host._replace(scrape=Pages(scrape))

    async def both() -> tuple[int, str]:
        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            scraping = asyncio.create_task(client.get("/metrics"))
            while not begun.is_set():
                await asyncio.sleep(0)
            live = await client.get("/v2/health/live")
            may_end.set()
            return live.status_code, (await scraping).text

    assert asyncio.run(both()) == (200, "page")


def requests(text: str) -> dict[str, float]:
    """By worker."""
    found = re.findall(r'^inferry_requests_total{model="quick",version="1"(?:,worker="(\d+)")?} (\d+)$', text, re.M)
    return {worker: float(value) for worker, value in found}


@pytest.mark.parametrize("workers", [1, 2])
def test_scraped_by_prometheus(repository: Callable[..., str], tmp_path: Path, workers: int) -> None:
    port = free_port()
    with (
        serving(repository(ONE), "--workers", str(workers), METRICS_PORT=str(port)) as server,
        prometheus(tmp_path, [server.address, f"127.0.0.1:{port}"]) as store,
    ):
        predict(server, 40)
        server.infer("quick", tensor("x", "FP32", [1, 4], [1]))
        server.infer("absent", ROW)
        by_port = "sum by (instance) (%s)"
        for name, value in {
            'inferry_requests_total{model="quick"}': 41.0,
            'inferry_request_failures_total{model="quick",reason="invalid"}': 1.0,
            'inferry_request_failures_total{model="",reason="not_found"}': 1.0,
            "inferry_request_duration_seconds_count": 40.0,
            "nv_inference_request_success": 40.0,
            "inferry_build_info": float(workers),
        }.items():
            eventually(
                lambda name=name: store.numbers(by_port % name),  # type: ignore[misc]
                {(server.address,): value, (f"127.0.0.1:{port}",): value},
            )


REFUSED: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "infer that is not JSON": ("/v2/models/quick/infer", b"{", {}, 'model="quick",version="1",reason="invalid"'),
    "infer of no model": ("/v2/models/absent/infer", b"{}", {}, 'model="",version="",reason="not_found"'),
    "a body that is too large": ("/v2/models/quick/infer", b"{" * 11, {}, 'model="",version="",reason="invalid"'),
    "no key": ("/v2/models/quick/infer", b"{}", {"api_keys": ("a" * 64,)}, 'model="",version="",reason="denied"'),
    "predict of nothing": ("/predict", b"{}", {}, 'model="",version="",reason="invalid"'),
    "predict that doesn't fit": (
        "/predict",
        b'{"features":[[1],[1,2]]}',
        {},
        'model="quick",version="1",reason="invalid"',
    ),
    "KServe's of no model": ("/v1/models/absent:predict", b"{}", {}, 'model="",version="",reason="not_found"'),
    "KServe's of nothing": ("/v1/models/quick:predict", b"{}", {}, 'model="",version="",reason="invalid"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_failures_by_reason(app: Callable[..., ASGIApp], name: str) -> None:
    path, body, settings, labels = REFUSED[name]
    limit = 10 if "too large" in name else 1000
    served: Any = app(ONE, max_request_bytes=limit, **settings)
    assert ask(served, "POST", path, content=body).status_code >= 400
    text = prometheus_text(served._service.metrics)
    failed = re.findall(r"^inferry_request_failures_total{(.*)} ([1-9].*)$", text, re.M)
    counted = re.findall(r"^inferry_requests_total{(.*)} ([1-9].*)$", text, re.M)
    assert (failed, counted) == ([(labels, "1")], [(labels.rpartition(",")[0], "1")])


def test_workers_of_which_one_dies(repository: Callable[..., str]) -> None:
    with serving(repository(ONE), "--workers", "2") as server:
        eventually(lambda: page(server.url).count("\ninferry_build_info"), 2, 30)
        predict(server, 60)
        before = requests(page(server.url))
        assert (len(before), sum(before.values())) == (2, 60)
        families = [line for line in page(server.url).splitlines() if line.startswith("# TYPE")]
        assert len(families) == len(set(families))
        victim = min(before)
        os.kill(int(victim), signal.SIGKILL)
        eventually(lambda: page(server.url).count("\ninferry_build_info"), 2, 30)
        after = requests(page(server.url))
        (survivor,) = before.keys() - {victim}
        assert after[survivor] == before[survivor]
        assert victim not in after
        assert f"ERROR inferry: worker {victim} was ended by SIGKILL: " in server.log


def test_a_port_that_is_taken(repository: Callable[..., str]) -> None:
    with (
        serving(repository(ONE)) as server,
        pytest.raises(AssertionError, match=r"METRICS_PORT\): Address already in use"),
        serving(repository(ONE), METRICS_PORT=str(server.port)),
    ):
        pass


def test_nothing_else_is_on_the_second_port(repository: Callable[..., str]) -> None:
    port = free_port()
    with serving(repository(ONE), METRICS_PORT=str(port)), pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2", timeout=10)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with STORES[request.param](tmp_path) as store:
        yield store


@pytest.mark.parametrize("workers", [1, 2])
def test_pushed_until_the_end(repository: Callable[..., str], store: Store, workers: int) -> None:
    env = {"METRICS_SINKS": "remote_write", "METRICS_INTERVAL": "0.2", "REMOTE_WRITE_URL": store.write_url}
    with serving(repository(ONE), "--workers", str(workers), **env) as server:
        assert server.ask("GET", "/metrics").status == 404
        predict(server, 20)
        time.sleep(0.5)
        predict(server, 20)
    total = 'sum(max_over_time(inferry_requests_total{model="quick"}[5m]))'
    assert store.numbers(total) == {(): 40}
    assert store.numbers("count(count by (instance) (max_over_time(inferry_requests_total[5m])))") == {(): workers}
    # The series are ended.
    assert store.query("inferry_requests_total") == []


def test_a_batch_job_pushes_when_it_is_done(repository: Callable[..., str], store: Store, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"x": [1, 2, 3]}\n' * 70 + '{"x": [1]}\n' * 2)
    env = {"METRICS_SINKS": "remote_write", "REMOTE_WRITE_URL": store.write_url}
    command = ["batch", str(rows), f"{tmp_path}/out.jsonl", "--model", "quick"]
    done = subprocess.run(
        [sys.executable, "-m", "inferry", *command],
        env=environment(
            {"MODEL_PATH": repository({"quick/1/model.onnx": onnx_models.identity("FP32", ("n", 3))}), **env}
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = ("inferry_job_files_total", "inferry_job_rows_total", "inferry_job_row_errors_total")
    assert [store.numbers(f"sum(max_over_time({name}[5m]))") for name in names] == [{(): 1}, {(): 70}, {(): 2}]


WRONG = {
    "a sink that there is not": ({"METRICS_SINKS": "prometheus,statsd"}, "METRICS_SINKS names 'statsd'"),
    "no URL": ({"METRICS_SINKS": "remote_write"}, "REMOTE_WRITE_URL must name it"),
    "a URL of another kind": ({"METRICS_SINKS": "remote_write", "REMOTE_WRITE_URL": "ftp://h/"}, "must be an http"),
    "a URL with a user": (
        {"METRICS_SINKS": "remote_write", "REMOTE_WRITE_URL": "http://a:secret@h/"},
        "REMOTE_WRITE_URL must be an http or https URL without a user in it",
    ),
}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("name", WRONG)
def test_settings_that_do_not_fit(repository: Callable[..., str], name: str, workers: str) -> None:
    env, words = WRONG[name]
    with (
        pytest.raises(AssertionError, match="the server did not start") as failure,
        serving(repository(ONE), "--workers", workers, **env),
    ):
        pass
    assert words in str(failure.value)
    assert "secret" not in str(failure.value)


def counted(server: Server, name: str) -> float:
    """A counter of the sink."""
    found = re.findall(rf'^inferry_metric_{name}{{sink="remote_write"}} (\d+)$', page(server.url), re.M)
    return float(found[0]) if found else 0.0


FAULTS: dict[str, tuple[Any, ...]] = {
    "hangs": ("hang",),
    "sends a byte now and then": ("drip",),
    "refuses connections": ("gone",),
    "cuts connections": ("cut",),
    "answers 400": (400,),
    "refuses": (403,),
    "redirects": ((308, {"Location": "https://elsewhere.example/write"}),),
    "asks for less": (413,),
    "answers 429": (429,),
    "answers 500": (500,),
    "asks for silence": ((503, {"Retry-After": "3600"}),),
    "sends rubbish": ("rubbish",),
    "answers at great length": ("flood", 500),
    "changes its mind": ("pass", 400, "hang", 500, "cut"),
}


DROPPED = {"answers 400", "refuses", "redirects", "asks for less", "changes its mind"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_store_that_misbehaves_holds_up_nobody(repository: Callable[..., str], name: str) -> None:
    fates = cycle(FAULTS[name])
    env = {"METRICS_SINKS": "prometheus,remote_write", "METRICS_INTERVAL": "0.1", "METRICS_TIMEOUT": "0.2"}
    with gate() as store:
        store.fate = lambda: 204 if (fate := next(fates)) == "pass" else fate
        url = f"http://127.0.0.1:{free_port()}" if name == "refuses connections" else store.url
        with serving(repository(ONE)) as plain, serving(repository(ONE), **env, REMOTE_WRITE_URL=url) as pushing:
            # A hypervisor may stop one of the two, and the kernel doesn't count that: what holds up does so each time.
            looks = [percentiles(plain, pushing)]
            while held_up(*looks[-1]) and len(looks) < 5:
                looks.append(percentiles(plain, pushing))
            assert not held_up(*looks[-1]), looks
            eventually(lambda: counted(pushing, "flush_failures_total") > 0, True)
            eventually(lambda: counted(pushing, "samples_dropped_total") > 0, name in DROPPED)
            started = time.monotonic()
        assert time.monotonic() - started < 5
    # Said once, not at every push.
    lines = [line for line in pushing.final_log.splitlines() if "metrics don't reach remote_write" in line]
    again = [line for line in pushing.final_log.splitlines() if "metrics reach remote_write again" in line]
    assert len(lines) - len(again) in (0, 1)
    assert "pass" in FAULTS[name] or len(lines) == 1
    assert "Traceback" not in pushing.final_log


def held_up(theirs: float, ours: float) -> bool:
    return ours > max(theirs * 1.05, theirs + 0.001)


def percentiles(*servers: Server) -> list[float]:
    """The 99th percentile of each server's latency, in seconds; they are asked in turns, over connections that stay.

    Without what this process and the server waited for a CPU: other processes' work is no sink's fault, and on a busy
    machine it is most of the 99th percentile.
    """
    took: list[list[float]] = [[] for _ in servers]
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connected()) for server in servers]
        for _ in range(500):
            for server, connection, times in zip(servers, connections, took, strict=True):
                waited, start = waits(server), time.perf_counter()
                connection.request("POST", "/v2/models/quick/infer", BODY)
                assert received(connection).status == 200
                times.append(time.perf_counter() - start - (waits(server) - waited))
    return [sorted(times)[int(len(times) * 0.99)] for times in took]


def waits(server: Server) -> float:
    """Seconds that the server's event loop and this thread were ready to run, and didn't (proc(5), schedstat)."""
    paths = (f"/proc/{server.process.pid}/schedstat", "/proc/thread-self/schedstat")
    return sum(int(Path(path).read_text().split()[1]) for path in paths) / 1e9
