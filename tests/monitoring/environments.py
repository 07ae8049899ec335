"""A function's environment that tells a store of its requests."""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from inferry.observability.registry import Metrics
from inferry.observability.sinks.pusher import Pusher
from inferry.observability.sinks.remote_write import RemoteWrite
from inferry.observability.stats import Timings, reason_of
from inferry.settings import Settings

# The error that a request fails with, or the seconds that it takes.
Outcome: TypeAlias = Exception | float


class Request(NamedTuple):
    """When it was pushed, what it was for, why it failed, and the seconds that it took."""

    at: float
    model: str
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Environment:
    """A function's environment, whose clock is made up; it may push to a second store."""

    url: str
    now: float
    job: str = "functions"
    second: str = ""
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        urls = {"remote_write": self.url} | ({"second": self.second} if self.second else {})
        self.sinks = {name: self._sink(url) for name, url in urls.items()}
        self.pusher = Pusher(self.metrics, self.sinks, interval=1, timeout=5)
        self.metrics.cold_start(0.25)

    def _sink(self, url: str) -> RemoteWrite:
        settings = Settings(remote_write_url=url, app_name=self.job)
        return RemoteWrite(settings, {}, clock=lambda: self.now)

    def request(self, model: str, outcome: Outcome) -> Request:
        stats = self.metrics.model(model, "1")
        stats.in_flight += 1
        if isinstance(outcome, Exception):
            stats.failed(outcome, 1)
            return Request(self.now, model, reason_of(outcome))
        stats.succeeded(Timings(infer=int(outcome * 1e9)), 1, 1)
        return Request(self.now, model, "", outcome)
