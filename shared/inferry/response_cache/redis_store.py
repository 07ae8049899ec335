"""Entries in Redis, for any number of processes. Whatever Redis does, it costs a request no more than its time-out."""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import RedisError, ResponseError

from inferry.concurrency import on_loop
from inferry.errors import InvalidSettings
from inferry.observability import catalogue
from inferry.observability.registry import Metrics
from inferry.response_cache.keys import FORMAT
from inferry.settings import Settings

log = logging.getLogger("inferry")
T = TypeVar("T")

# Seconds for which nobody asks a Redis that was too slow or is not there, and those that connecting may take.
PAUSE, CONNECT = 5.0, 1.0
# A line for each reason in so many seconds.
_SILENCE = 60.0
# Each has one request at a time; others wait until one is free.
CONNECTIONS = 8
_CHECK = 16


class RedisStore:
    """Entries with a time to live. Belongs to one event loop.

    Requests ask over connections that stand already: to connect, with TLS, takes longer than they may wait, and goes on
    behind them. Who finds none begins it and waits for it. The others do without meanwhile, and for PAUSE seconds once
    Redis was too slow or is not there; then one of them tries again.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """InvalidSettings for a URL that Redis' client can't read."""
        self._timeout = settings.response_cache_timeout
        self._milliseconds = max(1, round(settings.response_cache_seconds * 1000))
        self._metrics = metrics
        password = {"password": settings.response_cache_password} if settings.response_cache_password else {}
        try:
            # RESP 2 greets nobody. Without time-outs and retries of the client's own: a request has one, here.
            self._pool = ConnectionPool.from_url(
                settings.response_cache_url, protocol=2, socket_timeout=None, driver_info=None, **password
            )
            connection = self._made()
            self._where = f"{connection.host}:{connection.port}"
        except (ValueError, TypeError, AttributeError, RedisError):
            # Nothing of the client's words: they may repeat a password.
            raise InvalidSettings("RESPONSE_CACHE_URL must be like redis://HOST:6379/0") from None
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._standing = self._connecting = 0
        self._left_out_until = 0.0
        self._silent_until: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, key: bytes, seconds: float) -> bytes | None:
        """The entry at a key; None where there is none, or Redis doesn't say so in time."""
        value = await self._ask(seconds, "GET", _name(key))
        if value is None:
            return None
        entry = value[len(FORMAT) + _CHECK :] if isinstance(value, bytes) else b""
        if value == _sealed(key, entry):
            return entry
        self._failed(catalogue.FOREIGN, "an entry is not one of inferry's")
        return None

    async def set(self, key: bytes, entry: bytes, seconds: float) -> None:
        """Keeps an entry, if Redis takes it in time."""
        await self._ask(seconds, "SET", _name(key), _sealed(key, entry), "PX", self._milliseconds)

    async def close(self) -> None:
        """Ends the connections that nobody uses."""
        while self._free:
            self._drop(self._free.pop())
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask(self, seconds: float, *command: Any) -> Any:
        """What Redis says to a command; None for nothing, an error, and what is not there in time."""
        now = time.monotonic()
        if now < self._left_out_until:
            return None
        if self._left_out_until:
            self._left_out_until = now + PAUSE  # for the others, while this one tries
        await on_loop()
        until = now + min(seconds, self._timeout)
        # One that Redis has closed meanwhile says so at once: then the others are too, and a new one is made.
        for _ in range(2):
            connection = await self._connection(until)
            if connection is None:
                return None
            try:
                answer = await self._within(until, _said(connection, *command))
            except ResponseError as exc:
                self._failed(catalogue.REFUSED, exc)
                answer = None
            except TimeoutError:
                self._drop(connection)
                self._leave_out(catalogue.TIMEOUT, f"no answer within {self._timeout * 1e3:g} ms")
                return None
            except Exception:  # noqa: BLE001  the client has any for bytes that are not Redis'
                for closed in (connection, *self._free):
                    self._drop(closed)
                self._free.clear()
                continue
            except BaseException:
                self._drop(connection)
                raise
            self._left_out_until = 0.0
            self._is_free(connection)
            return answer
        self._leave_out(catalogue.UNREACHABLE, "it closes connections, or does not speak as Redis does")
        return None

    async def _connection(self, until: float) -> Connection | None:
        """One that nobody uses; None where there is none in time."""
        if not self._free:
            if not self._standing:
                self._left_out_until = time.monotonic() + PAUSE
            if self._standing + self._connecting < CONNECTIONS:
                self._connecting += 1
                self._behind(self._connect())
            await self._change(until)
        return self._free.pop() if self._free else None

    async def _change(self, until: float) -> None:
        while not self._free and self._standing + self._connecting and (left := until - time.monotonic()) > 0:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await asyncio.wait((waiting,), timeout=left)
            finally:
                if not waiting.done():
                    self._waiting.remove(waiting)

    def _made(self) -> Any:
        return self._pool.make_connection()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        connection = self._made()
        try:
            async with asyncio.timeout(CONNECT):
                await connection.connect()
                # That it is too slow is found out here, and not by requests.
                start = time.monotonic()
                await _said(connection, "PING")
                took = time.monotonic() - start
        except Exception as exc:  # noqa: BLE001  as above
            self._connecting -= 1
            self._leave_out(catalogue.UNREACHABLE, str(exc) or f"no connection within {CONNECT:g} s")
            await connection.disconnect(nowait=True)
        else:
            self._connecting -= 1
            if took > self._timeout:
                self._leave_out(catalogue.TIMEOUT, f"an answer took {took * 1e3:.1f} ms")
                await connection.disconnect(nowait=True)
            else:
                self._standing += 1
                self._left_out_until = 0.0
                self._is_free(connection)

    async def _within(self, until: float, asking: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives, or raises. TimeoutError when it is not over by then."""
        task = asyncio.ensure_future(asking)
        try:
            await asyncio.wait((task,), timeout=max(until - time.monotonic(), 0))
            for _ in range(3):
                if task.done():
                    return task.result()
                # The answer may be there, and this loop have been too busy to read it.
                await asyncio.sleep(0)
            raise TimeoutError
        finally:
            if not task.done():
                task.cancel()
                self._hold(task)

    def _is_free(self, connection: Connection) -> None:
        self._free.append(connection)
        self._wake()

    def _drop(self, connection: Connection) -> None:
        self._standing -= 1
        self._behind(connection.disconnect(nowait=True))

    def _wake(self) -> None:
        """The next of those that wait looks again."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def _leave_out(self, reason: str, why: object) -> None:
        """Asks for nothing for a while."""
        self._left_out_until = time.monotonic() + PAUSE
        while self._waiting:
            self._wake()
        self._failed(reason, why)

    def _failed(self, reason: str, why: object) -> None:
        self._metrics.response_cache_failed(reason)
        if (now := time.monotonic()) >= self._silent_until.get(reason, 0.0):
            self._silent_until[reason] = now + _SILENCE
            log.warning("the response cache in Redis at %s is of no use now (%s): %s", self._where, reason, why)

    def _behind(self, work: Coroutine[Any, Any, Any]) -> None:
        """Has something done for which no request waits."""
        self._hold(asyncio.ensure_future(work))

    def _hold(self, task: "asyncio.Task[Any]") -> None:
        """Keeps a task until it is over, however it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _said(connection: Connection, *command: Any) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()


def _name(key: bytes) -> str:
    return f"{FORMAT.decode()}:{key.hex()}"


def _sealed(key: bytes, entry: bytes) -> bytes:
    """An entry with what tells that it is one, all of it, and in its place."""
    return b"".join((FORMAT, hashlib.blake2b(entry, digest_size=_CHECK, key=key).digest(), entry))
