"""Dynamic batching and the ways to run a request: answers, errors and timeouts stay each request's own."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from inferry.concurrency import Threads
from inferry.errors import InferenceFailed, InferenceTimeout, InvalidRequest, QueueFull
from inferry.observability.stats import ModelStats
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import DATATYPES, Array, Tensor
from inferry.protocol.types import InferRequest
from inferry.repository.repository import Repository
from inferry.repository.store import LocalStore
from inferry.runtime import onnx_file
from inferry.runtime.batcher import Batcher
from inferry.runtime.model_config import DynamicBatching, ModelConfig
from inferry.runtime.row_proof import RowProof
from inferry.runtime.scheduler import INLINE_NS, Kind, Scheduler, kind_of
from inferry.runtime.session import Run, Session, SessionOptions, _watchdog
from inferry.service import Service
from onnx import TensorProto, helper

EXAMPLES = Path(__file__).parents[3] / "models"

client: ContextVar[str] = ContextVar("client", default="")


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def rows(*values: float) -> Feed:
    return {"x": np.array([[value] for value in values], np.float32)}


class Doubler:
    """Stands in for a session: doubles `x`, notes each batch, fails on negative rows, and takes as long as told."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[float]] = []

    async def __call__(self, feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        x = feed["x"]
        self.batches.append(x.ravel().tolist())
        await asyncio.sleep(min(self.seconds, max(0, deadline - time.monotonic())))
        if time.monotonic() >= deadline:
            raise InferenceTimeout("too slow")
        if (x < 0).any():
            raise InvalidRequest("negative")
        return [x * 2 for _ in outputs]


def batcher(
    run: Callable[..., Awaitable[list[Array]]], size: int = 8, delay: float = 0.0, waiting: int = 64
) -> Batcher:
    def refute(arrays: Mapping[str, Array], rows: int) -> bool:
        return any(len(array) != rows for array in arrays.values())

    return Batcher(run, refute, "m", size, delay, waiting, client.get)


async def infer(batcher: Batcher, *values: float, seconds: float = 30.0) -> list[float]:
    run = await batcher.infer(rows(*values), ("y",), soon(seconds))
    return run.arrays[0].ravel().tolist()


def test_what_arrives_during_a_run_is_run_together() -> None:
    run = Doubler(0.05)

    async def scenario() -> list[Any]:
        subject = batcher(run)
        return await asyncio.gather(infer(subject, 1), *(infer(subject, n, n + 0.5) for n in (2, 3, 4)))

    assert asyncio.run(scenario()) == [[2], [4, 5], [6, 7], [8, 9]]
    assert run.batches[0] in ([1], [1, 2, 2.5, 3, 3.5, 4, 4.5])
    assert len(run.batches) <= 2


def test_a_batch_has_at_most_max_batch_size_rows_and_keeps_the_order() -> None:
    run = Doubler(0.01)

    async def scenario() -> list[Any]:
        subject = batcher(run, size=4)
        return await asyncio.gather(*(infer(subject, n, n) for n in range(9)))

    assert asyncio.run(scenario()) == [[2 * n, 2 * n] for n in range(9)]
    assert all(len(batch) <= 4 for batch in run.batches)
    assert [value for batch in run.batches for value in batch[::2]] == list(range(9))


def test_a_lone_request_does_not_wait_for_company() -> None:
    async def scenario() -> float:
        subject = batcher(Doubler(), delay=5.0)
        start = time.monotonic()
        for _ in range(3):
            await infer(subject, 1)
        return time.monotonic() - start

    assert asyncio.run(scenario()) < 1.0


def test_a_crowd_waits_for_a_fuller_batch() -> None:
    run = Doubler(0.3)

    async def scenario() -> None:
        subject = batcher(run, delay=0.5)
        asked = [asyncio.ensure_future(infer(subject, n)) for n in range(3)]
        await asyncio.sleep(0.1)  # they run
        asked.append(asyncio.ensure_future(infer(subject, 10)))
        await asyncio.sleep(0.4)  # it waits
        asked.append(asyncio.ensure_future(infer(subject, 11)))
        await asyncio.gather(*asked)

    asyncio.run(scenario())
    assert run.batches == [[0, 1, 2], [10, 11]]


def test_a_full_batch_does_not_wait() -> None:
    async def scenario() -> float:
        subject = batcher(Doubler(), size=2, delay=5.0)
        start = time.monotonic()
        assert await asyncio.gather(*(infer(subject, n) for n in range(4))) == [[0], [2], [4], [6]]
        return time.monotonic() - start

    assert asyncio.run(scenario()) < 4.0


def test_requests_of_different_sizes_are_joined() -> None:
    run = Doubler(0.01)

    async def scenario() -> list[Any]:
        subject = batcher(run)
        return [*await asyncio.gather(infer(subject, 1), infer(subject, 2, 3), infer(subject, 4, 5, 6))]

    assert asyncio.run(scenario()) == [[2], [4, 6], [8, 10, 12]]
    assert run.batches == [[1, 2, 3, 4, 5, 6]]


def test_joined_inputs_start_on_the_boundary() -> None:
    starts: set[int] = set()

    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        starts.add(feed["x"].__array_interface__["data"][0] % 64)
        return [feed["x"]]

    async def scenario() -> None:
        for count in range(2, 30):
            subject = batcher(run, size=64)
            await asyncio.gather(*(infer(subject, n) for n in range(count)))

    asyncio.run(scenario())
    assert starts == {0}


def test_nothing_of_an_answered_request_is_kept() -> None:
    async def scenario() -> None:
        subject = batcher(Doubler())
        feed = rows(1)
        kept = weakref.ref(feed["x"])
        await subject.infer(feed, ("y",), soon(3600))
        del feed
        gc.collect()
        assert kept() is None

    asyncio.run(scenario())


def test_different_shapes_are_not_joined() -> None:
    shapes: list[tuple[int, ...]] = []

    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        shapes.append(feed["x"].shape)
        await asyncio.sleep(0.01)
        return [feed["x"]]

    async def scenario() -> None:
        subject = batcher(run)
        widths = (3, 3, 5, 3, 5)
        feeds = [{"x": np.full((1, width), index, np.float32)} for index, width in enumerate(widths)]
        runs = await asyncio.gather(*(subject.infer(feed, ("y",), soon()) for feed in feeds))
        assert [run.arrays[0].tolist() for run in runs] == [[[i] * w] for i, w in enumerate(widths)]

    asyncio.run(scenario())
    assert {shape[1] for shape in shapes} == {3, 5}
    assert len(shapes) < 5


def test_requests_for_different_outputs_are_not_joined() -> None:
    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        await asyncio.sleep(0.01)
        return [feed["x"] * {"double": 2, "triple": 3}[output] for output in outputs]

    async def scenario() -> list[list[Any]]:
        subject = batcher(run)
        asked = (("double",), ("triple",), ("triple", "double"), ("triple",))
        runs = await asyncio.gather(*(subject.infer(rows(1), outputs, soon()) for outputs in asked))
        return [[array.tolist() for array in run.arrays] for run in runs]

    assert asyncio.run(scenario()) == [[[[2]]], [[[3]]], [[[3]], [[2]]], [[[3]]]]


def test_inputs_in_another_order_are_joined() -> None:
    sizes: list[int] = []

    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        sizes.append(len(feed["a"]))
        await asyncio.sleep(0.01)
        return [feed["a"] - feed["b"]]

    async def scenario() -> list[Any]:
        subject = batcher(run)
        one, two = np.array([[5.0]]), np.array([[2.0]])
        feeds: list[Feed] = [{"a": one, "b": two}, {"b": one, "a": two}]
        runs = await asyncio.gather(*(subject.infer(feed, ("y",), soon()) for feed in feeds))
        return [run.arrays[0].tolist() for run in runs]

    assert asyncio.run(scenario()) == [[[3]], [[-3]]]
    assert sizes == [2]


def test_an_error_reaches_only_the_request_that_makes_it() -> None:
    run = Doubler(0.02)

    async def scenario() -> list[Any]:
        subject = batcher(run)
        waiting = [infer(subject, value) for value in (1, 2, -3, 4)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    first, second, third, fourth = asyncio.run(scenario())
    assert (first, second, fourth) == ([2], [4], [8])
    assert isinstance(third, InvalidRequest)


def test_an_unexpected_failure_reaches_every_request_and_the_next_is_served(caplog: pytest.LogCaptureFixture) -> None:
    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        await asyncio.sleep(0.01)
        if feed["x"][0, 0] == 0:
            raise ZeroDivisionError("a bug")
        return [feed["x"]]

    async def scenario() -> list[Any]:
        subject = batcher(run)
        failed = await asyncio.gather(infer(subject, 0), return_exceptions=True)
        return [*failed, await infer(subject, 1)]

    failed, served = asyncio.run(scenario())
    assert isinstance(failed, ZeroDivisionError)
    assert served == [1]
    # Who asked logs it.
    assert caplog.record_tuples == []


def test_an_unexpected_failure_that_reaches_nobody_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        await asyncio.sleep(0.2)
        raise ZeroDivisionError("a bug")

    async def scenario() -> list[Any]:
        subject = batcher(run)
        both = await asyncio.gather(
            infer(subject, 1, seconds=0.05), infer(subject, 2, seconds=0.05), return_exceptions=True
        )
        await asyncio.sleep(0.3)
        return [*both]

    assert [type(result) for result in asyncio.run(scenario())] == [InferenceTimeout] * 2
    assert [(record.getMessage(), str(record.exc_info and record.exc_info[1])) for record in caplog.records] == [
        ("a batch of model 'm' failed, after its requests were given up", "a bug")
    ]


def test_a_timeout_ends_one_request_and_the_batch_goes_on() -> None:
    run = Doubler(0.3)

    async def scenario() -> list[Any]:
        subject = batcher(run)
        start = time.monotonic()
        impatient = asyncio.ensure_future(infer(subject, 1, seconds=0.1))
        patient = asyncio.ensure_future(infer(subject, 2))
        result = await asyncio.gather(impatient, return_exceptions=True)
        assert time.monotonic() - start < 0.25
        return [*result, await patient]

    impatient, patient = asyncio.run(scenario())
    assert isinstance(impatient, InferenceTimeout)
    assert patient == [4]


def test_a_batch_that_fails_after_one_of_its_requests_timed_out() -> None:
    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        await asyncio.sleep(0.3)
        raise ZeroDivisionError("a bug")

    async def scenario() -> list[Any]:
        subject = batcher(run)
        both = asyncio.gather(infer(subject, 1, seconds=0.1), infer(subject, 2), return_exceptions=True)
        return [*await asyncio.wait_for(both, 20)]

    assert [type(result) for result in asyncio.run(scenario())] == [InferenceTimeout, ZeroDivisionError]


def test_what_timed_out_says_where_it_was() -> None:
    """The first in its run, the second in the queue behind it."""

    async def scenario() -> list[Any]:
        subject = batcher(Doubler(0.5), size=1)
        first = asyncio.ensure_future(infer(subject, 1, seconds=0.3))
        await asyncio.sleep(0.05)
        return [*await asyncio.gather(first, infer(subject, 2, seconds=0.1), return_exceptions=True)]

    ran, waited = asyncio.run(scenario())
    assert (ran.queue < 0.1e9, ran.infer > 0.2e9) == (True, True)
    assert (waited.queue >= 0.1e9, waited.infer) == (True, 0)


def test_what_timed_out_while_it_waited_is_not_run() -> None:
    run = Doubler(0.3)

    async def scenario() -> None:
        subject = batcher(run, size=1)
        first = asyncio.ensure_future(infer(subject, 1))
        await asyncio.sleep(0.05)
        with pytest.raises(InferenceTimeout):
            await infer(subject, 2, seconds=0.05)
        assert await first == [2]
        assert await infer(subject, 3) == [6]

    asyncio.run(scenario())
    assert run.batches == [[1], [3]]


def test_a_full_queue_refuses() -> None:
    async def scenario() -> list[Any]:
        subject = batcher(Doubler(0.05), size=1, waiting=2)
        waiting = [asyncio.ensure_future(infer(subject, 1))]
        await asyncio.sleep(0.01)
        waiting += [asyncio.ensure_future(infer(subject, n)) for n in (2, 3, 4)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    *served, refused = asyncio.run(scenario())
    assert served == [[2], [4], [6]]
    assert isinstance(refused, QueueFull)
    assert "2 requests wait for model 'm'" in str(refused)


async def infer_for(name: str, batcher: Batcher, *values: float) -> list[float]:
    client.set(name)
    return await infer(batcher, *values)


def test_clients_take_turns() -> None:
    """However many requests of one wait; those of each stay in their order."""

    async def scenario() -> list[Any]:
        run = Held()
        subject = batcher(run, size=2)
        first = asyncio.ensure_future(infer_for("a", subject, 0))
        await until(lambda: run.batches)
        waiting = [infer_for("a", subject, n) for n in range(1, 6)]
        waiting += [infer_for("b", subject, n) for n in (11, 12)]
        waiting += [infer_for("c", subject, 21)]
        asked = [first, *map(asyncio.ensure_future, waiting)]
        await until(lambda: subject.waiting == len(waiting))
        run.go.set()
        await asyncio.gather(*asked)
        return run.batches

    assert asyncio.run(scenario()) == [[0], [1, 11], [21, 2], [12, 3], [4, 5]]


def test_who_has_most_makes_room_for_others() -> None:
    async def scenario() -> tuple[list[Any], list[Any]]:
        run = Held()
        subject = batcher(run, size=1, waiting=4)
        asked = [asyncio.ensure_future(infer_for("a", subject, 0))]
        await until(lambda: run.batches)
        # One client alone may have all places.
        for name, value in [*(("a", n) for n in (1, 2, 3, 4, 5)), *(("b", n) for n in (11, 12, 13))]:
            asked.append(asyncio.ensure_future(infer_for(name, subject, value)))
            await asyncio.sleep(0)
        assert subject.waiting == 4
        run.go.set()
        return await asyncio.gather(*asked, return_exceptions=True), run.batches

    results, batches = asyncio.run(scenario())
    assert batches == [[0], [1], [11], [2], [12]]
    refused = [at for at, result in enumerate(results) if isinstance(result, QueueFull)]
    # The fifth of `a` finds no room, its third and fourth make some, and the third of `b` would have more than `a`.
    assert refused == [3, 4, 5, 8]
    assert {str(results[at]) for at in refused} == {"4 requests wait for model 'm' already (max_queue_size); try later"}


class Held:
    """Stands in for a session: notes each batch, which runs until `go` is set, and how it ended."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.batches: list[list[float]] = []
        self.cancelled = 0

    async def __call__(self, feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        self.batches.append(feed["x"].ravel().tolist())
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [feed["x"] * 2]


async def until(condition: Callable[[], Any]) -> None:
    """Waits for it, some seconds at most."""
    deadline = soon(20)
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_what_timed_out_while_it_waited_leaves_the_queue() -> None:
    async def scenario() -> list[Any]:
        run = Held()
        subject = batcher(run, size=1, waiting=2)
        first = asyncio.ensure_future(infer(subject, 1))
        await until(lambda: run.batches)
        late = [infer(subject, n, seconds=0.01) for n in (2, 3)]
        results = await asyncio.gather(*late, return_exceptions=True)
        assert [type(result) for result in results] == [InferenceTimeout] * 2
        assert subject.waiting == 0
        fourth = asyncio.ensure_future(infer(subject, 4))
        await until(lambda: subject.waiting)
        run.go.set()
        answers = [await first, await fourth]
        return [*answers, run.batches]

    assert asyncio.run(scenario()) == [[2], [8], [[1], [4]]]


def test_what_was_cancelled_while_it_waited_leaves_the_queue() -> None:
    async def scenario() -> list[Any]:
        run = Held()
        subject = batcher(run, waiting=2)
        first = asyncio.ensure_future(infer(subject, 1))
        await until(lambda: run.batches)
        left, stays = (asyncio.ensure_future(infer(subject, n)) for n in (2, 3))
        await until(lambda: subject.waiting == 2)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert (left.cancelled(), subject.waiting) == (True, 1)
        run.go.set()
        answers = [await first, await stays]
        return [*answers, run.batches, run.cancelled]

    assert asyncio.run(scenario()) == [[2], [6], [[1], [3]], 0]


def test_a_batch_goes_on_until_the_last_of_its_requests_is_cancelled() -> None:
    async def scenario() -> list[Any]:
        run = Held()
        subject = batcher(run, size=3)
        asked = [asyncio.ensure_future(infer(subject, n)) for n in (1, 2, 3)]
        await until(lambda: run.batches)
        waiting = asyncio.ensure_future(infer(subject, 4))
        for task in asked[:2]:
            task.cancel()
        await asyncio.gather(*asked[:2], return_exceptions=True)
        assert run.cancelled == 0
        asked[2].cancel()
        await until(lambda: run.cancelled)
        run.go.set()
        return [await waiting, run.batches, run.cancelled]

    assert asyncio.run(scenario()) == [[8], [[1, 2, 3], [4]], 1]


def test_a_batch_that_has_lost_some_of_its_requests_answers_the_others() -> None:
    async def scenario() -> list[Any]:
        run = Held()
        subject = batcher(run)
        left, stays = (asyncio.ensure_future(infer(subject, n)) for n in (1, 2))
        await until(lambda: run.batches)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        run.go.set()
        return [await stays, run.batches, run.cancelled]

    assert asyncio.run(scenario()) == [[4], [[1, 2]], 0]


def test_outputs_without_a_row_per_row_are_run_alone() -> None:
    calls: list[int] = []

    async def run(feed: Feed, outputs: Sequence[str], deadline: float) -> list[Array]:
        calls.append(len(feed["x"]))
        await asyncio.sleep(0.01)
        return [feed["x"].sum(axis=0)]

    async def scenario() -> list[Any]:
        subject = batcher(run)
        return await asyncio.gather(*(infer(subject, value) for value in (1, 2, 3)))

    assert asyncio.run(scenario()) == [[1], [2], [3]]


class Counted(Threads):
    """Counts how often they are asked for."""

    asked = 0

    def pool(self) -> ThreadPoolExecutor:
        self.asked += 1
        return super().pool()


@pytest.fixture
def threads() -> Iterator[Counted]:
    threads = Counted(4, "test", client.get)
    yield threads
    threads.close()


@pytest.fixture
def scheduler(tmp_path: Path, threads: Threads) -> Callable[..., Scheduler]:
    """`scheduler(onnx_models.slow(), max_queue_size=1)` runs that model under that config."""

    def make(content: bytes, **config: Any) -> Scheduler:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        settings = ModelConfig(**config)
        session = Session(path, onnx_file.read(path), "m", SessionOptions(1, settings.max_batch_size))
        proof = RowProof(session, "", joined=True)
        return Scheduler(session, settings, proof, ModelStats(), threads)

    return make


def turns(count: int) -> Feed:
    return {"turns": np.array([count], np.int64)}


def kind(feed: Feed) -> Kind | None:
    return kind_of(feed, ("y",))


def ask(subject: Scheduler, feed: Feed, seconds: float = 30.0) -> Coroutine[Any, Any, Run]:
    return subject.run(feed, ("y",), soon(seconds), kind(feed))


def ask_now(subject: Scheduler, feed: Feed) -> int:
    """The nanoseconds that it takes."""
    _, took = subject.run_now(feed, ("y",), soon(), kind(feed))
    return took


async def become_quick(subject: Scheduler, feed: Feed) -> None:
    for _ in range(20):  # the first run of a session is a slow one
        await ask(subject, feed)
        if subject.runs_inline(kind(feed)):
            return
    raise AssertionError("no run is quick")


class TestScheduler:
    def test_a_model_seen_to_be_fast_runs_on_the_event_loop_and_a_slow_one_does_not(
        self, scheduler: Callable[..., Scheduler]
    ) -> None:
        subject = scheduler(onnx_models.slow())

        async def scenario() -> None:
            assert not subject.runs_inline(kind(turns(0)))
            await ask(subject, turns(500))
            assert not subject.runs_inline(kind(turns(0)))
            await become_quick(subject, turns(0))
            assert ask_now(subject, turns(500)) >= INLINE_NS
            assert not subject.runs_inline(kind(turns(0)))

        asyncio.run(scenario())

    def test_who_has_shown_slow_values_has_the_event_loop_for_a_hundredth_of_the_time(
        self, scheduler: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        subject = scheduler(onnx_models.slow())

        async def scenario() -> None:
            await become_quick(subject, turns(0))
            ask_now(subject, turns(500))  # which may be the machine's doing: the next is watched
            await become_quick(subject, turns(0))
            slow = ask_now(subject, turns(500))
            for _ in range(50):
                await ask(subject, turns(0))
                assert not subject.runs_inline(kind(turns(0)))
            now = time.perf_counter_ns()
            monkeypatch.setattr(time, "perf_counter_ns", lambda: now + 90 * slow)
            await ask(subject, turns(0))
            assert not subject.runs_inline(kind(turns(0)))
            monkeypatch.setattr(time, "perf_counter_ns", lambda: now + 101 * slow)
            await ask(subject, turns(0))
            assert subject.runs_inline(kind(turns(0)))

        asyncio.run(scenario())

    def test_a_slow_machine_makes_no_slow_model(
        self, scheduler: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It takes the CPU away in the middle of a run; here the run sleeps for that."""
        subject = scheduler(onnx_models.slow())
        run = subject._session.run

        def interrupted(*arguments: Any) -> list[Array]:
            time.sleep(5 * INLINE_NS / 1e9)
            return run(*arguments)

        async def scenario() -> None:
            for _ in range(10):
                await become_quick(subject, turns(0))
                with monkeypatch.context() as patch:
                    patch.setattr(subject._session, "run", interrupted)
                    ask_now(subject, turns(0))

        asyncio.run(scenario())

    def test_of_as_many_elements_only_shapes_that_are_quick_run_on_the_event_loop(
        self, scheduler: Callable[..., Scheduler]
    ) -> None:
        subject = scheduler(onnx_models.products())

        def x(*shape: int) -> Feed:
            return {"x": np.zeros(shape, np.float32)}

        async def scenario() -> None:
            await become_quick(subject, x(2, 2000))
            assert not subject.runs_inline(kind(x(4000, 1)))
            await ask(subject, x(4000, 1))
            assert not subject.runs_inline(kind(x(4000, 1)))
            for smaller in (x(1, 2000), x(2, 3)):  # take no longer
                assert subject.runs_inline(kind(smaller))
            for other in (x(3, 3), x(1, 2001), x(2)):
                assert not subject.runs_inline(kind(other))
            assert not subject.runs_inline(kind_of(x(1, 2000), ("z",)))

        asyncio.run(scenario())

    def test_a_run_that_waits_is_not_a_slow_one(
        self, scheduler: Callable[..., Scheduler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread waits for the interpreter's lock while the event loop is busy; here it sleeps for that."""
        subject = scheduler(onnx_models.identity())
        run = subject._session.run

        def waiting(*arguments: Any) -> list[Array]:
            time.sleep(5 * INLINE_NS / 1e9)
            return run(*arguments)

        monkeypatch.setattr(subject._session, "run", waiting)

        async def scenario() -> None:
            for _ in range(5):  # the first run of a session is a slow one
                await ask(subject, {"x": np.ones((1, 3), np.float32)})
            assert subject.runs_inline(kind({"x": np.ones((1, 3), np.float32)}))

        asyncio.run(scenario())

    def test_the_event_loop_goes_on_during_a_slow_run(self, scheduler: Callable[..., Scheduler]) -> None:
        subject = scheduler(onnx_models.slow())

        async def scenario() -> int:
            run = asyncio.ensure_future(ask(subject, turns(1000)))
            ticks = 0
            while not run.done():
                await asyncio.sleep(0.005)
                ticks += 1
            return ticks

        assert asyncio.run(scenario()) > 3

    def test_a_timeout_is_kept_and_the_next_request_served(self, scheduler: Callable[..., Scheduler]) -> None:
        subject = scheduler(onnx_models.slow())

        async def scenario() -> None:
            start = time.monotonic()
            with pytest.raises(InferenceTimeout, match="model 'm'"):
                await ask(subject, turns(10**9), 0.2)
            assert time.monotonic() - start < 5
            assert len((await ask(subject, turns(1))).arrays) == 1

        asyncio.run(scenario())

    def test_too_many_waiting_requests_are_refused(self, scheduler: Callable[..., Scheduler]) -> None:
        subject = scheduler(onnx_models.slow(), max_queue_size=2)

        async def scenario() -> list[Any]:
            runs = [ask(subject, turns(200)) for _ in range(3)]
            return await asyncio.gather(*runs, return_exceptions=True)

        assert [type(result).__name__ for result in asyncio.run(scenario())] == ["Run", "Run", "QueueFull"]
        assert subject.waiting == 0
        # The places are free again.
        assert [type(result).__name__ for result in asyncio.run(scenario())] == ["Run", "Run", "QueueFull"]

    def test_who_has_most_waiting_makes_room_for_others_and_nobody_who_runs(
        self, scheduler: Callable[..., Scheduler], threads: Counted
    ) -> None:
        subject, done = scheduler(onnx_models.slow(), max_queue_size=3), threading.Event()

        async def run(name: str) -> Run:
            client.set(name)
            return await ask(subject, turns(1))

        async def scenario() -> list[Any]:
            for _ in range(4):
                threads.pool().submit(done.wait, 30)
            asked = [asyncio.ensure_future(run(name)) for name in "aaabbc"]
            await asyncio.sleep(0)
            done.set()
            return await asyncio.gather(*asked, return_exceptions=True)

        names = [type(result).__name__ for result in asyncio.run(scenario())]
        # `b` and `c` have a place of `a` each, which then has no more than `b` would have with a second.
        assert names == ["Run", "QueueFull", "QueueFull", "Run", "QueueFull", "Run"]
        assert subject.waiting == 0

        async def running() -> list[Any]:
            """Three of `a` have their threads."""
            client.set("a")
            first = [asyncio.ensure_future(ask(subject, turns(10**9), 60)) for _ in range(3)]
            await until(lambda: len(_watchdog._watched) == 3)
            results = await asyncio.gather(run("b"), return_exceptions=True)
            for task in first:
                task.cancel()
            await asyncio.gather(*first, return_exceptions=True)
            return [*results, *(task.cancelled() for task in first)]

        refused, *cancelled = asyncio.run(running())
        assert (type(refused), cancelled) == (QueueFull, [True] * 3)

    def test_what_waits_for_a_thread_ends_in_time(self, scheduler: Callable[..., Scheduler], threads: Counted) -> None:
        subject = scheduler(onnx_models.slow())
        done = threading.Event()
        for _ in range(4):
            threads.pool().submit(done.wait, 30)

        async def scenario() -> None:
            run = asyncio.ensure_future(ask(subject, turns(1), 0.3))
            await asyncio.sleep(0)
            assert subject.waiting == 1
            with pytest.raises(InferenceTimeout, match="model 'm' was over: it is busy, or slow"):
                await run

        start = time.monotonic()
        asyncio.run(scenario())
        assert time.monotonic() - start < 20
        done.set()

    @pytest.mark.parametrize("batched", [False, True])
    def test_a_run_that_is_cancelled_ends(
        self, scheduler: Callable[..., Scheduler], threads: Counted, batched: bool
    ) -> None:
        config = {"max_batch_size": 4, "dynamic_batching": DynamicBatching()} if batched else {}
        subject = scheduler(onnx_models.slow_rows() if batched else onnx_models.slow(), **config)

        async def scenario() -> None:
            run = asyncio.ensure_future(ask(subject, turns(10**9), 60))
            await until(lambda: _watchdog._watched)
            start = time.monotonic()
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            assert (run.cancelled(), subject.waiting) == (True, 0)
            await until(lambda: not _watchdog._watched)
            assert time.monotonic() - start < 20
            # What ended that run ends no other one.
            for _ in range(3):
                assert len((await ask(subject, turns(1))).arrays) == 1

        asyncio.run(scenario())

    def test_what_is_cancelled_before_it_has_a_thread_never_runs(
        self, scheduler: Callable[..., Scheduler], threads: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        subject, done, runs = scheduler(onnx_models.slow()), threading.Event(), list[int]()
        run = subject._session.run

        def counted(feed: Feed, *arguments: Any) -> list[Array]:
            runs.append(int(feed["turns"][0]))
            return run(feed, *arguments)

        monkeypatch.setattr(subject._session, "run", counted)
        for _ in range(4):
            threads.pool().submit(done.wait, 30)

        async def scenario() -> None:
            left, stays = (asyncio.ensure_future(ask(subject, turns(n))) for n in (1, 2))
            await until(lambda: subject.waiting == 2)
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            assert subject.waiting == 1
            done.set()
            await stays

        asyncio.run(scenario())
        assert runs == [2]

    @pytest.mark.parametrize(("nanoseconds", "quick"), [(1000, True), (10**9, False), (None, False)])
    def test_a_warm_up_tells_what_is_quick(
        self, scheduler: Callable[..., Scheduler], threads: Counted, nanoseconds: int | None, quick: bool
    ) -> None:
        other = scheduler(onnx_models.identity())
        parts = (other._session, other._config, other._row_proof, ModelStats(), threads)
        known = kind({"x": np.ones((1, 3), np.float32)})
        subject = Scheduler(*parts, (nanoseconds, known) if nanoseconds else None)
        assert (subject.runs_inline(known), subject.knows_quick_runs) == (quick, quick)

    def test_the_config_says_how_batches_form(self, scheduler: Callable[..., Scheduler]) -> None:
        batching = DynamicBatching(max_queue_delay_us=500)
        subject = scheduler(onnx_models.identity(), max_batch_size=4, max_queue_size=3, dynamic_batching=batching)
        batcher = subject._batcher
        assert batcher is not None
        assert (batcher._max_batch_size, batcher._max_delay, batcher._max_waiting) == (4, 0.0005, 3)

    def test_a_quick_request_that_comes_alone_runs_at_once_and_a_crowd_together(
        self, scheduler: Callable[..., Scheduler], threads: Counted
    ) -> None:
        subject = scheduler(onnx_models.identity(), max_batch_size=8, dynamic_batching=DynamicBatching())

        def one() -> Awaitable[Run]:
            return ask(subject, {"x": np.ones((1, 3), np.float32)})

        async def scenario() -> None:
            for _ in range(20):  # the first run of a session is a slow one
                await one()
            asked = threads.asked
            assert (await one()).queue == 0
            assert threads.asked == asked
            assert not subject.runs_inline(kind({"x": np.ones((1, 3), np.float32)}))  # others may come
            await ask(subject, {"x": np.ones((8, 3), np.float32)})
            assert threads.asked == asked + 1  # of that size nothing is known
            before = subject._stats.as_dict()["execution_count"]
            await asyncio.gather(*(one() for _ in range(6)))
            assert subject._stats.as_dict()["execution_count"] - before == 1

        asyncio.run(scenario())

    def test_a_row_that_fails_its_batch_fails_alone(self, scheduler: Callable[..., Scheduler]) -> None:
        table = helper.make_tensor("table", TensorProto.FLOAT, [3, 1], [10.0, 20.0, 30.0])
        lookup = onnx_models.model(
            [helper.make_node("Gather", ["table", "x"], ["y"])],
            [onnx_models.tensor("x", "INT64", ("batch",))],
            [onnx_models.tensor("y", "FP32", ("batch", 1))],
            [table],
        )
        subject = scheduler(lookup, max_batch_size=8, dynamic_batching=DynamicBatching())

        async def scenario() -> list[Any]:
            runs = [ask(subject, {"x": np.array([index], np.int64)}) for index in (1, 7, 2)]
            return await asyncio.gather(*runs, return_exceptions=True)

        first, second, third = asyncio.run(scenario())
        assert [first.arrays[0].tolist(), third.arrays[0].tolist()] == [[[20.0]], [[30.0]]]
        assert isinstance(second, (InvalidRequest, InferenceFailed))
        assert "model 'm'" in str(second)

    def test_optional_inputs_are_not_joined(self, scheduler: Callable[..., Scheduler]) -> None:
        """They are parameters of a run: three of one value each would be one of a value per column."""
        scaled = onnx_models.model(
            [helper.make_node("Mul", ["x", "factor"], ["y"])],
            [onnx_models.tensor("x", "FP32", ("batch", 3)), onnx_models.tensor("factor", "FP32", ("k",))],
            [onnx_models.tensor("y", "FP32", ("batch", 3))],
            [helper.make_tensor("factor", TensorProto.FLOAT, [1], [1.0])],
        )
        subject = scheduler(scaled, max_batch_size=8, dynamic_batching=DynamicBatching())

        async def scenario() -> list[Run]:
            x = np.ones((1, 3), np.float32)
            feeds = [{"x": x, "factor": np.array([factor], np.float32)} for factor in (2, 3, 4)]
            return await asyncio.gather(*(ask(subject, feed) for feed in feeds))

        assert [run.arrays[0].tolist() for run in asyncio.run(scenario())] == [[[factor] * 3] for factor in (2, 3, 4)]


def encoder_request(rng: np.random.Generator, length: int) -> InferRequest:
    ids = rng.integers(0, 2048, (1, length)).astype(np.int64)
    return InferRequest({"input_ids": Tensor("input_ids", DATATYPES["INT64"], ids)})


def test_the_encoder_gives_the_same_batched_and_alone() -> None:
    service = Service(Repository(LocalStore(EXAMPLES, "models")))

    async def scenario() -> None:
        rng = np.random.default_rng(0)
        model = await service.model("encoder")
        requests = [encoder_request(rng, length) for length in (7, 7, 7, 16, 16, 7, 16, 7)]
        alone = [(await service.infer(model, request)).outputs[0].array for request in requests]
        before = model.stats.as_dict()["execution_count"]
        together = await asyncio.gather(*(service.infer(model, request) for request in requests))
        assert model.stats.as_dict()["execution_count"] - before < len(requests)
        for single, response in zip(alone, together, strict=True):
            np.testing.assert_allclose(response.outputs[0].array, single, atol=1e-5)

    asyncio.run(scenario())
    service.close()


def test_no_thread_is_left_behind() -> None:
    before = threading.enumerate()  # of other tests, whose services may still be open
    service = Service(Repository(LocalStore(EXAMPLES, "models")))

    async def scenario() -> None:
        model = await service.model("encoder")
        await service.infer(model, encoder_request(np.random.default_rng(0), 5))

    asyncio.run(scenario())
    service.close()
    new = [thread for thread in threading.enumerate() if thread not in before]
    left = [thread.name for thread in new if thread.name.startswith(("inferry-run", "inferry-load"))]
    assert left == []
