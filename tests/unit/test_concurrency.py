"""Coroutines that an event loop runs from their start, and those that it takes over when they have to wait."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise

import pytest
from inferry.concurrency import Turns, on_loop

Steps = list[str]


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
