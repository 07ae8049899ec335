"""What a server takes in of large bodies, so that no client keeps the others out."""

import asyncio
from collections.abc import Callable
from copy import copy
from typing import Any

from inferry.concurrency import Client, Lease, Shares, Turns, nobody
from inferry.errors import InferenceTimeout, Overloaded, QueueFull
from inferry.settings import Settings

# Large requests of one client that may wait for the server's other process.
MOST_WAITING = 16
# MAX_BUFFERED_BYTES where it is not set, in MAX_REQUEST_BYTES.
_BODIES = 8


class Intake:
    """Takes in the large bodies of all clients: reads them in turns, and holds so many bytes of them at most."""

    def __init__(self, settings: Settings, client: Client = nobody, waiting: Callable[[], int] = int) -> None:
        """`client`: whose a request is; `waiting`: how many of this client's wait already for who works on them."""
        self._turns = Turns(client)
        self._leases: dict[asyncio.Task[Any], Lease] = {}
        self._timeout = settings.model_timeout
        self._waiting = waiting
        self._memory = Shares(settings.max_buffered_bytes or _BODIES * settings.max_request_bytes, client)

    def for_models(self) -> "Intake":
        """The same for bodies that wait for nobody: models that are uploaded."""
        found = copy(self)
        found._waiting = int
        return found

    def check(self, size: int) -> None:
        """Before a large body of so many bytes comes, and once it is there. QueueFull, Overloaded."""
        if (waiting := self._waiting()) >= MOST_WAITING:
            raise QueueFull(f"{waiting} large requests of this client wait already; try later")
        if not self._memory.has(size):
            raise self._overloaded()

    async def turn(self) -> None:
        """Returns in a turn of the event loop that is nobody else's. InferenceTimeout after MODEL_TIMEOUT."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns()
        except TimeoutError as exc:
            raise InferenceTimeout(
                "the time for this request was over before it had its turn: the server is busy"
            ) from exc

    def hold(self, size: int) -> None:
        """So many bytes more of a body came, and stay until its task is over. Overloaded when there is no room."""
        if not self._lease().grow(size):
            raise self._overloaded()

    def hold_response(self, size: int) -> None:
        """In place of its body the request has a response of so many bytes. Overloaded when there is no room for it."""
        if not self._lease().become(size):
            raise self._overloaded()

    def _lease(self) -> Lease:
        task = asyncio.current_task()
        assert task is not None
        lease = self._leases.get(task)
        if lease is None:
            lease = self._leases[task] = self._memory.lease()
            task.add_done_callback(self._end)
        return lease

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._leases.pop(task).end()

    def _overloaded(self) -> Overloaded:
        memory = self._memory
        return Overloaded(
            f"the server holds {memory.taken} bytes of bodies, and may {memory.most}, half of it of one client "
            "(MAX_BUFFERED_BYTES): try later"
        )
