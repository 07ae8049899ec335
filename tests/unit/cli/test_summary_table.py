"""The table that `inferry batch` ends with."""

from typing import Any

from inferry.cli.summary_table import MOST, table


def summary(files: list[dict[str, Any]], failed: list[dict[str, str]]) -> dict[str, Any]:
    totals = {name: sum(file[name] for file in files) for name in ("rows", "errors", "seconds")}
    return {**totals, "files": files, "failed": failed}


def file(name: str, rows: int, errors: int, seconds: float = 1.25) -> dict[str, Any]:
    return {"input": f"in/{name}", "output": f"out/{name}", "rows": rows, "errors": errors, "seconds": seconds}


def test_one_file() -> None:
    """Has no sum."""
    assert table(summary([file("a.csv", 1234567, 0)], [])) == (
        "file           rows    results  errors   time  output\n"
        "in/a.csv  1,234,567  1,234,567       0  1.2 s  out/a.csv\n"
    )


def test_names_and_reasons_that_are_no_line() -> None:
    found = table(summary([file("a\n.csv", 1, 1)], [{"input": "\x1b[2J", "reason": "x" * 300}]))
    assert found == (
        "file        rows  results  errors   time  output\n"
        f"\\x1b[2J        -        -       -      -  failed: {'x' * 100}...\n"
        "in/a\\n.csv     2        1       1  1.2 s  out/a\\n.csv\n"
        "2 files        2        1       1  1.2 s\n"
        "errors are in out/a\\n.csv.errors.jsonl\n"
    )


def test_of_many_files_those_that_need_a_look() -> None:
    good, bad = [file(f"{number}.csv", 2, 0) for number in range(10_000)], file("bad.csv", 1, 3)
    lines = table(summary([*good, bad], [{"input": "in/none.csv", "reason": "it is empty"}])).splitlines()
    assert [line.split()[0] for line in lines] == ["file", "in/none.csv", "in/bad.csv", "10,000", "10,002", "errors"]
    assert lines[3].endswith(
        "more                                        beside the results of each is its report, NAME.report.json"
    )
    assert lines[4].split() == ["10,002", "files", "20,004", "20,001", "3", "12,501.2", "s"]
    failed = [{"input": f"in/{number}.csv", "reason": "it is empty"} for number in range(100)]
    assert len(table(summary([], failed)).splitlines()) == MOST + 3
