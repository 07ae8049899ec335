"""Threads that are made when their first work comes, and coroutines that say when they need an event loop.

Most predictions of a loaded model wait for nothing. A caller that has one request at a time may take the first step of
its coroutine itself, `coroutine.send(None)`, and is done: an event loop costs more than the prediction of a small
model, and asyncio more to import than all of inferry. What does wait says so first (`on_loop`), so that the caller
can run the rest on a loop.
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from asyncio import Future
    from concurrent.futures import ThreadPoolExecutor


T = TypeVar("T")

# Whose the request is that is worked on now, in whatever words; "" for nobody's in particular.
Client: TypeAlias = Callable[[], str]


def nobody() -> str:
    """The client where nobody tells one from another."""
    return ""


class Threads:
    """Up to `count` threads; belongs to one event loop."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> "ThreadPoolExecutor":
        """The threads, the same ones each time."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
        return self._pool

    def close(self) -> None:
        """Ends the threads, once what runs has ended."""
        if self._pool is not None:
            self._pool.shutdown()


class Helper(Protocol):
    """What runs a function of a module, with arguments that can be pickled, and raises what it raises."""

    async def __call__(self, function: Callable[..., T], *arguments: Any, deadline: float) -> T:
        """InferenceTimeout at `deadline` (time.monotonic)."""


# What had the event loop for over TURN seconds leaves time to the others before it, or its like, has it again: between
# steps of one request OTHERS times as much, between turns of several as much.
TURN, OTHERS = 0.001, 2


class Pause:
    """Between many small steps of one request on the event loop: lets the others have twice the time that it had.

    What is over soon need not wait.
    """

    _SOON = 0.02

    def __init__(self) -> None:
        self._began = self._since = time.perf_counter()

    async def __call__(self) -> None:
        now = time.perf_counter()
        if now - self._since < TURN or now - self._began < self._SOON:
            return
        await on_loop()
        import asyncio

        await asyncio.sleep(OTHERS * min(now - self._since, self._SOON))
        self._since = time.perf_counter()


class RoundRobin:
    """A lock that goes from client to client: however many of one wait for it, the others have theirs in between."""

    def __init__(self, client: Client = nobody) -> None:
        """`client`: whose the request is that is worked on now."""
        self._client = client
        self._taken = False
        # Those that wait, by client; the first client is the next.
        self._waiting: dict[str, deque[Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many of this client wait."""
        return len(self._waiting.get(self._client(), ()))

    async def acquire(self) -> None:
        """Returns when nobody else has it, at once where nobody has."""
        if not self._taken:
            self._taken = True
            return
        import asyncio

        queue = self._waiting.setdefault(self._client(), deque())
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this one's turn already
                self.release()
            elif turn in queue:
                queue.remove(turn)
            raise

    def release(self) -> None:
        """Gives it to one of the next client."""
        while self._waiting:
            client = next(iter(self._waiting))
            queue = self._waiting.pop(client)
            while queue:
                turn = queue.popleft()
                if turn.done():  # it was cancelled just now
                    continue
                if queue:
                    self._waiting[client] = queue
                turn.set_result(None)
                return
        self._taken = False


class Turns:
    """Turns of an event loop for what takes milliseconds of it: however many want one, the others have as much time.

    Whoever has one does its work without waiting for anything.
    """

    _MOST = 0.1

    def __init__(self, client: Client = nobody) -> None:
        self._lock = RoundRobin(client)
        self._pause_ends = 0.0

    async def __call__(self) -> None:
        """Returns in a turn that nobody else has, at once where nobody wants one or had a long one just now."""
        import asyncio

        await self._lock.acquire()
        pause = self._pause_ends - time.perf_counter()
        if pause > 0:
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                self._lock.release()
                raise
        asyncio.get_running_loop().call_soon(self._worked, time.perf_counter())  # behind the work of this one

    def _worked(self, since: float) -> None:
        now = time.perf_counter()
        if now - since > TURN:
            # As long: half of the time is the others', and a client that is alone keeps more than half of its rate.
            self._pause_ends = now + min(now - since, self._MOST)
        self._lock.release()


class Shares:
    """An amount that all clients have together, and each of them half of it at most. Belongs to one event loop."""

    def __init__(self, most: int, client: Client = nobody) -> None:
        self.most = most
        self.taken = 0
        self._client = client
        self._of: dict[str, int] = {}

    def has(self, amount: int) -> bool:
        """Whether so much is left for this client."""
        return self.has_for(self._client(), amount)

    def has_for(self, client: str, amount: int) -> bool:
        """Whether so much is left for a client."""
        return self.taken + amount <= self.most and self._of.get(client, 0) + amount <= self.most // 2

    def add(self, client: str, amount: int) -> None:
        """Adds to what a client has taken, or gives back."""
        self.taken += amount
        of_client = self._of.get(client, 0) + amount
        self._of[client] = of_client
        if not of_client:
            del self._of[client]

    def lease(self) -> "Lease":
        """A part of this client's, of nothing yet."""
        return Lease(self, self._client())


class Lease:
    """What one request has of `Shares`."""

    def __init__(self, shares: Shares, client: str) -> None:
        self._shares, self._client, self._amount = shares, client, 0

    def grow(self, amount: int) -> bool:
        """Takes more, unless there is not so much left."""
        return self.become(self._amount + amount)

    def become(self, amount: int) -> bool:
        """Takes so much in place of what it has, unless there is not so much left; alone it may have any amount."""
        more, alone = amount - self._amount, self._shares.taken == self._amount
        if more > 0 and not alone and not self._shares.has_for(self._client, more):
            return False
        self._shares.add(self._client, more)
        self._amount = amount
        return True

    def end(self, *_: object) -> None:
        """Gives it all back."""
        self.become(0)


@coroutine
def on_loop() -> Generator[None, None, None]:
    """Returns when an event loop runs this coroutine: at once where one does, else when its host has handed it over."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        yield
