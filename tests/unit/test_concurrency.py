"""Coroutines that an event loop runs from their start, and those that it takes over when they have to wait."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from inferry.concurrency import on_loop

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
