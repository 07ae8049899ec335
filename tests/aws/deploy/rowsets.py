"""Files of rows that differ, and what a run here makes of them."""

import json
from pathlib import Path
from random import Random
from typing import Any

from assemblies import ROOT
from deployed import CARD
from inferry.cli.main import main

DIGIT = CARD["example"]["inputs"][0]["data"]
NAMES = ["id", *(f"p{number}" for number in range(len(DIGIT)))]
MODELS = ROOT / "models"


def lines(start: int, count: int, random: Random) -> bytes:
    """Rows with an id, one in twenty without a usable image, no two with the same."""
    rows = ({"id": row, "pixels": _pixels(row, random)} for row in range(start, start + count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def table(start: int, count: int, random: Random) -> bytes:
    """The same as CSV."""
    rows = ([row, *_pixels(row, random)] for row in range(start, start + count))
    text = (",".join(map(str, [*row, *[""] * (len(NAMES) - len(row))])) for row in rows)
    return "\n".join([",".join(NAMES), *text, ""]).encode()


def _pixels(row: int, random: Random) -> list[Any]:
    return ["?"] if random.random() < 0.05 else [row % 17, row // 17 % 17, row // 289 / 7, *DIGIT[3:]]


def straight(files: dict[str, bytes], folder: Path, *more: str) -> dict[str, bytes]:
    """The results of `inferry batch` here."""
    for name, content in files.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    main(["batch", f"{folder}/in", f"{folder}/out", "--models", str(MODELS), "--model", "digits", *more])
    found = [path for path in (folder / "out").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder / "out")): path.read_bytes() for path in found}


def without_reports(files: dict[str, bytes]) -> dict[str, bytes]:
    """Those name the places, and say how long it took."""
    return {name: content for name, content in files.items() if not name.endswith((".report.json", ".run.json"))}
