"""The process beside the server: it is there when it is needed, gives back what it makes or raises, and may die."""

import asyncio
import copy
import gc
import math
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inferry.errors import InferenceFailed, InferenceTimeout, InvalidRequest
from inferry.http import bodies, content
from inferry.protocol.tensors import ALIGNMENT, DATATYPES, Tensor
from inferry.protocol.types import InferResponse
from inferry.server import helper as module
from inferry.server.helper import HelperProcess

client: ContextVar[str] = ContextVar("client", default="")


@pytest.fixture
def helper() -> Iterator[HelperProcess]:
    helper = HelperProcess()
    yield helper
    helper.close()


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        return await scenario()

    return asyncio.run(go())


def test_it_starts_when_it_is_needed_and_goes_on(helper: HelperProcess) -> None:
    assert helper._process is None

    async def scenario() -> list[int]:
        return [await helper(os.getpid, deadline=soon()) for _ in range(2)]

    first, second = run(scenario)
    assert first == second != os.getpid()


def test_what_a_function_raises(helper: HelperProcess) -> None:
    async def scenario() -> None:
        with pytest.raises(InvalidRequest, match=r"^the request is not JSON: "):
            await helper(bodies.document, content.Large([b"{"], "", 10), deadline=soon())
        with pytest.raises(RuntimeError, match=r"ValueError: math domain error"):
            await helper(math.sqrt, -1, deadline=soon())
        assert await helper(math.sqrt, 4, deadline=soon()) == 2

    run(scenario)


def test_what_can_not_be_sent_back(helper: HelperProcess) -> None:
    async def scenario() -> None:
        pid = await helper(os.getpid, deadline=soon())
        with pytest.raises(RuntimeError, match=r"TypeError: cannot pickle '_thread.lock' object"):
            await helper(threading.Lock, deadline=soon())
        assert await helper(os.getpid, deadline=soon()) == pid

    run(scenario)


def test_the_server_comes_first(helper: HelperProcess) -> None:
    async def scenario() -> None:
        assert await helper(os.nice, 0, deadline=soon()) == min(os.nice(0) + 3, 19)

    run(scenario)


def test_nothing_is_kept_of_what_was_refused(helper: HelperProcess) -> None:
    """An error holds the frames that it came through, and one of them its body."""

    class Body(bytearray):
        pass

    async def scenario() -> None:
        body = Body(b"{")
        gone = weakref.ref(body)
        large = content.Large([body], "", 10)
        del body
        gc.disable()
        try:
            await asyncio.gather(helper(bodies.document, large, deadline=soon()), return_exceptions=True)
            del large
            end = soon()
            while gone() is not None and time.monotonic() < end:
                await asyncio.sleep(0.01)
            assert gone() is None
        finally:
            gc.enable()

    run(scenario)


def test_one_client_does_not_keep_another_waiting() -> None:
    helper = HelperProcess(client.get)
    done = []

    async def work(name: str) -> None:
        client.set(name[0])
        await helper(time.sleep, 0.01, deadline=soon())
        done.append(name)

    async def scenario() -> None:
        works = [asyncio.ensure_future(work(f"a{number}")) for number in range(9)]
        await asyncio.sleep(0)
        client.set("a")
        assert helper.waiting() == 8
        client.set("b")
        assert helper.waiting() == 0
        await asyncio.gather(work("b"), *works)

    run(scenario)
    helper.close()
    assert done.index("b") <= 2


def test_one_that_dies_is_replaced(helper: HelperProcess) -> None:
    """As one that the kernel kills for its memory."""

    async def scenario() -> Any:
        dying = helper(signal.raise_signal, signal.SIGKILL, deadline=soon())
        following = helper(math.sqrt, 4, deadline=soon())
        return await asyncio.gather(dying, following, return_exceptions=True)

    died, two = run(scenario)
    assert isinstance(died, InferenceFailed)
    assert "ended with status -9; if there was no memory left, send fewer rows" in str(died)
    assert two == 2


def test_time_ends_what_runs_and_what_waits(helper: HelperProcess) -> None:
    async def scenario() -> None:
        await helper(math.sqrt, 4, deadline=soon())
        start = time.monotonic()
        longer = helper(time.sleep, 600, deadline=soon(0.4))
        waiting = helper(math.sqrt, 4, deadline=soon(0.2))
        ended = await asyncio.gather(longer, waiting, return_exceptions=True)
        assert [type(exc) for exc in ended] == [InferenceTimeout, InferenceTimeout]
        assert time.monotonic() - start < 60
        assert await helper(math.sqrt, 4, deadline=soon()) == 2

    run(scenario)


def test_what_is_given_up_does_not_run_on(helper: HelperProcess) -> None:
    async def scenario() -> None:
        pid = await helper(os.getpid, deadline=soon())
        work = asyncio.ensure_future(helper(time.sleep, 600, deadline=soon()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert work.cancelled()
        assert not Path(f"/proc/{pid}").exists()

    run(scenario)


def test_what_is_given_up_before_it_begins_does_not_run_either(
    helper: HelperProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is started meanwhile, and those behind it wait."""
    given_up, connected = threading.Event(), helper._connected

    def later() -> socket.socket:
        assert given_up.wait(60)
        return connected()

    monkeypatch.setattr(helper, "_connected", later)

    async def scenario() -> None:
        work = asyncio.ensure_future(helper(time.sleep, 600, deadline=soon()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert helper._process is None
        work.cancel()
        asyncio.get_running_loop().call_later(0.05, given_up.set)
        assert await helper(math.sqrt, 4, deadline=soon()) == 2
        assert work.cancelled()

    run(scenario)


def test_it_ends_when_nobody_needs_it(helper: HelperProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)

    async def scenario() -> None:
        pid = await helper(os.getpid, deadline=soon())
        end = soon()
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()
        assert await helper(os.getpid, deadline=soon()) != pid

    run(scenario)


@pytest.mark.parametrize("name", DATATYPES)
def test_arrays_of_every_datatype_come_back_as_they_went(helper: HelperProcess, name: str) -> None:
    datatype = DATATYPES[name]
    if datatype.dtype.hasobject:
        array = np.array([f"{number}é" for number in range(2 * module._STRINGS + 2)] + ["", "a"], object)
    else:
        array = (np.arange(100_000) % 100).astype(datatype.dtype)
    array = array.reshape(2, -1)[:, ::-1]
    response = InferResponse("m", "1", [Tensor("y", datatype, array)])

    async def scenario() -> Any:
        return await helper(copy.copy, response, deadline=soon())

    (tensor,) = run(scenario).outputs
    assert tensor.datatype is datatype
    assert tensor.array.dtype == datatype.dtype
    np.testing.assert_array_equal(tensor.array, array)
    if not datatype.dtype.hasobject:
        assert tensor.array.ctypes.data % ALIGNMENT == 0
