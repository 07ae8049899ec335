"""Metrics of the app: pushed by a thread of the worker while it lives, and scraped with a key."""

import time
from collections.abc import Callable
from pathlib import Path

import onnx_models
from servers import serving, tensor
from timeseries import prometheus


def test_pushes(repository: Callable[..., str], tmp_path: Path) -> None:
    folder = repository({"quick.onnx": onnx_models.identity()})
    with prometheus(tmp_path) as store:
        env = {
            "METRICS_SINKS": "prometheus,remote_write",
            "METRICS_INTERVAL": "0.2",
            "REMOTE_WRITE_URL": store.write_url,
        }
        with serving(folder, **env) as server:
            for _ in range(10):
                assert server.infer("quick", tensor("x", "FP32", [1, 3], [1, 2, 3])).status == 200
            assert b'\ninferry_requests_total{model="quick",version="1"} 10\n' in server.ask("GET", "/metrics").body
            deadline = time.monotonic() + 10
            totals = 'sum(max_over_time(inferry_requests_total{model="quick"}[5m]))'
            while store.numbers(totals) != {(): 10} and time.monotonic() < deadline:
                time.sleep(0.1)
            assert store.numbers(totals) == {(): 10}
        assert store.numbers("sum(max_over_time(inferry_cold_starts_total[5m]))") == {(): 1}
        seconds = store.numbers("sum(max_over_time(inferry_init_seconds_total[5m]))")[()]
        assert 0 < seconds < 60
