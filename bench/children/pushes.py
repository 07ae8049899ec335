"""What a push of 34 series takes: pushes.py N URL, of a store's remote-write endpoint.

Prints `{"push": [seconds]}`.
"""

import json
import os
import sys
import time

from inferry.observability.registry import Metrics
from inferry.observability.sinks.pusher import Pusher, open_pusher
from inferry.settings import Settings

WARM_UP = 50
SERIES = 34


def pushes(count: int, url: str) -> list[float]:
    """Pushes of as many series as change: one of each model, and the count of pushes itself."""
    metrics = Metrics()
    settings = Settings(metrics_sinks=("remote_write",), remote_write_url=url)
    pusher = open_pusher(settings, metrics, os.environ)
    assert isinstance(pusher, Pusher)
    samples = []
    for _ in range(WARM_UP + count):
        for number in range(SERIES - 1):
            metrics.job_rows(f"model-{number}", "1", 1)
        start = time.perf_counter()
        pusher.push()
        samples.append(time.perf_counter() - start)
    pusher.close()
    if any(family.metric.name == "inferry_metric_flush_failures_total" for family in metrics.collect()):
        raise SystemExit("the store did not take every push")
    return samples[WARM_UP:]


if __name__ == "__main__":
    print(json.dumps({"push": pushes(int(sys.argv[1]), sys.argv[2])}))
