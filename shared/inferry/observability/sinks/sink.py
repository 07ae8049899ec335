"""Where the metrics go: a module per sink, imported when METRICS_SINKS names it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol

from inferry.errors import InvalidSettings
from inferry.observability.registry import Family
from inferry.settings import Settings

# Served by GET /metrics; the others are pushed.
PROMETHEUS = "prometheus"

PUSHED = {
    "otlp": "inferry.observability.sinks.otlp:OTLP",
    "emf": "inferry.observability.sinks.emf:EMF",
    "remote_write": "inferry.observability.sinks.remote_write:RemoteWrite",
    "amp": "inferry.observability.sinks.amp:ManagedPrometheus",
    "azure_monitor": "inferry.observability.sinks.azure_monitor:AzureMonitor",
}


class PushFailed(Exception):
    """Nothing of a push arrived, or nobody knows; `dropped` of its samples won't be sent again."""

    def __init__(self, reason: str, dropped: int = 0) -> None:
        super().__init__(reason)
        self.dropped = dropped


class Sink(Protocol):
    """A place that metrics are pushed to. One thread at a time calls it, and nothing that it raises reaches a request.

    It is made from the settings and the environment, and raises InvalidSettings where they don't fit.
    `immediate`: a push is so cheap that a function does it before its response is sent.
    """

    immediate: bool

    def push(self, families: Sequence[Family], deadline: float) -> None:
        """Sends what the store doesn't know, until `deadline` (time.monotonic). PushFailed."""

    def close(self, deadline: float) -> None:
        """The process ends, after its last push. PushFailed."""

    def renew(self) -> None:
        """The process was started from the memory of another one: it must not pass for that one."""


def open_sinks(settings: Settings, env: Mapping[str, str]) -> dict[str, Sink]:
    """The sinks of METRICS_SINKS that are pushed to, by name. InvalidSettings names what is wrong."""
    names = list(dict.fromkeys(settings.metrics_sinks)) if settings.enable_metrics else []
    for name in names:
        if name != PROMETHEUS and name not in PUSHED:
            known = ", ".join((PROMETHEUS, *PUSHED))
            raise InvalidSettings(f"METRICS_SINKS names {name!r}, which is none of {known}")
    return {name: _open(PUSHED[name], settings, env) for name in names if name in PUSHED}


def _open(path: str, settings: Settings, env: Mapping[str, str]) -> Sink:
    module, _, name = path.partition(":")
    sink: Sink = getattr(import_module(module), name)(settings, env)
    return sink


def is_served(settings: Settings) -> bool:
    """Whether GET /metrics serves the metrics: ENABLE_METRICS is on, and `prometheus` among METRICS_SINKS."""
    return settings.enable_metrics and PROMETHEUS in settings.metrics_sinks
