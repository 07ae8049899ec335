"""Metrics of environments under Lambda's runtime: printed for CloudWatch, pushed to Prometheus after each answer."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lambda_events as events
import onnx_models
import pytest
from contract.timeseries import Store, prometheus
from emulator import Emulator, emulated

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).encode()
PREDICT = events.http_api("POST", "/v2/models/quick/infer", BODY, {"content-type": "application/json"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with prometheus(tmp_path) as store:
        yield store


INTERVAL = 0.01


def lines(emulator: Emulator) -> list[dict[str, Any]]:
    return [json.loads(line) for line in emulator.log.splitlines() if line.startswith('{"_aws"')]


def test_environments_that_come_and_go(python: Path, repository: Callable[..., str], store: Store) -> None:
    """Some are ended as Lambda does it, one is killed; every answer is counted once."""
    env: dict[str, Any] = {
        "MODEL_PATH": repository({"quick.onnx": onnx_models.identity()}),
        "METRICS_SINKS": "emf,remote_write",
        "EMF_DETAIL": "all",
        "METRICS_INTERVAL": str(INTERVAL),
        "REMOTE_WRITE_URL": store.write_url,
    }
    totals = 'sum(max_over_time(inferry_requests_total{model="quick"}[10m]))'
    for number, invocations in enumerate((1, 5, 3)):
        with emulated("functions.api.handler", python, **env) as emulator:
            for _ in range(invocations):
                # There is a push in each interval.
                time.sleep(2 * INTERVAL)
                assert emulator.invoke(PREDICT)["statusCode"] == 200
            # The emulator answers when the extension is done.
            before = sum((1, 5, 3)[: number + 1])
            assert store.numbers(totals) == {(): before}
            printed = lines(emulator)
            assert [line["inferry_requests_total"] for line in printed] == [[1.0]] * invocations
            assert [line.get("inferry_cold_starts_total") for line in printed] == [[1.0]] + [None] * (invocations - 1)
            if number == 0:
                (pid,) = emulator.runtimes()
                os.kill(pid, signal.SIGTERM)
                end(pid)
                assert store.query("inferry_requests_total") == []
    assert store.numbers("sum(max_over_time(inferry_cold_starts_total[10m]))") == {(): 3}
    assert store.numbers("count(count by (instance) (max_over_time(inferry_build_info[10m])))") == {(): 3}


def end(pid: int) -> None:
    """Waits until the process is gone."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)


def test_a_store_that_is_gone_costs_no_prediction(python: Path, repository: Callable[..., str]) -> None:
    env: dict[str, Any] = {
        "MODEL_PATH": repository({"quick.onnx": onnx_models.identity()}),
        "METRICS_SINKS": "remote_write",
        "REMOTE_WRITE_URL": "http://127.0.0.1:9/",
    }
    with emulated("functions.api.handler", python, **env) as emulator:
        assert [emulator.invoke(PREDICT)["statusCode"] for _ in range(3)] == [200] * 3
        assert emulator.log.count("metrics don't reach remote_write") == 1
