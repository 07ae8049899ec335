"""Columns that are carried over to the results, under their own names or others.

NAME is written as NAME, and NAME=AS as AS. What is behind the last = counts, and nothing there means the own name: a
column that is called a=b is kept with `a=b=`, or as c with `a=b=c`.
"""

import csv
import io
from collections.abc import Mapping, Sequence

from inferry.errors import InvalidRequest
from inferry.runtime.model import Model


def columns(keep: Sequence[str], model: Model) -> dict[str, str]:
    """The columns by the names that they get. InvalidRequest when something else in the results has such a name."""
    found: dict[str, str] = {}
    for item in keep:
        column, is_renamed, name = item.rpartition("=")
        name, column = (name or column, column) if is_renamed else (item, item)
        if name in found:
            raise _taken(name, column, "another column that is kept")
        if name in model.session.signature.outputs:
            raise _taken(name, column, f"an output of model '{model.name}'")
        found[name] = column
    return found


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
