"""What `inferry batch` shows while it works."""

from io import StringIO

import pytest
from inferry.cli.progress import Display
from inferry.jobs.part_writer import Progress
from inferry.jobs.report import Report


class Stream(StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def report(rows: int, errors: int, seconds: float) -> Report:
    return Report("finished", "in", "out", rows, errors, seconds, "m", "1", "digest", "etag", "key")


def shown(terminal: bool, times: list[float]) -> str:
    """A file of four looks at the times given, another that fails."""
    stream, clock = Stream(terminal), iter([0.0, *times, 100.0])
    display = Display(stream, lambda: next(clock))
    display.files = 2
    display.start("a.csv")
    for progress in (Progress(10, 0, 0.0), Progress(1000, 1, 0.25), Progress(4000, 2, 1.0)):
        display.show(progress)
    display.done(3998, 2, 1.25)
    display.start("b.csv")
    display.failed("b.csv is empty")
    return stream.getvalue()


CLEAR = "\r\x1b[K"


def test_a_bar_on_a_terminal() -> None:
    assert shown(True, [1.0, 2.0, 3.0, 3.05]) == (
        f"{CLEAR}[1/2] a.csv  10 rows, 10 rows/s, 0 errors"
        f"{CLEAR}[1/2] a.csv  ######..................  25%  1,000 rows, 500 rows/s, 1 error, 0:06 left"
        f"{CLEAR}a.csv: 3,998 rows, 2 errors, 1.2 s\n"
        f"{CLEAR}b.csv: failed: b.csv is empty\n"
    )


def test_lines_elsewhere() -> None:
    assert shown(False, [0.0, 5.0, 4000.0, 4001.0]) == (
        "[1/2] a.csv  ######..................  25%  1,000 rows, 0 rows/s, 1 error, 3:20:00 left\n"
        "a.csv: 3,998 rows, 2 errors, 1.2 s\n"
        "b.csv: failed: b.csv is empty\n"
    )


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state": "finished"}', b"\xff"])
def test_a_report_of_somebody_else(content: bytes) -> None:
    assert Report.from_json(content) is None


def test_a_report_comes_back() -> None:
    assert Report.from_json(report(1, 2, 0.5).to_json()) == report(1, 2, 0.5)
