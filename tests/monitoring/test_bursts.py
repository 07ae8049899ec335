"""Twenty minutes of bursts to functions that idle in between, in a real Prometheus: nothing rings but what is broken.

The clock is made up, so it takes seconds: the alerts are asked for all of this time at once, and what they wait for
(`for`) is counted here. `python tests/monitoring/test_bursts.py` runs it in real time, with Prometheus' own alerts.
"""

import json
import random
import re
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
from contract.gate import gate
from contract.timeseries import Store, prometheus
from environments import Environment, Outcome
from files import RULES, expression, rules
from inferry import errors

STEP = 15
SECONDS = 20 * 60
PAUSE = 240
HEALTHY: Mapping[str, list[Outcome]] = {"digits": [0.002] * 3}
BROKEN: Mapping[str, list[Outcome]] = {
    "broken": [0.002, errors.InferenceFailed()],
    "odd": [0.002, errors.InvalidArgument(), errors.InvalidArgument(), errors.InvalidArgument()],
}
RINGING = {
    "InferryErrorRate",
    "InferryBudgetBurnsFast",
    "InferryBudgetBurnsSlowly",
    "InferryModelRefusesInput",
    "InferryMetricsDropped",
    "InferryMetricsDoNotArrive",
}


def bursts(environment: Callable[[str], Environment], until: Callable[[float], float], start: float) -> None:
    """Two functions at a time are started, asked for half a minute, and gone; one of 25 requests fails, or is slow. The
    first pushes are refused.

    Meanwhile another function is asked all the time: one of its models fails, one refuses its input, and one of its two
    stores refuses all pushes.
    """
    dice = random.Random(9)
    broken = environment("broken")
    for moment in range(0, SECONDS, 10):
        if moment % PAUSE == 0:
            functions = [environment("functions") for _ in range(2)]
        now = until(start + moment)
        push(broken, now, BROKEN)
        if moment % PAUSE < 40:
            for function in functions:
                push(function, now + dice.random(), HEALTHY)
        if moment % PAUSE == 20:
            push(functions[0], now + 2, {"digits": [errors.InferenceFailed() if moment % 480 < PAUSE else 2.0]})
        if moment % PAUSE == 40:
            for function in functions:
                function.now = now + 3
                function.pusher.close()
    broken.pusher.close()


def push(environment: Environment, now: float, requests: Mapping[str, list[Outcome]]) -> None:
    environment.now = now
    for model, outcomes in requests.items():
        for outcome in outcomes:
            environment.request(model, outcome)
    environment.pusher.push()


@contextmanager
def stores(folder: Path, *targets: Any) -> Iterator[tuple[Store, Callable[[str], Environment]]]:
    """A Prometheus, and what makes environments of a job that push to it; those of "broken" to another one as well."""
    with prometheus(folder, *targets) as store, gate() as refusing, gate(store.write_url) as between:
        refusing.fate = lambda: 403
        refusals = iter((403, 403, 503))
        between.fate = lambda: next(refusals, "pass")

        def environment(job: str) -> Environment:
            if job == "broken":
                return Environment(store.write_url, time.time(), job, refusing.url)
            return Environment(between.url, time.time(), job)

        yield store, environment


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, float]]:
    with stores(tmp_path_factory.mktemp("bursts")) as (store, environment):
        start = time.time() - SECONDS - 60
        bursts(environment, lambda at: at, start)
        yield store, start


@pytest.mark.parametrize("alert", rules("alert"))
def test_only_what_is_broken_rings(told: tuple[Store, float], alert: str) -> None:
    store, start = told
    rule = rules("alert")[alert]
    assert firing(store, rule, start) == ({"broken"} if alert in RINGING else set())


def firing(store: Store, rule: dict[str, Any], start: float) -> set[str]:
    """The jobs for which the rule's expression was true for as long as it waits."""
    asked = {"query": expression(rule), "start": start, "end": start + SECONDS, "step": STEP}
    with urllib.request.urlopen(
        f"{store.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}", timeout=30
    ) as answer:
        series = json.load(answer)["data"]["result"]
    waits = int(re.sub("m$", "", rule.get("for", "0m"))) * 60 // STEP
    return {one["metric"]["job"] for one in series if longest(one["values"]) > waits}


def longest(values: list[tuple[float, str]]) -> int:
    """The most steps that followed on each other."""
    most = run = 0
    before = 0.0
    for at, _ in values:
        run = run + 1 if at - before == STEP else 1
        most, before = max(most, run), at
    return most


def in_real_time() -> None:
    """Prints what rang, and when for the first time."""
    rang: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder, stores(Path(folder), [], RULES) as (store, environment):
        start = time.time()

        def until(at: float) -> float:
            while time.time() < at:
                time.sleep(max(0, min(1, at - time.time())))
            with urllib.request.urlopen(f"{store.url}/api/v1/alerts", timeout=10) as answer:
                for alert in json.load(answer)["data"]["alerts"]:
                    if alert["state"] == "firing":
                        rang.setdefault((alert["labels"]["job"], alert["labels"]["alertname"]), time.time() - start)
            return time.time()

        bursts(environment, until, start)
    for (job, name), after in sorted(rang.items()):
        print(f"{job}: {name} after {after:.0f} s")
    assert {name for job, name in rang if job == "broken"} == RINGING
    assert not {name for job, name in rang if job != "broken"}


if __name__ == "__main__":
    in_real_time()
