"""The fenced blocks of a page, and whether what they print is what the page says."""

import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^```(\w+)\n((?:.*\n)*?)```$(?:\n\n```text\n((?:.*\n)*?)```$)?", re.MULTILINE)
_FLOAT = r"(?<![\w.])-?\d+\.\d+(?:[eE][+-]?\d+)?(?!\w|\.\d)"
_TOKEN = re.compile(rf"\.\.\.|{_FLOAT}|\s+|\w+|.")


@dataclass(frozen=True)
class Block:
    """A fenced block; `output` is a block of text right behind it."""

    page: str
    line: int
    language: str
    text: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path, page: str) -> Iterator[Block]:
    text = path.read_text()
    for found in _FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, *found.groups())


def without_code(text: str) -> str:
    """The page's prose."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each `$ command` of a console block, with the lines under it; a command goes on while it is not complete."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = next(end for end in range(1, len(lines) + 1) if _is_complete("\n".join(lines[:end])))
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def _is_complete(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:  # an open quote
        return False
    return not command.endswith("\\")


def alike(said: str, real: str) -> bool:
    """Whether an output is what the page says: JSON as values, text word by word, "..." standing for anything.

    Floats may differ by 1e-4 of their size: ONNX Runtime's last digits depend on the processor.
    """
    try:
        return _alike_json(json.loads(said), json.loads(real))
    except ValueError:
        return _alike_text(said.strip(), real.strip())


def _alike_json(said: Any, real: Any) -> bool:
    if isinstance(said, dict) and isinstance(real, dict):
        return said.keys() == real.keys() and all(_alike_json(said[key], real[key]) for key in said)
    if isinstance(said, list) and isinstance(real, list):
        return len(said) == len(real) and all(map(_alike_json, said, real))
    if isinstance(said, str) and isinstance(real, str):
        return _alike_text(said, real)
    if isinstance(said, float) and isinstance(real, float):
        return _close(said, real)
    return type(said) is type(real) and bool(said == real)


def _alike_text(said: str, real: str) -> bool:
    tokens = _TOKEN.findall(said)
    pattern = "".join(map(_pattern, tokens))
    found = re.fullmatch(pattern, real, re.DOTALL)
    numbers = [float(token) for token in tokens if re.fullmatch(_FLOAT, token)]
    return found is not None and all(map(_close, numbers, map(float, found.groups())))


def _pattern(token: str) -> str:
    if token == "...":
        return ".*?"
    if re.fullmatch(_FLOAT, token):
        return f"({_FLOAT})"
    return r"\s+" if token.isspace() else re.escape(token)


def _close(said: float, real: float) -> bool:
    return math.isclose(said, real, rel_tol=1e-4, abs_tol=1e-6)
