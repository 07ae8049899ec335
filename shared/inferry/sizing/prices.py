"""What clouds ask for time, memory and requests: a dated table in prices.json, or a user's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from inferry.errors import InvalidRequest

SHIPPED = Path(__file__).with_name("prices.json")


def read(file: str = "") -> Mapping[str, Any]:
    """The prices in a file of the shape of prices.json, by default those. InvalidRequest names what is missing."""
    shipped: Mapping[str, Any] = orjson.loads(SHIPPED.read_bytes())
    if not file:
        return shipped
    try:
        given = orjson.loads(Path(file).read_bytes())
    except OSError as exc:
        raise InvalidRequest(f"can't read {file}: {exc.strerror or exc}") from exc
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"{file} is no JSON: {exc}") from exc
    if wrong := _wrong(given, shipped, ""):
        raise InvalidRequest(f"{file} is no table of prices: {wrong}; {SHIPPED} shows the shape")
    checked: Mapping[str, Any] = given
    return checked


def _wrong(given: Any, wanted: Any, path: str) -> str:
    """The first thing that is not as in the table that is shipped; empty when there is none."""
    if isinstance(wanted, dict):
        if not isinstance(given, dict):
            return f"{path or 'it'} must be an object"
        found = (_wrong(given.get(name), value, f"{path}.{name}".lstrip(".")) for name, value in wanted.items())
        return next(filter(None, found), "")
    if isinstance(wanted, int | float):
        is_number = isinstance(given, int | float) and not isinstance(given, bool) and given >= 0
        return "" if is_number else f"{path} must be a number of 0 or more, got {given!r}"
    return "" if isinstance(given, type(wanted)) else f"{path} must be {type(wanted).__name__}, got {given!r}"
