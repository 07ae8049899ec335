"""Remote write into real stores: the totals are those of the functions, whatever gets lost on the way."""

import email.utils
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gate import Fate, Gate, gate
from inferry.errors import InvalidSettings
from inferry.observability.registry import Metrics
from inferry.observability.sinks.pusher import Pusher
from inferry.observability.sinks.remote_write import RemoteWrite
from inferry.observability.sinks.series import MOST
from inferry.observability.sinks.sink import PushFailed
from inferry.observability.stats import Timings
from inferry.settings import Settings
from timeseries import STORES, Store, eventually

MODELS = ("digits", "iris")
# How often an environment is asked to push until it is gone.
MAX_FLUSHES = 20


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with STORES[request.param](tmp_path) as store:
        yield store


@dataclass
class Environment:
    """A function's environment of which only the clock is made up."""

    url: str
    now: float
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        settings = Settings(remote_write_url=self.url)
        self.sink = RemoteWrite(settings, {}, clock=lambda: self.now)
        self.pusher = Pusher(self.metrics, {"remote_write": self.sink}, interval=1, timeout=5)
        self.metrics.cold_start(0.25)

    def close(self) -> None:
        """Its connection, without a word to the store."""
        self.sink._poster.close()

    def predict(self, model: str, rows: int) -> None:
        stats = self.metrics.model(model, "1")
        stats.in_flight += 1
        stats.succeeded(Timings(infer=2_000_000), rows, 1)


Make = Callable[[str, float], Environment]


@pytest.fixture
def environments() -> Iterator[Make]:
    """`environments(url, now)` makes one that is closed at the end of the test."""
    with ExitStack() as stack:

        def make(url: str, now: float) -> Environment:
            environment = Environment(url, now)
            stack.callback(environment.close)
            return environment

        yield make


def totals(store: Store, name: str, at: float) -> dict[tuple[str, ...], float]:
    return store.numbers(f"sum by (model) (max_over_time({name}[1h]))", at)


@dataclass
class Simulation:
    """Environments that begin, predict and push at their own times, in the order of these times."""

    url: str
    dice: random.Random
    requests: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    environments: list[Environment] = field(default_factory=list)

    def run(self, count: int, start: float, gate: Gate | None = None, fates: tuple[int | str, ...] = ()) -> float:
        """The time at the end; before each environment's last flush, some flushes meet one of the `fates`."""
        events = []
        for number in range(count):
            flushes = self.dice.randint(1, MAX_FLUSHES)
            begin = start + self.dice.uniform(0, 600)
            self.environments.append(Environment(self.url, begin))
            times = (begin + flush * self.dice.uniform(0.5, 20) for flush in range(flushes))
            events += [(at, number, flush == flushes - 1) for flush, at in enumerate(sorted(times))]
        first = len(self.environments) - count
        for at, number, is_last in sorted(events):
            if gate is not None:
                is_lost = not is_last and self.dice.random() < 0.3
                fate = self.dice.choice(fates) if is_lost else "pass"
                gate.fate = lambda fate=fate: fate  # type: ignore[misc]
            self._invoke(self.environments[first + number], at, is_last)
        return max(at for at, _, _ in events)

    def _invoke(self, environment: Environment, at: float, is_last: bool) -> None:
        environment.now = at
        for _ in range(self.dice.randint(1, 5)):
            model, rows = self.dice.choice(MODELS), self.dice.randint(1, 9)
            environment.predict(model, rows)
            self.requests[model] += 1
            self.rows[model] += rows
        environment.pusher.push()
        if is_last:
            environment.now = at + 0.001
            environment.pusher.close()

    def check(self, store: Store, at: float) -> None:
        """The store's totals are the simulation's, and no counter went back."""
        # On a busy machine VictoriaMetrics may find a new series only a moment after its flush.
        cold_starts = "sum(max_over_time(inferry_cold_starts_total[1h]))"
        eventually(lambda: store.numbers(cold_starts, at), {(): len(self.environments)})
        assert totals(store, "inferry_requests_total", at) == {(model,): n for model, n in self.requests.items()}
        assert totals(store, "inferry_rows_total", at) == {(model,): n for model, n in self.rows.items()}
        histogram = totals(store, "inferry_request_duration_seconds_count", at)
        assert histogram == {(model,): n for model, n in self.requests.items()}
        for name in ("requests_total", "request_duration_seconds_bucket", "metric_flushes_total"):
            assert store.numbers(f"sum(resets(inferry_{name}[1h]))", at) == {(): 0}, name


LOSSES: tuple[int | str, ...] = (429, 500, 503, "cut", "lost", 400)


@pytest.mark.parametrize("fates", [(), LOSSES], ids=["nothing is lost", "a third of the flushes is lost"])
def test_sixty_environments(store: Store, fates: tuple[int | str, ...]) -> None:
    with gate(store.write_url) as between:
        simulation = Simulation(between.url, random.Random(7))
        start = time.time() - 1800
        end = simulation.run(60, start, between if fates else None, fates)
        simulation.check(store, end + 1)
        # The environments said that they ended.
        assert store.query("inferry_requests_total", end + 1) == []
        failures = sum(value for e in simulation.environments for value in failed_flushes(e.metrics))
        assert (failures > 0) == bool(fates)


def failed_flushes(metrics: Metrics) -> list[float]:
    return [
        value
        for family in metrics.collect()
        if family.metric.name == "inferry_metric_flush_failures_total"
        for value in family.series.values()
        if isinstance(value, float | int)
    ]


def test_rates_are_exact_where_the_store_does_not_guess(tmp_path: Path) -> None:
    """VictoriaMetrics extrapolates nothing: every increase is there, those before a first push as well."""
    with STORES["victoria"](tmp_path) as store:
        simulation = Simulation(store.write_url, random.Random(11))
        end = simulation.run(30, time.time() - 1800)
        increase = store.numbers("sum by (model) (increase(inferry_requests_total[1h]))", end + 1)
        assert increase == {(model,): n for model, n in simulation.requests.items()}


def test_rates_of_what_prometheus_saw_once(tmp_path: Path, environments: Make) -> None:
    """A first push, and one of a series that was silent for longer than a window: the value before is told as well.

    Prometheus extrapolates from five intervals by half of one at each end, but not below zero.
    """
    with STORES["prometheus"](tmp_path) as store:
        start = time.time() - 1800
        environment = environments(store.write_url, start)
        environment.predict("digits", 100)
        environment.pusher.push()
        environment.now = start + 1200
        environment.predict("digits", 100)
        environment.pusher.push()
        increase = 'increase(inferry_rows_total{model="digits"}[5m])'
        first, second = (store.query(increase, start + after)[0]["value"][1] for after in (1, 1201))
        assert [float(first), float(second)] == pytest.approx([110, 120])


def test_a_gauge_that_does_not_change_is_told_again(store: Store, environments: Make) -> None:
    start = time.time() - 1800
    environment = environments(store.write_url, start)
    for _ in range(40):
        environment.now += 15
        environment.pusher.push()
    assert len(store.query("inferry_build_info", environment.now + 1)) == 1


def test_a_store_that_restarts(store: Store, environments: Make) -> None:
    """What was pushed meanwhile arrives later; nothing comes twice."""
    simulation = Simulation(store.write_url, random.Random(3))
    start = time.time() - 600
    running = [environments(store.write_url, start) for _ in range(10)]
    simulation.environments = running
    for minute in range(9):
        if minute == 3:
            store.stop()
        if minute == 6:
            store.start()
        for environment in running:
            environment.now = start + 60 * minute
            environment.predict("digits", minute + 1)
            simulation.requests["digits"] += 1
            simulation.rows["digits"] += minute + 1
            environment.pusher.push()
    end = start + 60 * 9
    assert {tuple(failed_flushes(environment.metrics)) for environment in running} == {(3,)}
    simulation.check(store, end)
    # The store saw the first value that it missed at its own time.
    known = store.numbers('max(inferry_requests_total{model="digits"})', start + 60 * 3 + 1)
    assert known == {(): 4}


def test_a_process_that_starts_from_the_memory_of_another(store: Store, environments: Make) -> None:
    """Two environments restored from one snapshot: what the snapshot had counted is nobody's."""
    now = time.time() - 600
    environment = environments(store.write_url, now)
    environment.predict("digits", 5)
    environment.pusher.push()
    for _ in range(2):
        environment.pusher.renew()
        environment.metrics.cold_start(0.1)
        environment.predict("digits", 1)
        environment.now += 1
        environment.pusher.push()
    assert totals(store, "inferry_rows_total", environment.now + 1) == {("digits",): 7}
    cold_starts = store.numbers("sum(max_over_time(inferry_cold_starts_total[1h]))", environment.now + 1)
    assert cold_starts == {(): 3}


def test_a_request_of_many_kilobytes(store: Store, environments: Make) -> None:
    environment = environments(store.write_url, time.time() - 60)
    for number in range(200):
        environment.predict(f"model-{number}", number + 1)
    environment.pusher.push()
    rows = totals(store, "inferry_rows_total", environment.now + 1)
    assert rows == {(f"model-{number}",): number + 1 for number in range(200)}


@pytest.mark.parametrize("fates", [(), (403,), ("pass", "pass", 403), ("pass", 503)])
def test_a_push_of_many_samples_is_several_requests(store: Store, environments: Make, fates: tuple[Fate, ...]) -> None:
    """Of some thousand samples each; where one is refused the rest comes with the next push."""
    with gate(store.write_url) as between:
        waiting = iter(fates)
        between.fate = lambda: next(waiting, "pass")
        environment = environments(between.url, time.time() - 60)
        for number in range(200):
            environment.predict(f"model-{number}", number + 1)
        environment.pusher.push()
        environment.now += 1
        environment.pusher.push()
        assert len(between.requests) > 4
        # A sample has 16 bytes at least, and a series begins with six.
        assert max(len(body) for _, _, body in between.requests) < (MOST + 6) * 60
        rows = {(f"model-{number}",): number + 1 for number in range(200)}
        eventually(lambda: totals(store, "inferry_rows_total", environment.now + 1), rows)
        environment.now += 1
        environment.pusher.close()
    eventually(lambda: store.query("inferry_rows_total", environment.now + 1), [])


def test_a_connection_that_the_store_closed_meanwhile() -> None:
    with gate() as store:
        store.fate = lambda: "leave"
        environment = Environment(store.url, time.time())
        for _ in range(3):
            environment.predict("digits", 1)
            environment.pusher.push()
            time.sleep(0.05)
        environment.close()
        assert len(store.requests) == 3
        assert failed_flushes(environment.metrics) == []


AUTHENTICATION: dict[str, tuple[dict[str, Any], str | None]] = {
    "none": ({}, None),
    "basic": ({"remote_write_username": "me", "remote_write_password": "a:b"}, "Basic bWU6YTpi"),
    "bearer": ({"remote_write_token": "abc"}, "Bearer abc"),
}


@pytest.mark.parametrize("name", AUTHENTICATION)
def test_further_headers(name: str) -> None:
    """Of tenants and gateways, beside those of authentication."""
    settings, expected = AUTHENTICATION[name]
    pairs = ("X-Scope-OrgID=shop", "x-key=a=b%2Cc d")
    with gate() as store:
        store.fate = lambda: 204
        sink = RemoteWrite(Settings(remote_write_url=store.url, remote_write_headers=pairs, **settings), {})
        sink.push(Metrics().collect(), time.monotonic() + 5)
        sink._poster.close()
        ((_, headers, _),) = store.requests
    found = (headers["X-Scope-OrgID"], headers["x-key"], headers.get("Authorization"), headers["Content-Encoding"])
    assert found == ("shop", "a=b,c d", expected, "snappy")


@pytest.mark.parametrize(
    "pair",
    [
        "X-Key",
        "=secret",
        "X-Key=",
        "a b=secret",
        "content-type=secret",
        "Host=secret",
        "authorization=secret",
        "X-Amz-Date=secret",
        "X-Key=secret%0Ax: y",
        "X-Key=secret\u00e9",
    ],
)
def test_headers_that_cannot_be(pair: str) -> None:
    with pytest.raises(InvalidSettings, match="REMOTE_WRITE_HEADERS must be NAME=VALUE") as refused:
        RemoteWrite(Settings(remote_write_url="http://127.0.0.1/", remote_write_headers=("A=b", pair)), {})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", AUTHENTICATION)
def test_authentication(name: str) -> None:
    settings, expected = AUTHENTICATION[name]
    with gate() as store:
        store.fate = lambda: 204
        sink = RemoteWrite(Settings(remote_write_url=store.url, **settings), {})
        sink.push(Metrics().collect(), time.monotonic() + 5)
        sink._poster.close()
        ((_, headers, _),) = store.requests
    del headers["Host"], headers["Content-Length"], headers["User-Agent"], headers["Accept-Encoding"]
    assert headers == {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        **({"Authorization": expected} if expected else {}),
    }


@pytest.mark.parametrize("fate", ["lost", 400, 503])
def test_one_push_makes_up_for_another(store: Store, environments: Make, fate: int | str) -> None:
    """Also where the store refuses the batch that was kept, as it had that already."""
    with gate(store.write_url) as between:
        environment = environments(between.url, time.time() - 60)
        for now, happens in ((0, fate), (1, "pass")):
            between.fate = lambda happens=happens: happens  # type: ignore[misc]
            environment.now += now
            environment.predict("digits", 10)
            environment.pusher.push()
    assert totals(store, "inferry_rows_total", environment.now + 1) == {("digits",): 20}


@pytest.mark.parametrize(
    ("fate", "kept"),
    [(408, True), (429, True), (500, True), (503, True), ("cut", True), ("hang", True), (400, False), (404, False)],
)
def test_what_a_store_did_not_take(environments: Make, fate: int | str, kept: bool) -> None:
    """The same bytes again, or dropped and counted."""
    fates = iter((fate, 204, 204))
    with gate() as store:
        store.fate = lambda: next(fates)
        environment = environments(store.url, time.time())
        environment.predict("digits", 10)
        with pytest.raises(PushFailed) as failure:
            environment.sink.push(environment.metrics.collect(), time.monotonic() + 0.3)
        environment.now += 1
        environment.predict("digits", 10)
        environment.sink.push(environment.metrics.collect(), time.monotonic() + 5)
    first, second, *others = [body for _, _, body in store.requests]
    assert (first == second, failure.value.dropped == 0, len(others)) == (kept, kept, int(kept))


REFUSALS: dict[str, tuple[Fate, ...]] = {
    "none": (),
    **{str(status): (status,) for status in (401, 403, 404, 405, 411, 413, 415, 429, 431, 451, 503)},
    "a redirect": ((308, {"Location": "/elsewhere"}),),
    "two": (403, 403),
    "two of two kinds": (503, 404),
    "three": (413, 401, 308),
    "the second": ("pass", 403),
    "the last but one": ("pass", "pass", 401),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_no_increase_is_lost_to_a_refusal(store: Store, environments: Make, name: str) -> None:
    """Pushes that come half a minute apart, or after a silence: each is told with the value before."""
    with gate(store.write_url) as between:
        for apart in (30, 90):
            fates = iter(REFUSALS[name])
            between.fate = lambda fates=fates: next(fates, "pass")  # type: ignore[misc]
            environment = environments(between.url, time.time() - 600)
            for _ in range(4):
                environment.now += apart
                environment.predict(f"apart-{apart}", 10)
                environment.pusher.push()
            check_increase(store, f"apart-{apart}", 40, environment.now + 1)


def check_increase(store: Store, model: str, rows: int, at: float) -> None:
    """VictoriaMetrics has it exactly; Prometheus adds at most a fifth, and takes nothing off."""
    increase = f'sum(increase(inferry_rows_total{{model="{model}"}}[30m]))'
    most = rows if store.flush_path else rows * 1.2
    eventually(lambda: rows <= store.numbers(increase, at).get((), 0) <= most, True)


@pytest.mark.parametrize("happens", ["busy", "gone"])
@pytest.mark.parametrize("known", [0, 10], ids=["a first push", "a later one"])
def test_a_batch_that_was_kept_for_over_an_hour(store: Store, environments: Make, happens: str, known: int) -> None:
    """Prometheus takes nothing that old: its counts come with the next ones."""
    start = time.time() - 5000
    with gate(store.write_url) as between:
        environment = environments(between.url if happens == "busy" else store.write_url, start)
        if known:
            environment.predict("digits", known)
            environment.pusher.push()
        environment.now += 10
        environment.predict("digits", 10)
        between.fate = lambda: 503
        if happens == "gone":
            store.stop()
        environment.pusher.push()
        assert environment.sink._kept is not None
        if happens == "gone":
            store.start()
        between.fate = lambda: "pass"
        busy = environments(store.write_url, start + 4900)
        busy.predict("busy", 1)
        busy.pusher.push()
        environment.now = start + 4910
        environment.predict("digits", 10)
        environment.pusher.push()
    check_increase(store, "digits", 20, environment.now + 1)
    assert totals(store, "inferry_rows_total", environment.now + 1)[("digits",)] == known + 20
    assert failed_flushes(environment.metrics) == [1]


def test_a_store_that_asks_for_silence_gets_it() -> None:
    fates: list[Fate] = [(429, {"Retry-After": "1"}), 204, 204]
    with gate() as store:
        store.fate = lambda: fates.pop(0)
        environment = Environment(store.url, time.time())
        environment.predict("digits", 10)
        with pytest.raises(PushFailed, match="answers 429: a reason"):
            environment.sink.push(environment.metrics.collect(), time.monotonic() + 5)
        with pytest.raises(PushFailed, match=r"wants no request for [01] s"):
            environment.sink.push(environment.metrics.collect(), time.monotonic() + 5)
        assert len(store.requests) == 1
        eventually(lambda: environment.pusher.push() or len(store.requests) >= 2, True)
        environment.close()
        first, second, *_ = [body for _, _, body in store.requests]
    assert first == second


LATER = "in 200 seconds"  # a date that the test makes: collected with the others, it may be past when it is sent
PAST = "Mon, 01 Jan 2001 00:00:00 GMT"
SILENCES = {"0": 0, "70": 70, LATER: 200, "999999999": 300, "9" * 400: 300, PAST: 0, "-5": 0, "soon": 0}


@pytest.mark.parametrize(
    "value", SILENCES, ids=["none", "seconds", "a date", "long", "longer", "past", "negative", "no date"]
)
def test_how_long_a_store_may_ask_for_silence(value: str) -> None:
    asks_for = email.utils.formatdate(time.time() + 200, usegmt=True) if value == LATER else value
    with gate() as store:
        store.fate = lambda: (503, {"Retry-After": asks_for})
        environment = Environment(store.url, time.time())
        asked = time.monotonic()
        environment.pusher.push()
        environment.close()
    quiet = environment.sink._quiet_until
    # A date has whole seconds, so that it may be up to one second nearer.
    assert quiet - time.monotonic() <= SILENCES[value]
    assert value == LATER or quiet - asked >= SILENCES[value]
    assert (quiet > time.monotonic()) == (SILENCES[value] > 0)


def test_the_log_says_where_a_redirect_points(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "inferry")
    with gate() as store:
        store.fate = lambda: (308, {"Location": "https://metrics.example/api/v1/write"})
        environment = Environment(store.url, time.time())
        for _ in range(3):
            environment.pusher.push()
        environment.close()
        host = store.url.split("/")[2]
    message = f"metrics don't reach remote_write: {host} answers 308 and points to https://metrics.example/api/v1/write"
    assert [record.getMessage() for record in caplog.records] == [message]
    assert len(store.requests) == 3  # which it did not follow
