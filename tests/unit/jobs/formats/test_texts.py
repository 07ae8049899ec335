"""Columns of Python's values as JSON: each its own, whatever is in them."""

from datetime import date
from typing import Any

import numpy as np
import orjson
import pytest
from inferry.jobs.formats.texts import of_plain

COLUMNS: dict[str, list[Any]] = {
    "texts": ["a", "", "ä\n", '"', "\\", ","],
    "between texts": ['a","b', '","', '"', ","],
    "an end like what is between": ['a",', '"b', "\\", '\\",'],
    "one text": ["a,b"],
    "an empty text": [""],
    "numbers": [1, -2.5, 1e300, True, None, float("nan"), 2**64 - 1],
    "one number": [1],
    "nothing": [None, None],
    "texts and nothing": ["a", None, "b"],
    "texts and numbers": ["1,2", 3],
    "lists": [[1, 2], ["a", "b"], []],
    "objects": [{"a": [1]}, {}],
    "others": [date(2026, 1, 2), np.float32(0.1)],
    "none": [],
}


@pytest.mark.parametrize("case", COLUMNS)
def test_of_plain(case: str) -> None:
    values = COLUMNS[case]
    rows, before, behind = of_plain(values)
    option = orjson.OPT_SERIALIZE_NUMPY
    assert [before + row + behind for row in rows] == [orjson.dumps(value, option=option) for value in values]
