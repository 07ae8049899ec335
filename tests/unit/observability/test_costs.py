"""What metrics.md says of series, samples and their price."""

import re
import time
from pathlib import Path

from inferry.observability import catalogue
from inferry.observability.registry import Gauge, Metrics, samples
from inferry.observability.sinks import prometheus
from inferry.observability.sinks.series import SeriesLog
from inferry.observability.stats import Timings

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
# USD, Amazon Managed Service for Prometheus, us-east-1, its first two billion samples of a month.
SAMPLE = 0.90 / 10e6


class Function:
    """An environment of a function, and what it tells a store."""

    def __init__(self, models: int) -> None:
        self.names = [f"m{number}" for number in range(models)]
        self.metrics = Metrics()
        self.metrics.cold_start(0.3)
        self.metrics.watch(lambda: [Gauge(catalogue.LOADED_BYTES, (name, "1", "plain"), 1234) for name in self.names])
        self.metrics.watch(lambda: [Gauge(catalogue.QUEUED, (name, "1"), 0) for name in self.names])
        for name in self.names:
            self.metrics.loaded(name, "1", 0.01)
        self.log = SeriesLog("function")
        self.at = int(time.time() * 1000)

    def push(self) -> int:
        """The samples of a push after a request to each model, a quarter of a minute later."""
        self.at += 15_000
        for name in self.names:
            stats = self.metrics.model(name, "1")
            stats.in_flight += 1
            # The moment is a series as well.
            ended = time.perf_counter_ns() + self.at * 1_000_000 - time.time_ns()
            stats.succeeded(Timings(61_234, 0, 32_123, 18_432), 1, ended, 293, 205)
            self.metrics.cache_hits += 1
            self.metrics.responses["POST", "/v2/models/{model}/infer", 200] += 1
        size = 0
        for batch in self.log.changes(self.metrics.collect(), self.at):
            self.log.taken(batch)
            size += batch.size
        self.metrics.flushed("amp")
        return size

    def counts(self) -> dict[str, int]:
        """The rows of the page's table."""
        first = self.push()
        self.push()  # the first one's flush is a series of its own
        again = self.push()
        end = sum(batch.size for batch in self.log.farewell(self.at))
        page = sum(len(list(samples(family))) for family in prometheus.families(self.metrics))
        series = len({key for batch in self.log.farewell(self.at) for key in batch.acknowledged})
        return {
            "samples of a scrape": page,
            "series that a process pushes": series,
            "samples of its first push": first,
            "samples of each further push": again,
            "samples at its end": end,
        }


def test_series_and_samples() -> None:
    rows = re.findall(r"^\| (\w[\w ]+) \| (\d+) \| (\d+) \|$", PAGE, re.M)
    said = {name: (int(one), int(further)) for name, one, further in rows if "samples" in name or "series" in name}
    one, two = Function(1).counts(), Function(2).counts()
    assert said == {name: (count, two[name] - count) for name, count in one.items()}


def test_the_price_of_a_million_invocations() -> None:
    rows = re.findall(r"^\| ([\w, ]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.M)
    said = {name: (float(samples), float(price)) for name, samples, price in rows if "invocation" in name}
    count = Function(1).counts()
    first, again, end = (
        count[name] for name in ("samples of its first push", "samples of each further push", "samples at its end")
    )
    expected = {
        "one invocation": float(first + end),
        "ten invocations within an interval": (first + again + end) / 10,
        "600 invocations, one each second": (first + 40 * again + end) / 600,
    }
    assert said == {name: (round(samples, 1), round(samples * SAMPLE * 1e6, 2)) for name, samples in expected.items()}
