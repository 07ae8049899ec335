"""What became of the files of `inferry batch`, as a table for people: it is printed when the run is over."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inferry.observability.logs import printable

# Files that are listed; of more, those that have no errors are only counted.
MOST = 20
_HEAD = ("file", "rows", "results", "errors", "time", "output")
# Characters of a reason, which was printed whole when its file failed, and is in the report.
_REASON = 100
# Files, outputs and reasons; the rest are numbers.
_TEXTS = ("file", "output")


def table(summary: Mapping[str, Any]) -> str:
    """The lines for a summary as `inferry batch --json` prints it: its files, their sum, and where the errors are."""
    files, failed = summary["files"], summary["failed"]
    listed = [*map(_failed, failed), *map(_file, files)]
    is_long = len(listed) > MOST
    if is_long:
        listed = [*map(_failed, failed), *map(_file, filter(_has_errors, files))][:MOST]
    left = len(files) + len(failed) - len(listed)
    if left:
        listed.append((f"{left:,} more", "", "", "", "", "beside the results of each is its report, NAME.report.json"))
    if len(files) + len(failed) > 1:
        listed.append((f"{len(files) + len(failed):,} files", *_numbers(summary), ""))
    lines = [*_aligned([_HEAD, *listed]), *_where([file["output"] for file in files if _has_errors(file)])]
    return "".join(f"{line}\n" for line in lines)


def _has_errors(file: Mapping[str, Any]) -> bool:
    return bool(file["errors"])


def _file(file: Mapping[str, Any]) -> Sequence[str]:
    return (printable(file["input"]), *_numbers(file), printable(file["output"]))


def _failed(file: Mapping[str, Any]) -> Sequence[str]:
    reason = printable(file["reason"])
    short = reason if len(reason) <= _REASON else f"{reason[:_REASON]}..."
    return (printable(file["input"]), "-", "-", "-", "-", f"failed: {short}")


def _numbers(counts: Mapping[str, Any]) -> Sequence[str]:
    rows, errors = counts["rows"], counts["errors"]
    return f"{rows + errors:,}", f"{rows:,}", f"{errors:,}", f"{counts['seconds']:,.1f} s"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(width) if name in _TEXTS else cell.rjust(width)
            for name, cell, width in zip(_HEAD, line, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _where(outputs: Sequence[str]) -> Iterator[str]:
    """The files with the errors of single rows."""
    for output in outputs[:MOST]:
        yield f"errors are in {printable(output)}.errors.jsonl"
