"""What waits for the request log's store: bounded, in order, and nobody's business but its thread's."""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from inferry.observability.access_log import Request
from inferry.observability.record import RequestRecord
from inferry.observability.registry import Metrics
from inferry.observability.request_log import request_log
from inferry.observability.request_log.request_log import Block, NotWritten, RequestLog

ROUTE = "/v2/models/{model}/infer"


class Kept:
    """A store in memory that takes what it is given, unless `failure` is raised or it is told to `wait`."""

    name = "kept"

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.batches: list[int] = []
        self.failure: Exception | None = None
        self.tries = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.closed = False

    def block(self, records: Sequence[RequestRecord]) -> Block:
        """Of ten bytes for each record."""
        return Block(len(records), 10 * len(records), [record.request_id for record in records])

    def write(self, blocks: Sequence[Block]) -> None:
        self.tries += 1
        self.may_go_on.wait(30)
        if self.failure is not None:
            raise self.failure
        self.ids += [name for block in blocks for name in block.content]
        self.batches.append(sum(block.size for block in blocks))

    def close(self) -> None:
        self.closed = True


def record(name: str, status: int = 200, route: str = ROUTE, path: str = "/v2/models/m/infer") -> RequestRecord:
    made = RequestRecord("POST", path, name.encode(), b"", time.perf_counter_ns())
    made.status, made.route = status, route
    return made


def names(count: int) -> list[str]:
    return [f"id-{number}" for number in range(count)]


def eventually(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def counts(metrics: Metrics) -> tuple[float, float]:
    """Rows that were written, and dropped."""
    found = {family.metric.name: dict(family.series) for family in metrics.collect()}
    taken, dropped = (found[f"inferry_request_log_rows_{name}total"][("kept",)] for name in ("", "dropped_"))
    assert isinstance(taken, int | float)
    assert isinstance(dropped, int | float)
    return taken, dropped


def test_records_are_written_in_their_order_and_together() -> None:
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, interval=60).start()
    for name in names(12_000):
        log.add(record(name))
    eventually(lambda: len(store.ids) >= 5_000)
    assert max(store.batches) <= 5_000
    log.close()
    assert store.ids == names(12_000)
    assert counts(metrics) == (12_000, 0)
    assert store.closed


def test_a_few_records_are_written_soon() -> None:
    store = Kept()
    log = RequestLog(store, Metrics(), interval=0.01).start()
    log.add(record("first"))
    eventually(lambda: store.ids == ["first"])
    log.close()


def test_there_are_counts_before_the_first_row() -> None:
    """So that the first drop is an increase."""
    metrics = Metrics()
    RequestLog(Kept(), metrics)
    assert counts(metrics) == (0, 0)


def test_probes_are_left_out() -> None:
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, interval=0.01).start()
    for status, route in ((200, "/health"), (200, "/metrics"), (503, "/v2/health/ready"), (500, "/health")):
        log.add(record(f"{status}{route}", status, route))
    log.close()
    assert store.ids == ["500/health"]
    assert counts(metrics) == (1, 0)


def test_a_full_queue_drops_what_comes_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """A store that hangs holds nobody up; what waited is written when it goes on, and again one line tells of it."""
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, most=2_500, interval=0.01).start()
    written = 0
    for turn in (1, 2):
        store.may_go_on.clear()
        log.add(record(f"first-{turn}"))
        tries = store.tries
        eventually(lambda: store.tries > tries)  # noqa: B023
        for name in names(1_000):
            log.add(record(f"{name}-{turn}"))
        eventually(lambda: sum(counts(metrics)) + 301 >= 1_001 * turn)  # noqa: B023
        assert counts(metrics)[0] == written
        assert [text for text in caplog.messages if "wait to be written" in text] == [
            *[
                "301 requests wait to be written to kept, and those that come are dropped until it takes them "
                "(it takes fewer than come)"
            ]
            * turn
        ]
        store.may_go_on.set()
        eventually(lambda: len(caplog.records) == 2 * turn)  # noqa: B023
        written = 301 * turn
        assert counts(metrics) == (written, 700 * turn)
        assert caplog.messages[-1] == "requests get into kept again; 700 were dropped"
    log.close()
    assert store.ids == [f"{name}-{turn}" for turn in (1, 2) for name in ("first", *names(300))]


def test_a_store_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Less and less often; its reason is said once, another one too, and nothing is lost."""
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, interval=0.01).start()
    store.failure = NotWritten("it is away; wait")
    began = time.monotonic()
    log.add(record("first"))
    eventually(lambda: store.tries >= 5)
    assert time.monotonic() - began >= 0.01 + 0.02 + 0.04 + 0.08
    store.failure = NotWritten("it is full; empty it")
    log.add(record("second"))
    eventually(lambda: len(caplog.records) == 2)
    store.failure = None
    eventually(lambda: store.ids == ["first", "second"])
    eventually(lambda: len(caplog.records) == 3)
    assert caplog.messages == [
        "requests don't get into kept, and wait: it is away; wait",
        "requests don't get into kept, and wait: it is full; empty it",
        "requests get into kept again; 0 were dropped",
    ]
    assert counts(metrics) == (2, 0)
    log.close()


@pytest.mark.parametrize("failure", [NotWritten("bad", lost=True), ZeroDivisionError("a bug")], ids=["lost", "a bug"])
def test_what_can_not_be_written_is_given_up(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """It keeps nobody else out, and the thread goes on."""
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, interval=0.01).start()
    store.failure = failure
    log.add(record("bad"))
    eventually(lambda: counts(metrics) == (0, 1))
    store.failure = None
    log.add(record("good"))
    eventually(lambda: store.ids == ["good"])
    log.close()
    assert counts(metrics) == (1, 1)
    assert bool(caplog.records[0].exc_info) == isinstance(failure, ZeroDivisionError)
    assert caplog.messages[-1] == "requests get into kept again; 1 were dropped"


def test_the_end_writes_what_is_left() -> None:
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, interval=60).start()
    for name in names(1_500):
        log.add(record(name))
    log.close()
    assert store.ids == names(1_500)
    assert counts(metrics) == (1_500, 0)


def test_the_end_waits_for_a_store_that_hangs_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(request_log, "LAST_SECONDS", 0.1)
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, interval=0.01).start()
    store.may_go_on.clear()
    for name in names(3):
        log.add(record(name))
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 5
    assert caplog.messages == ["3 requests of the last seconds are missing in kept"]
    assert counts(metrics) == (0, 3)
    store.may_go_on.set()


def test_the_end_is_the_end_for_a_store_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    store, metrics = Kept(), Metrics()
    log = RequestLog(store, metrics, interval=0.01).start()
    store.failure = NotWritten("it is away")
    log.add(record("first"))
    eventually(lambda: store.tries)
    log.close()
    assert caplog.messages[-1] == "1 requests of the last seconds are missing in kept"
    assert counts(metrics) == (0, 1)


def test_a_record_that_can_not_be_written_fails_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Kept):
        def block(self, records: Sequence[RequestRecord]) -> Block:
            raise ZeroDivisionError

    metrics = Metrics()
    log = RequestLog(Broken(), metrics, interval=60).start()
    for name in names(100):
        log.add(record(name))
    assert counts(metrics) == (0, 100)
    assert caplog.messages == ["100 requests can't be written to kept"]
    log.close()


class Bodies:
    def fields(self) -> dict[str, str]:
        return {}


def test_no_record_is_held_for_long() -> None:
    """Rows wait for the store; bodies, spans and long paths don't."""
    store = Kept()
    log = RequestLog(store, Metrics(), interval=60).start()
    made = record("id-0")
    made.payloads = body = Bodies()
    held = weakref.ref(body)
    log.add(made)
    del made, body
    assert held() is not None
    for name in names(100)[1:]:
        log.add(record(name))
    assert held() is None
    log.close()
    assert store.ids == names(100)


@pytest.mark.parametrize("kind", [RequestRecord, Request])
def test_a_record_that_ends_is_taken_once(kind: type[RequestRecord]) -> None:
    """With a line or without."""
    logging.getLogger("inferry").setLevel(logging.CRITICAL)
    taken: list[RequestRecord] = []

    class Sink:
        def add(self, record: RequestRecord) -> None:
            assert record.ended
            taken.append(record)

    made = kind("GET", "/v2", b"42", b"", 0)
    made.sink = Sink()
    made.end()
    assert taken == [made]
