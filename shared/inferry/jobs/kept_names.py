"""Columns that are carried over to the results, under their own names or others.

NAME is written as NAME, and NAME=AS as AS. What is behind the last = counts, and nothing there means the own name: a
column that is called a=b is kept with `a=b=`, or as c with `a=b=c`. "*" stands for all columns that are not named.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from inferry.errors import InvalidRequest
from inferry.runtime.model import Model

ALL = "*"
# What Hive calls the partition of rows without a value.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def columns(keep: Sequence[str], model: Model, found: Sequence[str] = (), drop: Sequence[str] = ()) -> dict[str, str]:
    """The columns by the names that they get; `found`: what "*" is, less what it may not be, those to `drop`.

    InvalidRequest when something else in the results has such a name.
    """
    named = [_parted(item) for item in keep if item != ALL]
    others = {*drop, *(column for column, _ in named)}
    pairs = [(name, name) for name in found if name not in others] if ALL in keep else []
    kept: dict[str, str] = {}
    for column, name in (*pairs, *named):
        if name in kept:
            raise _taken(name, column, "another column that is kept")
        if name in model.session.signature.outputs:
            raise _taken(name, column, f"an output of model '{model.name}'")
        kept[name] = column
    return kept


def _parted(item: str) -> tuple[str, str]:
    """NAME or NAME=AS, as the column and the name that it gets."""
    column, is_renamed, name = item.rpartition("=")
    return (column, name or column) if is_renamed else (item, item)


def named(keep: Sequence[str]) -> tuple[str, ...]:
    """The columns that are named one by one, which are no inputs where these aren't named."""
    return tuple(dict.fromkeys(_parted(item)[0] for item in keep if item != ALL))


def partition(url: str) -> dict[str, Any]:
    """The keys of Hive's partitions in a file's folders, with their values: day=5/kind=x%3D1 has 5 and "x=1"."""
    found: dict[str, Any] = {}
    for folder in url.split("/")[:-1]:
        key, is_key, value = folder.partition("=")
        if is_key and key:
            found[unquote(key)] = None if value == _NULL else _value(unquote(value))
    return found


def _value(text: str) -> Any:
    """A number where printing it gives the same text."""
    try:
        number = int(text)
    except ValueError:
        return text
    return number if str(number) == text and abs(number) < 1 << 63 else text


def check_header(header: bytes, keep: Mapping[str, str]) -> None:
    """InvalidRequest when a part of an output, which has a column of its own in CSV, has the name of a kept one."""
    names = next(csv.reader(io.StringIO(header.decode())), [])
    for name, column in keep.items():
        if names.count(name) > 1:
            raise _taken(name, column, "a column of an output")


def _taken(name: str, column: str, by: str) -> InvalidRequest:
    return InvalidRequest(
        f"the column '{name}' to keep has the name of {by}: write it under another one, as --keep {column}=truth does"
    )
