"""The pusher: when it pushes, what it counts and logs of failures, and what a process from another's memory is."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest
from inferry.errors import InvalidSettings
from inferry.observability.registry import Family, Metrics
from inferry.observability.sinks.pusher import Pusher, open_pusher, process_age
from inferry.observability.sinks.sink import PUSHED, PushFailed
from inferry.settings import Settings


class Recorder:
    """A sink that keeps what happens to it, and fails as `failure` says."""

    def __init__(self, immediate: bool = False) -> None:
        self.immediate = immediate
        self.happened: list[str] = []
        self.failure: Exception | None = None
        self.pushed = threading.Event()

    def push(self, families: Sequence[Family], deadline: float) -> None:
        self.happened.append("push")
        self.pushed.set()
        if self.failure:
            raise self.failure

    def close(self, deadline: float) -> None:
        self.happened.append("close")

    def renew(self) -> None:
        self.happened.append("renew")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def pusher(metrics: Metrics, **sinks: Recorder) -> Pusher:
    return Pusher(metrics, sinks, interval=0.01, timeout=1)


def counts(metrics: Metrics) -> dict[str, dict[tuple[str, ...], object]]:
    """What the pushes counted."""
    families = (family for family in metrics.collect() if family.metric.labels == ("sink",))
    return {family.metric.name.removeprefix("inferry_metric_"): dict(family.series) for family in families}


def test_the_sinks_before_an_answer_and_those_after_it(metrics: Metrics) -> None:
    before, after = Recorder(immediate=True), Recorder()
    both = pusher(metrics, before=before, after=after)
    both.push(immediate=True)
    both.push(immediate=False)
    both.push()
    assert (before.happened, after.happened) == (["push"] * 2, ["push"] * 2)
    assert counts(metrics) == {"flushes_total": {("before",): 2, ("after",): 2}}
    assert both.waits
    assert not pusher(metrics, before=before).waits


def test_what_waits_is_pushed_once_in_an_interval(metrics: Metrics) -> None:
    before, after = Recorder(immediate=True), Recorder()
    often = pusher(metrics, before=before, after=after)
    seldom = Pusher(metrics, {"before": before, "after": after}, interval=600, timeout=1)
    for _ in range(3):
        seldom.push_what_waits()
    assert (before.happened, after.happened) == ([], ["push"])
    often.push_what_waits()
    time.sleep(0.02)
    often.push_what_waits()
    assert after.happened == ["push"] * 3
    seldom.renew()  # another process, which has said nothing yet
    seldom.push_what_waits()
    assert after.happened == ["push"] * 3 + ["renew", "push"]
    seldom.close()
    assert after.happened[5:] == ["push", "close"]


FAILURES: dict[str, tuple[Exception, int, bool]] = {
    "kept": (PushFailed("it is busy"), 0, False),
    "dropped": (PushFailed("it refuses", dropped=7), 7, False),
    "a bug": (ZeroDivisionError("a bug"), 0, True),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_counted_and_logged_once(metrics: Metrics, caplog: pytest.LogCaptureFixture, name: str) -> None:
    failure, dropped, has_traceback = FAILURES[name]
    caplog.set_level(logging.INFO, "inferry")
    sink, other = Recorder(), Recorder()
    both = pusher(metrics, sink=sink, other=other)
    sink.failure = failure
    for _ in range(3):
        both.push()
    sink.failure = None
    both.push()
    assert counts(metrics) == {
        "flushes_total": {("sink",): 1, ("other",): 4},
        "flush_failures_total": {("sink",): 3},
        "samples_dropped_total": {("sink",): 3 * dropped},
    }
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"metrics don't reach sink: {failure}"),
        ("INFO", "metrics reach sink again"),
    ]
    assert bool(caplog.records[0].exc_info) == has_traceback


def test_the_thread_pushes_until_the_end(metrics: Metrics) -> None:
    sink = Recorder()
    running = pusher(metrics, sink=sink).start()
    assert sink.pushed.wait(5)
    running.close()
    happened = list(sink.happened)
    assert happened[-2:] == ["push", "close"]
    assert set(happened[:-1]) == {"push"}
    running._thread.join(5)  # type: ignore[union-attr]
    assert sink.happened == happened


def test_what_comes_from_the_memory_of_another_process(metrics: Metrics) -> None:
    sink = Recorder()
    metrics.cold_start(1)
    one = pusher(metrics, sink=sink)
    one.push()
    one.renew()
    assert sink.happened == ["push", "renew"]
    assert counts(metrics) == {}
    one.push()
    assert counts(metrics) == {"flushes_total": {("sink",): 1}}


FORK = """
import os, sys, time
from inferry.observability.registry import Metrics
from inferry.observability.sinks.pusher import Pusher

class Sink:
    immediate = False
    pushes = renewed = 0
    def push(self, families, deadline):
        self.pushes += 1
    def close(self, deadline):
        pass
    def renew(self):
        self.renewed += 1
        self.pushes = 0

sink, metrics = Sink(), Metrics()
pusher = Pusher(metrics, {"sink": sink}, interval=0.01, timeout=1).start()
metrics.cold_start(1)
pusher._lock.acquire()  # by a thread that is not there in the child
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
until = time.monotonic() + 5
while not sink.pushes and time.monotonic() < until:
    time.sleep(0.01)
starts = next(f for f in metrics.collect() if f.metric.name == "inferry_cold_starts_total").series[()]
os._exit(0 if (sink.renewed, starts, sink.pushes > 0) == (1, 0, True) else 1)
"""


def test_a_forked_child_is_a_process_of_its_own() -> None:
    """With nothing counted, another instance, and a thread that pushes."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=30)


def test_without_a_sink_that_is_pushed_there_is_no_pusher(metrics: Metrics) -> None:
    assert open_pusher(Settings(), metrics, {}) is None
    assert open_pusher(Settings(metrics_sinks=()), metrics, {}) is None
    assert open_pusher(Settings(enable_metrics=False, metrics_sinks=("remote_write",)), metrics, {}) is None


def test_a_sink_that_there_is_not(metrics: Metrics) -> None:
    known = ", ".join(("prometheus", *PUSHED))
    with pytest.raises(InvalidSettings, match=f"METRICS_SINKS names 'statsd', which is none of {known}"):
        open_pusher(Settings(metrics_sinks=("statsd",)), metrics, {})


def test_the_age_of_a_process() -> None:
    script = (
        "import time; from inferry.observability.sinks.pusher import process_age; time.sleep(0.5); print(process_age())"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert 0.5 < float(done.stdout) < 30
    assert process_age() > 0.5
