"""Stages of work that overlap: threads that each take a chunk of items through all of them."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")
_Taken: TypeAlias = tuple[Callable[[], Sequence[Any]], Future[list[Any]]]


@contextmanager
def ordered_map(
    chunks: Iterable[Callable[[], Sequence[T]]],
    act: Callable[[T], R],
    shared: Callable[[], bool],
    then: Callable[[R], S],
    threads: int,
) -> Generator[Iterable[S]]:
    """For each item of each chunk `then(act(item))`, in order and up to `threads` chunks ahead.

    What is raised is raised here. One thread at a time takes a chunk, which each that was taken calls for its items,
    and one at a time acts unless it is a time for `shared` acts. All threads have ended when the block does. None of
    them hands anything to another: where work is short, waking a thread takes as long, and the kernel may leave one
    that was woken behind another on a busy processor although the next is idle. A single chunk needs no thread, which
    would take as long to start as a small file takes: `threads` are two at least, and start with two chunks.
    """
    line = _Line(chunks, act, shared, then, threads)
    first, second = line.take(), line.take()
    crew = []
    if second is not None:
        begun = [first, second, *[None] * (threads - 2)]
        crew = [threading.Thread(target=line.work, args=(taken,), daemon=True) for taken in begun]
        for number, thread in enumerate(crew):
            thread.name = f"inferry-{number}"
            thread.start()
    elif first is not None:
        line.work(first)
    try:
        yield line.made()
    finally:
        line.stopped.set()
        for thread in crew:
            while thread.is_alive():
                line.drain()
                thread.join(0.01)


class _Line:
    """What the threads of an `ordered_map` share: the chunks to take, and what was made of them, in order."""

    def __init__(
        self, chunks: Iterable[Any], act: Callable[[Any], Any], shared: Callable[[], bool], then: Any, threads: int
    ) -> None:
        self.stopped = threading.Event()
        self._ended = False
        self._chunks = iter(chunks)
        self._act, self._shared, self._then = act, shared, then
        self._taking, self._acting = threading.Lock(), threading.Lock()
        self._made: queue.Queue[Future[list[Any]] | None] = queue.Queue(threads)

    def work(self, taken: _Taken | None) -> None:
        """What each thread does: takes chunks, and works on their items, until there are none; `taken` is its first."""
        taken = taken or self.take()
        while taken is not None:
            chunk, future = taken
            try:
                future.set_result([self._through(item) for item in chunk()])
            except BaseException as exc:  # noqa: BLE001  it goes to who waits for the items
                future.set_exception(exc)
                return
            taken = self.take()

    def _through(self, item: Any) -> Any:
        with nullcontext() if self._shared() else self._acting:
            if self.stopped.is_set():
                raise CancelledError
            acted = self._act(item)
        return self._then(acted)

    def take(self) -> _Taken | None:
        """The next chunk, and where its results go; None when there is none, or none any more."""
        with self._taking:
            if self._ended or self.stopped.is_set():
                return None
            future = Future[list[Any]]()
            try:
                chunk = next(self._chunks)
            except StopIteration:
                self._ended = True
                self._made.put(None)
                return None
            except BaseException as exc:  # noqa: BLE001  as below
                self._ended = True
                future.set_exception(exc)
                self._made.put(future)
                return None
            self._made.put(future)
            return chunk, future

    def made(self) -> Generator[Any]:
        """The results of all items, in order."""
        while (future := self._made.get()) is not None:
            yield from future.result()

    def drain(self) -> None:
        """Takes results out that nobody wants, so that a thread that waits for room can go on."""
        try:
            while True:
                self._made.get_nowait()
        except queue.Empty:
            pass
