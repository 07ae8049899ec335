"""The rows of the table, and the table as text or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

HEAD = ("what", "measured", "against", "value", "target", "met?")
RATIO, MICROSECONDS, MILLISECONDS, MEGABYTES, PERCENT = "x", " us", " ms", " MB", " %"


@dataclass(frozen=True)
class Target:
    """The value may be `limit` at most, or with `at_least` at least."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, unit: str) -> str:
        return f"{'>=' if self.at_least else '<='} {number(self.limit, unit)}"


@dataclass(frozen=True)
class Row:
    """One comparison; without a target it is there to be read, without a value `against` gives the reason."""

    what: str
    measured: str
    against: str
    value: float | None = None
    target: Target | None = None
    unit: str = RATIO

    @property
    def met(self) -> str:
        """Empty where there is nothing to judge."""
        if self.target is None:
            return ""
        if self.value is None:
            return "?"
        return "yes" if self.target.met(self.value) else "NO"

    def cells(self) -> tuple[str, ...]:
        """The row's texts, as many as HEAD has."""
        value = "" if self.value is None else number(self.value, self.unit)
        target = "" if self.target is None else self.target.text(self.unit)
        return self.what, self.measured, self.against, value, target, self.met


def unavailable(what: str, reason: str, target: Target | None = None, unit: str = RATIO) -> Row:
    """The row of what can't be measured here."""
    return Row(what, "unavailable", " ".join(reason.split())[:160], None, target, unit)


def number(value: float, unit: str) -> str:
    """Ratios with two digits behind the point, everything else with one."""
    return f"{value:.2f}{unit}" if unit == RATIO else f"{value:.1f}{unit}"


def as_text(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (HEAD, rule, *lines[1:])
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for a page."""
    cells = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in cells)
