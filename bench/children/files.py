"""A batch job over a file, and the least that could be done with it, in turns: files.py MODELS FOLDER FORMAT N.

MODELS holds one model, FOLDER is there to write to. Prints seconds per row: of jobs as "inferry", for `digits` of the
file read at once and run at once as "plain", for `encoder` of runs over arrays that are in memory as "session".
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json
import pyarrow.parquet as pq
from inferry.jobs.runner import Job, run
from inferry.protocol.tensors import Array, aligned
from inferry.runtime.model import Model
from inferry.service import Service
from inferry.settings import Settings

ROWS = {"digits": 100_000, "encoder": 1_000}
TOKENS = 16
BATCHES = (1, 8, 16, 32)
# Of malloc.h. The other side holds a file at once: giving that much back each time would cost it a fault for each page.
M_TRIM_THRESHOLD = -1


def rows(name: str) -> Array:
    """Digits have the values that pixels have, tokens are those of any text."""
    rng, count = np.random.default_rng(0), ROWS[name]
    if name == "digits":
        return rng.integers(0, 17, (count, 64)).astype(np.float32)
    return rng.integers(1, 2000, (count, TOKENS))


def write(path: Path, values: Array, name: str) -> None:
    """The rows as a file of the format that `path` says."""
    _WRITE[path.suffix](path, values, name)


def _jsonl(path: Path, values: Array, name: str) -> None:
    values = values.astype(np.int64)
    path.write_bytes(b"".join(orjson.dumps({"features": row}) + b"\n" for row in values.tolist()))


def _csv(path: Path, values: Array, name: str) -> None:
    columns = {f"c{index}": column for index, column in enumerate(values.astype(np.int64).T)}
    arrow_csv.write_csv(pa.table(columns), path)


def _parquet(path: Path, values: Array, name: str) -> None:
    pq.write_table(pa.table({name: _lists(values)}), path)


def _lists(values: Array) -> Any:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, values.reshape(-1))


_WRITE: Mapping[str, Callable[[Path, Array, str], object]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
    ".npy": lambda path, values, _: np.save(path, values),
}


def _flat(column: Any, dtype: Any) -> Array:
    flat: Array = column.combine_chunks().flatten().to_numpy()
    return flat.astype(dtype).reshape(-1, 64)


def _columns(path: Path) -> Array:
    return np.column_stack([column.to_numpy() for column in arrow_csv.read_csv(path).columns]).astype(np.float32)


READ: Mapping[str, Callable[[Path], Array]] = {
    ".jsonl": lambda path: _flat(arrow_json.read_json(path)["features"], np.float32),
    ".csv": _columns,
    ".parquet": lambda path: _flat(pq.read_table(path)["pixels"], np.float32),
    ".npy": np.load,
}


def once(model: Model, values: Array) -> None:
    """All rows in one run, wherever they lie in memory."""
    name, outputs = next(iter(model.session.signature.inputs)), list(model.session.signature.outputs)
    model.session.run({name: values}, outputs, time.monotonic() + 100)


def runs(model: Model, values: Array, batch: int) -> None:
    """All rows through the session, some at a time."""
    name, outputs = next(iter(model.session.signature.inputs)), list(model.session.signature.outputs)
    for start in range(0, len(values), batch):
        model.session.run({name: aligned(values[start : start + batch])}, outputs, time.monotonic() + 100)


def fastest(model: Model, values: Array) -> int:
    """The batch size that takes the least time."""

    def seconds(batch: int) -> float:
        start = time.perf_counter()
        runs(model, values[:128], batch)
        return time.perf_counter() - start

    return min(BATCHES, key=lambda batch: min(seconds(batch) for _ in range(2)))


def measure(models: Path, folder: Path, suffix: str, count: int) -> dict[str, list[float]]:
    """Samples of both, after a turn to warm up."""
    service = Service.from_settings(Settings(model_path=str(models)))
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 1 << 30)
    name = service.repository.names()[0]
    model, values, path = service.repository.get(name), rows(name), folder / f"rows{suffix}"
    write(path, values, next(iter(model.session.signature.inputs)))
    job = Job(input=str(path), output=f"{folder}/out/", model=name)
    ways: dict[str, Callable[[], object]] = {"inferry": lambda: run(job, service)}
    if name == "digits":
        ways["plain"] = lambda: once(model, READ[suffix](path))
    else:
        batch = fastest(model, values)
        ways["session"] = lambda: runs(model, values, batch)
    samples: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + count):
        rmtree(folder / "out", ignore_errors=True)
        for way, act in ways.items():
            start = time.perf_counter()
            act()
            samples[way].append((time.perf_counter() - start) / len(values))
    service.close()
    return {way: seconds[1:] for way, seconds in samples.items()}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))))
