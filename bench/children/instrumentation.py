"""What is counted for one request, and what a push of 34 series takes: instrumentation.py N [URL].

Prints `{"request": [seconds]}`, or with the URL of a store's remote-write endpoint `{"push": [seconds]}`.
"""

import json
import os
import sys
import time

from inferry.metrics import Metrics
from inferry.pushing import Pusher, open_pusher
from inferry.settings import Settings
from inferry.stats import Timings

WARM_UP = 50
# One clock read costs about as much as what is measured: it is divided by these.
AT_A_TIME = 1_000
SERIES = 34


def requests(count: int) -> list[float]:
    """What a request of a loaded model adds to the counts, adding them up included."""
    metrics = Metrics()
    stats = metrics.model("digits", "2")
    timings = Timings(20_000, 0, 8_000, 11_000)
    samples = []
    for _ in range(count // AT_A_TIME):
        start = time.perf_counter()
        for _ in range(AT_A_TIME):
            metrics.cache_hits += 1
            stats.in_flight += 1
            stats.succeeded(timings, 1, 300, 200)
        samples.append((time.perf_counter() - start) / AT_A_TIME)
    return samples


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
    count = int(sys.argv[1])
    found = {"push": pushes(count, sys.argv[2])} if len(sys.argv) > 2 else {"request": requests(count)}
    print(json.dumps(found))
