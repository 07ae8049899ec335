"""The rows of a CSV file through the digits model, to another CSV: frames.py polars|duckdb SOURCE TARGET MODEL.

Polars holds the file and its results in memory. DuckDB reads and writes as it goes, and calls a function over Arrow's
arrays. Prints seconds from the imports on, and the megabytes that the process had at most.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

STARTED = time.perf_counter()

# ruff: noqa: E402
import onnxruntime as ort

WIDTH, CLASSES = 64, 10


def with_polars(source: str, target: str, session: ort.InferenceSession) -> None:
    """All rows in one run."""
    import polars as pl

    frame = pl.read_csv(source)
    label, found = session.run(None, {session.get_inputs()[0].name: frame.cast(pl.Float32).to_numpy(order="c")})
    columns = {f"probabilities_{at}": found[:, at] for at in range(CLASSES)}
    pl.DataFrame({"label": label, **columns}).write_csv(target)


def with_duckdb(source: str, target: str, session: ort.InferenceSession) -> None:
    """As many rows in a run as DuckDB gives its functions."""
    import duckdb
    import pyarrow as pa

    name = session.get_inputs()[0].name
    names = ["label", *(f"probabilities_{at}" for at in range(CLASSES))]

    def predict(lists: pa.ChunkedArray) -> pa.Array:
        values = lists.combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
        label, found = session.run(None, {name: values})
        columns = [pa.array(label), *(pa.array(found[:, at]) for at in range(CLASSES))]
        return pa.StructArray.from_arrays(columns, names)

    connection = duckdb.connect()
    returned = f"STRUCT({names[0]} BIGINT, {', '.join(f'{each} FLOAT' for each in names[1:])})"
    connection.create_function("predict", predict, ["FLOAT[]"], returned, type="arrow")
    cells = ", ".join(f"c{at}::FLOAT" for at in range(WIDTH))
    connection.execute(f"COPY (SELECT unnest(predict([{cells}])) FROM read_csv('{source}')) TO '{target}' (HEADER)")


def peak() -> float:
    """Megabytes; getrusage would count those of the process that started this one."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


WAYS: dict[str, Callable[[str, str, ort.InferenceSession], None]] = {"polars": with_polars, "duckdb": with_duckdb}

if __name__ == "__main__":
    way, source, target, model = sys.argv[1:]
    WAYS[way](source, target, ort.InferenceSession(model))
    seconds = time.perf_counter() - STARTED
    print(json.dumps({"seconds": [seconds], "peak": [peak()]}))
