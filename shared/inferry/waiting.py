"""Answers that wait for something, and those that don't.

Most answers of a loaded model wait for nothing. A host that has one request at a time may take such an answer's first
step itself, `coroutine.send(None)`, and is done: an event loop costs more than the prediction of a small model, and
asyncio more to import than all of inferry. What does wait says so first, so that the host can run the rest on a loop.
"""

from collections.abc import Generator
from types import coroutine


@coroutine
def on_loop() -> Generator[None, None, None]:
    """Returns when an event loop runs this coroutine: at once where one does, else when its host has handed it over."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        yield
