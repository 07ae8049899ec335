"""Grafana's dashboard: no panel is empty against a Prometheus with the metrics of a real server and a function."""

import json
import runpy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from contract.servers import Server, serving, tensor
from contract.timeseries import Store, prometheus
from files import FOLDER, RULES, accepted
from inferry.errors import InvalidFile
from inferry.jobs import runner
from inferry.observability.sinks.pusher import Pusher
from inferry.observability.sinks.sink import Sink, open_sinks
from inferry.service import Service
from inferry.settings import Settings

DASHBOARD = json.loads((FOLDER / "dashboards" / "inferry.json").read_text())
VARIABLES = {"$job": ".*", "$model": ".*", "$__rate_interval": "1m"}
QUERIES = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}
MODELS = {"quick.onnx": onnx_models.identity(), "broken/1/model.onnx": b"no model"}


def filled(expression: str) -> str:
    """As Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def test_file_is_current() -> None:
    text = runpy.run_path(str(FOLDER / "dashboard.py"))["text"]()
    assert (FOLDER / "dashboards" / "inferry.json").read_text() == text, "run python -m deploy.monitoring.dashboard"


def test_panels() -> None:
    charts = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["targets"] for panel in charts)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "model"]


def test_expressions_are_promql(tmp_path: Path) -> None:
    """promtool parses them as recording rules."""
    rules = [{"record": f"query:{number}", "expr": filled(query)} for number, query in enumerate(QUERIES.values())]
    page = tmp_path / "rules.yml"
    page.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    assert f"{len(rules)} rules found" in accepted("promtool", "check", "rules", page)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A Prometheus with our rules that scrapes a server, and that a function and its jobs push to."""
    folder = tmp_path_factory.mktemp("dashboard")
    models = onnx_models.write(folder / "models", MODELS)
    with serving(models) as server, prometheus(folder, [server.address], RULES) as store:
        # Prometheus looks for its targets when it has run for five seconds.
        eventually(lambda: store.query('up{job="inferry"} == 1'), 20)
        with function(store, models, folder):
            eventually(lambda: seen(server, store), 10)
            yield store


def ask(server: Server) -> None:
    """A prediction, and requests that fail."""
    assert server.infer("quick", tensor("x", "FP32", [1, 3], [1, 2, 3])).status == 200
    assert server.infer("quick", tensor("x", "FP32", [1, 4], [1])).status == 400
    assert server.infer("absent", tensor("x", "FP32", [1, 3], [1, 2, 3])).status == 404


def seen(server: Server, store: Store) -> list[dict[str, Any]]:
    """Whether Prometheus saw predictions become more, after some more of them."""
    ask(server)
    return store.query("rate(inferry_request_duration_seconds_count[1m]) > 0")


@contextmanager
def function(store: Store, models: Path, folder: Path) -> Iterator[None]:
    """A cold start and two batch jobs, one over a file that is none, pushed to the store and to an address that
    refuses."""
    settings = Settings(model_path=str(models), app_name="function", default_model="quick")
    service = Service.from_settings(settings)
    sinks = {"remote_write": sink(settings, store.write_url), "refused": sink(settings, f"{store.url}/nowhere")}
    pusher = Pusher(service.metrics, sinks, interval=60.0, timeout=5.0)
    pusher.push()
    service.metrics.cold_start(0.4)
    run_jobs(service, folder)
    pusher.push()
    pusher.push()  # what the pushes before it came to
    yield
    pusher.close()
    service.close()


def sink(settings: Settings, url: str) -> Sink:
    return open_sinks(replace(settings, metrics_sinks=("remote_write",), remote_write_url=url), {})["remote_write"]


def run_jobs(service: Service, folder: Path) -> None:
    good, bad = folder / "rows.jsonl", folder / "rows.npy"
    good.write_text('{"x": [1, 2, 3]}\n{"x": "no numbers"}\n')
    bad.write_bytes(b"no array")
    runner.run(runner.Job(input=str(good), output=f"{folder}/out/"), service)
    with pytest.raises(InvalidFile):
        runner.run(runner.Job(input=str(bad), output=f"{folder}/out/"), service)


@pytest.mark.parametrize("query", QUERIES)
def test_no_panel_is_empty(store: Store, query: str) -> None:
    eventually(lambda: [item for item in store.query(filled(QUERIES[query])) if item["value"][1] != "NaN"], 10)


def eventually(found: Callable[[], list[dict[str, Any]]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)
