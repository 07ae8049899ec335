"""What is refused, and why; and what a writer loses itself, so that no reader finds it."""

from collections.abc import Callable
from typing import Any

REFUSED: dict[str, str] = {
    # "WRITER/FILE SHAPE" to a part of the reason of the file, or of its rows.
    # Objects have names, and so have fields of arrays: a model of one input wants its own, or has `columns`.
    r".*/(?!.*-one).*\.jsonl row": "have the members",
    r"numpy/(?!.*-one)[a-z-]*\.npy row": "has no array 'x'",
    # The index is one column more than a row of values has.
    r"fastparquet/(?!.*-one).*\.index\.parquet row": r"columns for input 'x'",
    # fastparquet makes a column of bytes of one without values.
    r"fastparquet/(floats|ints)-all-null\.(index\.)?parquet \w+": "holds bytes",
    # Spark leaves out what is missing: a row without anything could be anyone's.
    r"pyspark/floats-(one-|all-)?null\.jsonl \w+": "has none of the names",
    # Spark writes them as texts.
    r"pyspark/floats-(nan|infinite)\.jsonl \w+": r"got the string '(NaN|-?Infinity)'",
    # Spark escapes quotes with a backslash, which is not CSV: option("escape", '"') makes it so.
    r"pyspark/texts\.csv \w+": "a quote in a cell is written twice",
}

INFINITE = (float("inf"), float("-inf"))


def _no_infinity(value: Any) -> Any:
    return None if value in INFINITE else value


def _no_minus(value: Any) -> Any:
    return 0.0 if repr(value) == "-0.0" else value


# Spark writes no line at all for a row whose only column has no value.
GONE = r"pyspark/.*-one-null\.csv"

LOST: dict[str, Callable[[Any], Any]] = {
    # "WRITER/FILE" to what becomes of a value.
    r"(pandas|pandas_nullable|polars|datasets)/floats-infinite\.jsonl": _no_infinity,
    r"(pandas|pandas_nullable|datasets)/.*\.jsonl": _no_minus,
    r".*/texts-null\.(index\.)?csv": lambda value: "" if value is None else value,
    r"pandas(_nullable)?/floats-digits\.jsonl": lambda value: value and round(value, 15),
    r"datasets/floats-digits\.jsonl": lambda value: value and round(value, 10),
    r"pyspark/texts(-words)?\.csv": lambda value: value.strip(),
}
