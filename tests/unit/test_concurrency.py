"""Coroutines that an event loop runs from their start, and those that it takes over when they have to wait."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from itertools import pairwise

import pytest
from inferry import concurrency
from inferry.concurrency import FairQueue, RoundRobin, Shares, Threads, Turns, on_loop

Steps = list[str]

client: ContextVar[str] = ContextVar("client", default="")


async def answering(steps: Steps) -> None:
    steps.append("started")
    await on_loop()
    steps.append("on a loop")
    await on_loop()
    await asyncio.wait_for(asyncio.sleep(0), 1)
    steps.append("waited")


def from_the_start(coroutine: Coroutine[None, None, None]) -> None:
    asyncio.run(coroutine)


def after_a_step(coroutine: Coroutine[None, None, None]) -> None:
    assert coroutine.send(None) is None

    async def rest() -> None:
        await asyncio.get_running_loop().create_task(coroutine)

    asyncio.run(rest())


@pytest.mark.parametrize("run", [from_the_start, after_a_step])
def test_what_waits_is_run_by_a_loop(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    steps: Steps = []
    run(answering(steps))
    assert steps == ["started", "on a loop", "waited"]


def test_a_step_by_hand_ends_before_the_wait() -> None:
    steps: Steps = []
    coroutine = answering(steps)
    coroutine.send(None)
    coroutine.close()
    assert steps == ["started"]


async def taking(turns: Turns, steps: Steps) -> None:
    await turns()
    steps.append("work")


async def looking_on(steps: Steps, until: int) -> None:
    while steps.count("work") < until:
        steps.append("another's")
        await asyncio.sleep(0)


def test_others_run_between_two_turns() -> None:
    steps: Steps = []

    async def scenario() -> None:
        turns = Turns()
        await asyncio.gather(*(taking(turns, steps) for _ in range(9)), looking_on(steps, 9))
        await taking(turns, steps)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert steps.count("work") == 10
    assert ("work", "work") not in pairwise(steps[:-1])


def test_what_took_long_leaves_the_others_as_much_time() -> None:
    """Be it of one client or of several, and whoever of them waits; before a client's first turn there is no pause."""
    turns_of: list[tuple[str, float, float]] = []

    async def working(turns: Turns, name: str) -> None:
        client.set(name)
        await turns()
        began = time.perf_counter()
        time.sleep(0.02)
        turns_of.append((name, began, time.perf_counter()))

    async def scenario() -> None:
        turns = Turns(client.get)
        await asyncio.gather(*(working(turns, name) for name in "aabbb"))
        await working(turns, "a")

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert sorted(name for name, *_ in turns_of) == [*"aaabbb"]
    known = {turns_of[0][0]}
    for (_, began, ended), (name, after, _) in pairwise(turns_of):
        if name in known:
            assert after - ended >= 0.75 * min(ended - began, Turns._MOST)
        known.add(name)


def test_who_had_no_long_turn_waits_for_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a busy machine makes of it: one of "a" was long, and pauses for the whole test; none of "b" is."""
    monkeypatch.setattr(concurrency, "TURN", 600.0)
    steps: list[str] = []

    async def working(turns: Turns, name: str) -> None:
        client.set(name)
        await turns()
        steps.append(name)

    async def scenario() -> None:
        turns = Turns(client.get)
        turns._pause_ends = turns._long["a"] = time.perf_counter() + 600
        pausing = [asyncio.ensure_future(working(turns, "a")) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(3):
            await working(turns, "b")
        assert steps == ["b"] * 3
        pausing[0].cancel()
        await asyncio.gather(pausing[0], return_exceptions=True)
        turns._pause_ends = 0.0
        pausing[1].cancel()
        await pausing[2]

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert steps == ["b", "b", "b", "a"]


def test_who_gives_up_in_the_pause_holds_up_nobody() -> None:
    steps: Steps = []

    async def scenario() -> None:
        turns = Turns()
        await turns()
        time.sleep(0.1)
        await asyncio.sleep(0)
        first = asyncio.ensure_future(taking(turns, steps))
        await asyncio.sleep(0)
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        await taking(turns, steps)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert steps == ["work"]


@pytest.mark.parametrize("early", [True, False])
def test_a_turn_that_is_given_up_goes_to_the_next(early: bool) -> None:
    steps: Steps = []

    async def scenario() -> None:
        turns = Turns()
        first, second, third = (asyncio.ensure_future(taking(turns, steps)) for _ in range(3))
        await asyncio.sleep(0)
        if not early:
            await first
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        assert second.cancelled()
        await taking(turns, steps)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert steps == ["work"] * 3


async def holding(lock: RoundRobin, name: str, steps: Steps) -> None:
    client.set(name[0])
    await lock.acquire()
    await asyncio.sleep(0)
    steps.append(name)
    lock.release()


def test_each_client_has_its_turn_however_many_another_waits_for() -> None:
    steps: Steps = []

    async def scenario() -> None:
        lock = RoundRobin(client.get)
        names = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
        works = [asyncio.ensure_future(holding(lock, name, steps)) for name in names]
        await asyncio.sleep(0)
        client.set("a")
        assert lock.waiting == 3
        client.set("d")
        assert lock.waiting == 0
        await asyncio.gather(*works)
        await holding(lock, "d1", steps)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert steps == ["a1", "a2", "b1", "c1", "a3", "b2", "a4", "d1"]


@pytest.mark.parametrize("given_up", range(4))
def test_who_gives_up_holds_up_nobody(given_up: int) -> None:
    """Before its turn, or in the moment in which it has just come."""
    steps: Steps = []

    async def scenario() -> None:
        lock = RoundRobin(client.get)
        await lock.acquire()
        works = [asyncio.ensure_future(holding(lock, name, steps)) for name in ("a1", "a2", "b1", "b2")]
        await asyncio.sleep(0)
        if given_up % 2:
            works[given_up].cancel()
            lock.release()
        else:
            lock.release()
            works[given_up].cancel()
        await asyncio.gather(*works, return_exceptions=True)
        assert lock.waiting == 0
        await holding(lock, "c1", steps)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    left = ["a1", "b1", "a2", "b2", "c1"]
    left.remove(("a1", "a2", "b1", "b2")[given_up])
    assert sorted(steps) == sorted(left)


def queue(*items: str) -> FairQueue[str]:
    """Of which "a1" is client "a"'s."""
    found = FairQueue[str]()
    for item in items:
        found.add(item[0], item)
    return found


def test_a_queue_has_the_order_of_turns() -> None:
    subject = queue("a1", "a2", "a3", "b1", "c1", "b2")
    assert list(subject) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert [subject.pop() for _ in range(len(subject))] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert list(subject) == []


def test_who_was_served_waits_for_the_others() -> None:
    subject = queue("a1", "a2", "b1", "c1")
    subject.serve("a", "a2")
    assert (list(subject), len(subject), subject.of("a")) == (["b1", "c1", "a1"], 3, 1)


def test_who_gives_up_one_keeps_the_turn_of_the_next() -> None:
    subject = queue("a1", "a2", "b1")
    assert subject.remove("a", "a1")
    assert not subject.remove("a", "a1")
    assert not subject.remove("d", "a2")
    assert (list(subject), len(subject), subject.of("d")) == (["a2", "b1"], 2, 0)


def test_who_has_most_has_a_surplus_for_who_would_still_have_fewer() -> None:
    subject = queue("a1", "a2", "a3", "b1")
    assert [subject.surplus(client) for client in "abc"] == [None, "a3", "a3"]
    subject.add("b", "b2")
    assert [subject.surplus(client) for client in "abc"] == [None, None, "a3"]
    assert queue().surplus("a") is None


def test_threads_work_for_clients_in_turns() -> None:
    steps: Steps = []
    go = threading.Event()
    threads = Threads(1, "test")
    first = threads.submit("a", go.wait, 60)
    works = [threads.submit(name[0], steps.append, name) for name in ("a1", "a2", "a3", "b1", "b2", "c1")]
    assert works[1].cancel()
    go.set()
    threads.close()
    assert first.result(60)
    assert steps == ["a1", "b1", "c1", "b2", "a3"]


def test_what_a_thread_raises_keeps_nothing() -> None:
    class Argument:
        pass

    def fail(_: Argument) -> None:
        raise ValueError("a bug")

    threads, argument = Threads(1, "test"), Argument()
    kept = weakref.ref(argument)
    work = threads.submit("", fail, argument)
    threads.close()
    assert str(work.exception(60)) == "a bug"
    gc.disable()
    try:
        del argument, work
        assert kept() is None
    finally:
        gc.enable()


def test_shares() -> None:
    shares = Shares(100, client.get)
    client.set("a")
    first, second = shares.lease(), shares.lease()
    assert first.grow(30)
    assert second.grow(20)
    assert not second.grow(1)  # half of it is one client's
    assert not shares.has(1)
    client.set("b")
    third = shares.lease()
    assert third.grow(50)
    client.set("c")
    assert not shares.lease().grow(1)  # nothing is left
    assert first.become(10)
    assert shares.has(20)
    assert not shares.has(21)
    for lease in (first, second, third):
        lease.end()
    assert shares.taken == 0
    assert shares.has(50)
    assert first.become(1000)  # alone
    assert not second.grow(1)
