"""Threads that are made when their first work comes, and coroutines that say when they need an event loop.

Most predictions of a loaded model wait for nothing. A caller that has one request at a time may take the first step of
its coroutine itself, `coroutine.send(None)`, and is done: an event loop costs more than the prediction of a small
model, and asyncio more to import than all of inferry. What does wait says so first (`on_loop`), so that the caller
can run the rest on a loop.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from concurrent.futures import Future as Work
    from concurrent.futures import ThreadPoolExecutor


T = TypeVar("T")

# Whose the request is that is worked on now, in whatever words; "" for nobody's in particular.
Client: TypeAlias = Callable[[], str]


def nobody() -> str:
    """The client where nobody tells one from another."""
    return ""


class FairQueue(Generic[T]):
    """What waits. Clients take turns; what is one client's stays in the order in which it came."""

    def __init__(self) -> None:
        # By client; the first client is the next.
        self._of: dict[str, deque[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """In the order of turns: the first of each client, then the second of each."""
        queues = [[*queue] for queue in self._of.values()]
        for turn in range(max(map(len, queues), default=0)):
            yield from (queue[turn] for queue in queues if turn < len(queue))

    def of(self, client: str) -> int:
        """How many are this client's."""
        return len(self._of.get(client, ()))

    def add(self, client: str, item: T) -> None:
        """The last of its client's."""
        self._of.setdefault(client, deque()).append(item)
        self._count += 1

    def remove(self, client: str, item: T) -> bool:
        """Takes it out; False where it is not there any more."""
        queue = self._of.get(client)
        if queue is None:
            return False
        try:
            queue.remove(item)
        except ValueError:
            return False
        if not queue:
            del self._of[client]
        self._count -= 1
        return True

    def serve(self, client: str, item: T) -> None:
        """Takes it out, whose client then waits for the others."""
        self.remove(client, item)
        if (queue := self._of.pop(client, None)) is not None:
            self._of[client] = queue

    def pop(self) -> T:
        """Serves the first of the next client. There must be one."""
        client, queue = next(iter(self._of.items()))
        item = queue[0]
        self.serve(client, item)
        return item

    def surplus(self, client: str) -> T | None:
        """The last of whoever has most, if that is more than this client would have with one more; else None."""
        most = max(self._of.values(), key=len, default=None)
        return most[-1] if most is not None and len(most) > self.of(client) + 1 else None


class Threads:
    """Up to `count` threads, which work for clients in turns."""

    def __init__(self, count: int, name: str, client: Client = nobody) -> None:
        """`client`: whose the request is that is worked on now."""
        self.client = client
        self._count = count
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._waiting: FairQueue[tuple[Work[Any], Callable[..., Any], tuple[Any, ...]]] = FairQueue()

    def pool(self) -> "ThreadPoolExecutor":
        """The threads, the same ones each time."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
        return self._pool

    def submit(self, client: str, function: Callable[..., T], *arguments: Any) -> "Work[T]":
        """What becomes of the function, which a thread calls when it is this client's turn."""
        from concurrent.futures import Future

        work: Work[T] = Future()
        with self._lock:
            self._waiting.add(client, (work, function, arguments))
        self.pool().submit(self._work)  # on whatever is next by then
        return work

    def run(self, client: str, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """The same for a coroutine on an event loop."""
        import asyncio

        return asyncio.wrap_future(self.submit(client, function, *arguments))

    def _work(self) -> None:
        with self._lock:
            work, function, arguments = self._waiting.pop()
        if not work.set_running_or_notify_cancel():
            return
        try:
            work.set_result(function(*arguments))
        except BaseException as exc:  # noqa: BLE001  who waits for it gets it
            work.set_exception(exc)
            del work  # else it would hold this frame, and that the arguments

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
        self._waiting: FairQueue[Future[None]] = FairQueue()

    @property
    def waiting(self) -> int:
        """How many of this client wait."""
        return self._waiting.of(self._client())

    async def acquire(self) -> None:
        """Returns when nobody else has it, at once where nobody has."""
        if not self._taken:
            self._taken = True
            return
        import asyncio

        client, turn = self._client(), asyncio.get_running_loop().create_future()
        self._waiting.add(client, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this one's turn already
                self.release()
            else:
                self._waiting.remove(client, turn)
            raise

    def release(self) -> None:
        """Gives it to one of the next client."""
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():  # else it was cancelled just now
                turn.set_result(None)
                return
        self._taken = False


class Turns:
    """Turns of an event loop for what takes milliseconds of it: however many want one, the others have as much time.

    Whoever has one does its work without waiting for anything. Behind a long one those pause who had long ones
    themselves, of whatever client; who had none goes first.
    """

    _MOST, _REMEMBERED = 0.1, 1.0

    def __init__(self, client: Client = nobody) -> None:
        self._client = client
        self._lock, self._pausing = RoundRobin(client), RoundRobin(client)
        self._pause_ends = 0.0
        # Clients that had a long turn, and until when that counts.
        self._long: dict[str, float] = {}

    async def __call__(self) -> None:
        """Returns in a turn that nobody else has, at once where nobody wants one or had a long one just now."""
        import asyncio

        client, pauses = self._client(), False
        while True:
            if pauses := self._has_long_ones(client):
                await self._pause()
            try:
                await self._lock.acquire()
            except asyncio.CancelledError:
                if pauses:
                    self._pausing.release()
                raise
            if pauses or not self._has_long_ones(client):
                break
            self._lock.release()  # another request of this client had one meanwhile
        # Behind the work of this one.
        asyncio.get_running_loop().call_soon(self._worked, client, pauses, time.perf_counter())

    def _has_long_ones(self, client: str) -> bool:
        return self._long.get(client, 0.0) > time.perf_counter()

    async def _pause(self) -> None:
        """Returns behind the pause, with the lock of those that have one."""
        import asyncio

        await self._pausing.acquire()
        try:
            while (pause := self._pause_ends - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            self._pausing.release()
            raise

    def _worked(self, client: str, paused: bool, since: float) -> None:
        now = time.perf_counter()
        if now - since > TURN:
            # As long: half of the time is the others', and a client that is alone keeps more than half of its rate.
            self._pause_ends = now + min(now - since, self._MOST)
            self._long = {one: until for one, until in self._long.items() if until > now}
            self._long[client] = now + self._REMEMBERED
        self._lock.release()
        if paused:
            self._pausing.release()


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


def call_on_loop(loop: "AbstractEventLoop", function: Callable[[], Any]) -> None:
    """Has a loop call it, from any thread; not one that was closed meanwhile."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


@coroutine
def on_loop() -> Generator[None, None, None]:
    """Returns when an event loop runs this coroutine: at once where one does, else when its host has handed it over."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        yield
