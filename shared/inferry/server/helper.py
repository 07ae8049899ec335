"""A process beside the server that does what would hold up its event loop: the bodies of large requests and responses.

A thread would not do: whatever parses JSON holds the interpreter's lock until it is through. What goes over is pickled,
arrays and bodies beside the pickle, so that neither side copies them while it holds that lock.
"""

import asyncio
import io
import logging
import marshal
import math
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from inferry.concurrency import Client, RoundRobin, nobody
from inferry.errors import InferenceFailed, InferenceTimeout, InferryError
from inferry.protocol.tensors import Array, memory

T = TypeVar("T")

log = logging.getLogger("inferry")

# It has the memory of the largest body that came, which goes back with it.
IDLE_SECONDS = 30.0
_SOCKET_BYTES = 1 << 20
# How often a process is killed until its work has ended.
_KILL_SECONDS = 0.1
# Strings that are made, or written down, at a time: each batch holds the interpreter's lock for two milliseconds.
_STRINGS = 20_000
_NICE = 3
_COUNT = struct.Struct("<Q")
_MAIN = "import sys; from inferry.server.helper import main; main(int(sys.argv[1]))"


class HelperProcess:
    """A process of that kind: it is started when the first large body comes, and again when it has died.

    It has one piece of work at a time; the others wait, those of each client behind one another.
    """

    def __init__(self, client: Client = nobody) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inferry-helper")
        self._turn = RoundRobin(client)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def __call__(self, function: Callable[..., T], *arguments: Any, deadline: float) -> T:
        """What a function of a module makes of the arguments, and what it raises.

        InferenceTimeout at `deadline` (time.monotonic), InferenceFailed when the process dies of it.
        """
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._turn.acquire()
                try:
                    if self._idle is not None:
                        self._idle.cancel()
                    return await self._asked(function, arguments)
                finally:
                    self._turn.release()
        except TimeoutError as exc:
            raise InferenceTimeout(
                "the time for this request was over while its body, or that of its response, was worked on"
            ) from exc

    def waiting(self) -> int:
        """How much work of this client waits."""
        return self._turn.waiting

    def close(self) -> None:
        """Ends the process, which must have nothing to do."""
        self._retire()
        self._thread.shutdown()

    async def _asked(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._exchange, function, arguments)
        try:
            done, value = await asyncio.shield(work)
        except asyncio.CancelledError:
            # Nobody wants it any more, and nothing else ends it. Its process may only be about to start.
            while not work.done():
                if self._process is not None:
                    self._process.kill()
                await asyncio.wait([work], timeout=_KILL_SECONDS)
            work.exception()  # that it was killed
            raise
        self._idle = loop.call_later(IDLE_SECONDS, self._retire)
        if not done:
            try:
                raise value
            finally:
                del value, work  # else it would hold this frame, and that the arguments
        result: T = value
        return result

    def _retire(self) -> None:
        """Ends the process, which has nothing to do: it is too little to wait for."""
        if self._process is not None:
            self._process.kill()
        self._ended()

    def _exchange(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        channel = self._connected()
        try:
            _send(channel, _packed((function, arguments)))
            reply: tuple[bool, Any] = _receive(channel)
            return reply
        except (OSError, EOFError) as exc:
            status = self._ended()
            raise InferenceFailed(
                f"the process that works on large bodies ended with status {status}; if there was no memory left, send "
                "fewer rows at a time"
            ) from exc

    def _connected(self) -> socket.socket:
        if self._process is not None and self._process.poll() is None and self._socket is not None:
            return self._socket
        if self._process is not None:
            self._ended()
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            command = (sys.executable, "-P", "-c", _MAIN, str(theirs.fileno()))
            self._process = subprocess.Popen(  # noqa: S603  this file in another process
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        self._socket = ours
        return ours

    def _ended(self) -> int:
        """Buries the process, and returns its exit status."""
        process, channel = self._process, self._socket
        self._process = self._socket = None
        if channel is not None:
            channel.close()
        if process is None:
            return 0
        with suppress(subprocess.TimeoutExpired):
            return process.wait(1)
        process.kill()
        return process.wait()


def main(descriptor: int) -> None:
    """Does what it is sent, until the server ends."""
    # Ctrl-C is for the server, whose end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Small requests come first, where they need all CPUs: of one, this gets a third then.
    os.nice(_NICE)
    # Where memory is short, a request is to fail and not the server.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with socket.socket(fileno=descriptor) as channel:
        while True:
            try:
                function, arguments = _receive(channel)
                _answer(channel, function, arguments)
            except (EOFError, OSError):
                return
            del function, arguments


def _answer(channel: socket.socket, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        reply = _packed((True, _beside(function(*arguments))))
    except InferryError as exc:
        reply = _packed((False, exc.with_traceback(None)))
    except Exception as exc:
        log.exception("a large body could not be worked on")
        reply = _packed((False, RuntimeError(f"{type(exc).__name__}: {exc}")))
    _send(channel, reply)


def _beside(value: Any) -> Any:
    """A body, alone or with its headers, goes beside the pickle as arrays do, and comes as a view of memory."""
    if isinstance(value, bytes):
        return pickle.PickleBuffer(value)
    if isinstance(value, tuple) and value and isinstance(value[0], bytes):
        return (pickle.PickleBuffer(value[0]), *value[1:])
    return value


def _packed(value: Any) -> list[memoryview]:
    """The value as it goes over: a pickle, and what lies beside it."""
    buffers: list[pickle.PickleBuffer] = []
    text = _dumped(value, buffers)
    return [memoryview(text), *(buffer.raw() for buffer in buffers)]


def _send(channel: socket.socket, raws: Sequence[memoryview]) -> None:
    channel.sendall(_COUNT.pack(len(raws)) + struct.pack(f"<{len(raws)}Q", *map(len, raws)))
    for raw in raws:
        channel.sendall(raw)


def _receive(channel: socket.socket) -> Any:
    """What the other side sent. EOFError when it has gone."""
    (count,) = _COUNT.unpack(_read(channel, _COUNT.size))
    text, *buffers = [_read(channel, size) for size in struct.unpack(f"<{count}Q", _read(channel, 8 * count))]
    return pickle.loads(text, buffers=buffers)  # noqa: S301  this server's own, and its helper's


def _read(channel: socket.socket, size: int) -> memoryview:
    """So many bytes, on the boundary that arrays start on."""
    block, offset = memory(size)
    view = memoryview(block)[offset : offset + size]  # type: ignore[arg-type]
    got = 0
    while got < size:
        read = channel.recv_into(view[got:], 0, socket.MSG_WAITALL)
        if not read:
            raise EOFError
        got += read
    return view


class _Pickler(pickle.Pickler):
    """Numbers and bodies go beside the pickle, strings in lists that are read one by one."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                return _strings, (value.shape, *map(pickle.PickleBuffer, _lists(value.reshape(-1))))
            if not value.flags.c_contiguous:
                return np.ascontiguousarray(value).__reduce_ex__(5)
        return NotImplemented


def _lists(flat: Array) -> Iterator[bytes]:
    for start in range(0, len(flat), _STRINGS):
        since = time.perf_counter()
        yield marshal.dumps(flat[start : start + _STRINGS].tolist(), 2)
        _rest(since)


def _strings(shape: tuple[int, ...], *lists: memoryview) -> Array:
    """The array of these strings, in steps: NumPy alone would fill it while nobody else has the interpreter's lock."""

    def strings() -> Iterator[str]:
        since = time.perf_counter()
        for text in lists:
            yield from marshal.loads(text)  # noqa: S302  as above
            _rest(since)
            since = time.perf_counter()

    following = strings().__next__
    flat: Array = np.frompyfunc(lambda _: following(), 1, 1)(np.empty(math.prod(shape), np.int8))
    return flat.reshape(shape)


def _rest(since: float) -> None:
    """Lets others have the interpreter's lock for longer than this has had it; a helper has no others."""
    if threading.current_thread() is not threading.main_thread():
        time.sleep(1.5 * (time.perf_counter() - since))


def _dumped(value: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, 5, buffer_callback=buffers.append).dump(value)
    return file.getvalue()
