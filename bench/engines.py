"""Rows a second in Spark on this machine: inferry, and a pandas UDF around ONNX Runtime."""

import json
import os
from collections.abc import Iterator
from statistics import median

from .measure import MODELS, ROOT, Samples, ratio, run, say
from .table import Row, Target, unavailable

TARGET = Target(1.5, at_least=True)
PYTHON = ROOT / ".tools" / "engines" / "bin" / "python"
CHILD = ROOT / "bench" / "children" / "engines.py"
SHAPES = {"lists": "a column of lists", "columns": "64 columns"}


def engines(quick: bool) -> Iterator[Row]:
    """A row for each form that the 64 numbers of `digits` have in the table."""
    names = {shape: f"rows/s of digits in Spark, {said}" for shape, said in SHAPES.items()}
    if not PYTHON.exists():
        yield from (unavailable(name, "make test-engines installs Spark", TARGET) for name in names.values())
        return
    say("engines: Spark")
    rows, turns = (20_000, 2) if quick else (200_000, 9)
    command = (str(PYTHON), str(CHILD), str(MODELS / "digits/2/model.onnx"), str(rows), str(turns))
    samples: Samples = json.loads(run(command, os.environ))
    for shape, name in names.items():
        ours, theirs = samples[f"{shape} inferry"], samples[f"{shape} udf"]
        against = f"{rows / median(theirs):,.0f} /s a pandas UDF with onnxruntime"
        yield Row(name, f"{rows / median(ours):,.0f} /s", against, ratio(theirs, ours), TARGET)
