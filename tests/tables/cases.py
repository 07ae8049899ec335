"""The tables, as plain columns, whoever writes them. Both environments read this: standard library only."""

from typing import Any, NamedTuple

NAN = float("nan")


class Case(NamedTuple):
    """Columns of values, None where there is none; the datatype of all of them in the protocol."""

    name: str
    datatype: str
    columns: dict[str, list[Any]]


def wide(rows: int, width: int) -> dict[str, list[Any]]:
    return {f"f{column}": [row + column / 8 for row in range(rows)] for column in range(width)}


CASES = (
    Case("floats", "FP64", {"a": [1.5, -2.25, 0.1, 1e300, 5e-324], "b": [0.0, -0.0, 3.0, 1e-7, -123456.789]}),
    Case("floats-null", "FP64", {"a": [1.5, None, 0.1, None], "b": [None, 2.0, 3.0, None]}),
    Case("floats-nan", "FP64", {"a": [1.5, NAN, 0.1], "b": [NAN, 2.0, NAN]}),
    Case("floats-infinite", "FP64", {"a": [1.5, float("inf")], "b": [float("-inf"), 2.0]}),
    Case("floats-digits", "FP64", {"a": [1 / 3, 0.25], "b": [0.5, 1 / 3]}),
    Case("floats-one", "FP64", {"x": [1.5, -2.25, 0.1]}),
    Case("floats-one-null", "FP64", {"x": [1.5, None, 0.1, None, None, 4.0, None]}),
    Case("ints", "INT64", {"a": [1, -2, 2**53 + 1, -(2**63)], "b": [0, 7, 2**63 - 1, 10**15]}),
    Case("ints-null", "INT64", {"a": [1, None, 3], "b": [4, 5, None]}),
    Case("ints-one", "INT64", {"x": [3, 1, 2]}),
    Case("ints-one-null", "INT64", {"x": [3, None, 2, None]}),
    Case("bools", "BOOL", {"a": [True, False, True], "b": [False, False, True]}),
    Case("bools-null", "BOOL", {"a": [True, None, False], "b": [False, True, None]}),
    Case("bools-one", "BOOL", {"x": [True, False]}),
    Case(
        "texts",
        "BYTES",
        {"a": ["plain", "a, comma", 'a "quote"', "grün 雨"], "b": ["two\nlines", " spaces ", "1.5", "true"]},
    ),
    Case("texts-null", "BYTES", {"a": ["one", None, "three"], "b": ["x", "y", None]}),
    Case("texts-one", "BYTES", {"x": ["one", "NA", "null", "#5"]}),
    Case("texts-words", "BYTES", {"a": ["", "N/A", "NaN", "nan"], "b": ["-", "\t", "\\n", "0x1F"]}),
    Case("bools-one-null", "BOOL", {"x": [True, None, False]}),
    Case("ints-all-null", "INT64", {"a": [None, None], "b": [1, 2]}),
    Case("floats-all-null", "FP64", {"a": [None, None], "b": [1.0, None]}),
    Case("wide", "FP64", wide(5, 40)),
    Case("wide-null", "FP64", {**wide(5, 40), "f7": [1.0, None, 3.0, None, 5.0]}),
    Case("long-null", "INT64", {"a": [None if n % 7 == 3 else n for n in range(3000)], "b": list(range(3000))}),
    Case(
        "long-floats",
        "FP64",
        {"a": [n / 8 for n in range(3000)], "b": [None if n > 2500 else -n / 4 for n in range(3000)]},
    ),
    Case("long", "INT64", {"a": list(range(3000)), "b": [-n for n in range(3000)]}),
)
