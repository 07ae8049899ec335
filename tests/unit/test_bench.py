"""The page of results is written by a whole run and by no other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.measure import ChildFailed
from bench.table import Row, Target


def fast(quick: bool) -> Iterator[Row]:
    yield Row("a start", "12.5 ms", "10.0 ms NumPy | alone", 1.25, Target(1.3))


def memory(quick: bool) -> Iterator[Row]:
    yield Row("memory", "66.2 MB", "55.7 MB alone", 10.5, Target(8.0), " MB")


def broken(quick: bool) -> Iterator[Row]:
    raise ChildFailed("no such program")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "bench-results.md"
    monkeypatch.setattr(bench, "PAGE", path)
    monkeypatch.setattr(bench, "ROWS", {"fast": fast, "memory": memory})
    return path


def ran(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    return bench.main()


def test_a_whole_run_writes_the_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch) == 0
    title, head, conditions, table, medians = page.read_text().split("\n\n")
    assert title == "# Benchmark results"
    assert re.match(r"Written by `make bench` on 20\d\d-\d\d-\d\d\. ", head)
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    expected = rf"{re.escape(cpu[1])}, \d+ cores, " if cpu else ""
    assert re.match(expected, conditions)
    assert re.search(
        r"; Python 3\.[^;]*; numpy [^;]*, onnxruntime .*; load average at the start \d+\.\d\.$", conditions
    )
    assert table.splitlines() == [
        "| what | measured | against | value | target | met? |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a start | 12.5 ms | 10.0 ms NumPy \\| alone | 1.25x | <= 1.30x | yes |",
        "| memory | 66.2 MB | 55.7 MB alone | 10.5 MB | <= 8.0 MB | NO |",
    ]
    assert medians.startswith("Medians")


@pytest.mark.parametrize("arguments", [["--quick"], ["fast"], ["fast", "memory"]])
def test_a_part_or_a_look_writes_nothing(page: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    assert ran(monkeypatch, *arguments) == 0
    assert not page.exists()


def test_nor_does_a_run_that_failed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.ROWS, "broken", broken)
    assert ran(monkeypatch) == 1
    assert not page.exists()
