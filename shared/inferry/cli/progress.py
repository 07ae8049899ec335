"""The progress of batch jobs: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from typing import TextIO

from inferry.jobs.part_writer import Progress

WIDTH = 24
# Seconds between two looks of the bar, and between two lines where there is no terminal.
BAR, LINES = 0.1, 10.0
CLEAR = "\r\x1b[K"


class Display:
    """Writes to `stream`, a line for each file that is done and the progress of the one that is not."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._every = BAR if self._terminal else LINES
        self.files = 1
        self._number = 0
        self._name = ""
        self._start = self._next = clock()

    def start(self, name: str) -> None:
        """Begins a file (or run) of this name: what follows is about it."""
        self._number += 1
        self._name = name
        self._start = self._clock()
        self._next = self._start + self._every

    def show(self, progress: Progress) -> None:
        """Shows how far the file is. It may be called often: most calls write nothing."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._every
        line = _line(progress, now - self._start)
        bar = f"[{self._number}/{self.files}] {self._name}  {_bar(progress)}{line}"
        self._write(f"{CLEAR}{bar}" if self._terminal else f"{bar}\n")

    def done(self, rows: int, errors: int, seconds: float) -> None:
        """Ends the display of a file that has its results."""
        self._end(f"{_many(rows, 'row')}, {_many(errors, 'error')}, {seconds:.1f} s")

    def failed(self, reason: str) -> None:
        """Ends the file, which has no results for this reason."""
        self._end(f"failed: {reason}")

    def say(self, text: str) -> None:
        """Writes a line that is about none of the files."""
        self._write(f"{CLEAR if self._terminal else ''}{text}\n")

    def _end(self, text: str) -> None:
        self.say(f"{self._name}: {text}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _line(progress: Progress, seconds: float) -> str:
    rate = progress.rows / seconds if seconds else 0.0
    text = f"{_many(progress.rows, 'row')}, {rate:,.0f} rows/s, {_many(progress.errors, 'error')}"
    if progress.share <= 0:
        return text
    left = seconds / progress.share - seconds
    return f"{text}, {_duration(left)} left"


def _bar(progress: Progress) -> str:
    if progress.share <= 0:
        return ""
    full = int(progress.share * WIDTH)
    return f"{'#' * full}{'.' * (WIDTH - full)} {progress.share:4.0%}  "


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
