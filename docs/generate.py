"""Writes the table of settings into settings.md: `python docs/generate.py`."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from inferry.settings import Settings

PAGE = Path(__file__).parent / "settings.md"
START, END = "<!-- settings: written by docs/generate.py -->\n", "<!-- end of settings -->\n"


def page(text: str) -> str:
    """`text` with the table that the code says, between the two marks."""
    before, _, rest = text.partition(START)
    return before + START + _table() + END + rest.partition(END)[2]


def _table() -> str:
    rows = [(f"`{f.name.upper()}`", _default(f.default), f.metadata["help"]) for f in fields(Settings)]
    lines = [("Variable", "Default", "Meaning"), ("---", "---", "---"), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
