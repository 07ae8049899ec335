"""The rules' expressions in every store, over functions that come and go, against counts that the test keeps itself."""

import random
import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pytest
from contract.timeseries import ALL_STORES, Store, eventually
from environments import Environment, Outcome, Request
from files import ROOT, expression, rules
from inferry import errors
from inferry.observability.catalogue import SECONDS

HOURS = 6.5
# The seconds between two pushes of an environment.
PAUSES = (0.3, 5, 20, 55, 65, 130, 310, 500, 900, 2400)
# Of ten requests to each model: errors that they fail with, or the seconds that they take.
MODELS: dict[str, list[Outcome]] = {
    "digits": [0.002] * 9 + [errors.InvalidRequest()],
    "broken": [0.002] * 7 + [errors.InferenceFailed(), errors.InferenceTimeout(), errors.QueueFull()],
    "odd": [0.002] * 2 + [errors.InvalidArgument()] * 8,
    "slow": [*[0.002] * 7, *[2.0] * 3],
}
CALLERS = ("invalid", "invalid_argument", "denied", "not_found", "canceled")
RINGING = {
    ("InferryErrorRate", "broken"),
    ("InferryBudgetBurnsFast", "broken"),
    ("InferryBudgetBurnsSlowly", "broken"),
    ("InferryModelRefusesInput", "odd"),
    ("InferrySlow", "slow"),
}


@dataclass
class History:
    """What was asked of functions in some hours, told by themselves."""

    requests: list[Request]
    end: float

    def last(self, seconds: float) -> list[Request]:
        return [request for request in self.requests if self.end - seconds < request.at <= self.end]

    def rates(self) -> dict[tuple[str, ...], float]:
        return {key: n / 300 for key, n in Counter(("functions", r.model) for r in self.last(300)).items()}

    def failure_rates(self) -> dict[tuple[str, ...], float]:
        found = Counter(("functions", r.model, r.reason) for r in self.last(300) if r.reason)
        return {key: n / 300 for key, n in found.items()}

    def ratios(self, seconds: float) -> dict[tuple[str, ...], float]:
        asked = Counter(r.model for r in self.last(seconds))
        failed = Counter(r.model for r in self.last(seconds) if r.reason and r.reason not in CALLERS)
        return {("functions", model): failed[model] / n for model, n in asked.items()}

    def quantiles(self, quantile: float) -> dict[tuple[str, ...], float]:
        """As Prometheus has it: as if those of a bucket were evenly spread. It doesn't know of the empty ones below the
        first, which nobody told it of."""
        found: dict[tuple[str, ...], float] = {}
        for model in MODELS:
            taken = [r.seconds for r in self.last(300) if r.model == model and not r.reason]
            buckets = Counter(bisect_left(SECONDS, seconds) for seconds in taken)
            rank, below = quantile * len(taken), 0
            for number, count in sorted(buckets.items()):
                low = SECONDS[number - 1] if below else 0.0
                if below + count >= rank:
                    found["functions", model] = low + (SECONDS[number] - low) * (rank - below) / count
                    break
                below += count
        return found


def run(store: Store, dice: random.Random) -> History:
    """Environments live for minutes to hours, at any time, and most in the last minutes; some are silent for long."""
    start = time.time() - HOURS * 3600
    events: list[tuple[float, int]] = []
    begins = [start + dice.uniform(0, HOURS * 3600 - 900) for _ in range(80)]
    begins += [start + HOURS * 3600 - dice.uniform(200, 1000) for _ in range(40)]
    for number, begin in enumerate(begins):
        events += [(at, number) for at in accumulate((dice.choice(PAUSES) for _ in range(8)), initial=begin)]
    environments: dict[int, Environment] = {}
    requests = []
    end = start + HOURS * 3600
    for at, number in sorted(event for event in events if event[0] < end):
        environment = environments.setdefault(number, Environment(store.write_url, at))
        environment.now = at
        for model, outcomes in MODELS.items():
            if dice.random() < 0.7:
                requests += [environment.request(model, dice.choice(outcomes)) for _ in range(dice.randint(1, 5))]
        environment.pusher.push()
    for environment in environments.values():
        environment.sinks["remote_write"]._poster.close()
    return History(requests, end)


@pytest.fixture(scope="module", params=ALL_STORES)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, History]]:
    with ALL_STORES[request.param](tmp_path_factory.mktemp("store")) as store:
        history = run(store, random.Random(5))
        total = "sum(max_over_time(inferry_requests_total[7h]))"
        eventually(lambda: store.numbers(total, history.end), {(): len(history.requests)})
        yield store, history


EXPECTED: dict[str, Any] = {
    "job_model:inferry_requests:rate5m": History.rates,
    "job_model:inferry_request_failures:rate5m": History.failure_rates,
    "job_model:inferry_request_duration_seconds:p50_5m": lambda history: history.quantiles(0.5),
    "job_model:inferry_request_duration_seconds:p99_5m": lambda history: history.quantiles(0.99),
    "job:inferry_requests:increase15m": lambda history: {("functions",): len(history.last(900))},
    "job_model:inferry_server_failures:ratio5m": lambda history: history.ratios(300),
    "job_model:inferry_server_failures:ratio30m": lambda history: history.ratios(1800),
    "job_model:inferry_server_failures:ratio1h": lambda history: history.ratios(3600),
    "job_model:inferry_server_failures:ratio6h": lambda history: history.ratios(21600),
}


def test_every_rule_has_its_counts() -> None:
    assert EXPECTED.keys() == rules("record").keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded(told: tuple[Store, History], name: str) -> None:
    """VictoriaMetrics has what was counted; Prometheus guesses what happened at a window's ends, a fifth at most."""
    store, history = told
    found = store.numbers(expression(rules("record")[name]), history.end)
    expected = EXPECTED[name](history)
    if not store.flush_path:  # a failure that no function had since is a zero in one store, and nothing in another
        assert found == pytest.approx(found | expected, rel=0.2, abs=1e-12)
        return
    assert {key: value for key, value in found.items() if value} == pytest.approx(
        {key: value for key, value in expected.items() if value}, rel=1e-6
    )


def test_totals_of_a_time(told: tuple[Store, History]) -> None:
    """The query of docs/metrics.md is exact in every store; the shorter one counts what came before the time, too."""
    store, history = told
    (query,) = re.findall(r"```text\n(sum.*?)```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)
    day = query.replace("_total[1d]", "_total[2h]").replace("offset 1d", "offset 2h")
    counted = {(): len(history.last(7200))}
    assert store.numbers(day, history.end) == counted
    assert store.numbers("sum(max_over_time(inferry_requests_total[2h]))", history.end)[()] > counted[()]


@pytest.mark.parametrize("alert", rules("alert"))
def test_alerts(told: tuple[Store, History], alert: str) -> None:
    store, history = told
    found = {
        (alert, item["metric"].get("model", "")) for item in store.query(expression(rules("alert")[alert]), history.end)
    }
    assert found == {pair for pair in RINGING if pair[0] == alert}
