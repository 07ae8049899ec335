"""Stages of work that overlap: each in a thread, with a short queue behind it."""

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


@contextmanager
def ahead(items: Iterable[T], depth: int, name: str) -> Generator[Iterable[T]]:
    """`items` as another thread makes them, up to `depth` ahead of who takes them; what it raises is raised here.

    The thread has ended when the block does.
    """
    made: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def make() -> None:
        end: Any = (_END, None)
        try:
            for item in items:
                made.put((item, None))
                if stopped.is_set():
                    return
        except BaseException as exc:  # noqa: BLE001  it goes to who waits for the items
            end = (_END, exc)
        finally:
            made.put(end)

    def take() -> Generator[T]:
        while True:
            item, exc = made.get()
            if item is _END:
                if exc is not None:
                    raise exc
                return
            yield item

    thread = threading.Thread(target=make, name=name, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        while thread.is_alive():
            _drain(made)
            thread.join(0.01)


def _drain(made: "queue.Queue[Any]") -> None:
    try:
        while True:
            made.get_nowait()
    except queue.Empty:
        pass
