"""Batch jobs over tables as people have them, against the libraries that they would take instead."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from .measure import Samples, ratio, repository, run, sample, say
from .peers.errors import PeerError
from .peers.servers import HERE, Peer, install
from .table import Row, Target, unavailable

FRAMES = Peer("frames", (), requirements=HERE / "frames/requirements.txt")
ROWS, WIDTH, GROUPS = 600_000, 64, 10_000
POLARS, DUCKDB = Target(1.2, at_least=True), Target(2, at_least=True)
MEMORY, BAD, READING = Target(0.35), Target(1.2), Target(1.5)


def tables(quick: bool) -> Iterator[Row]:
    """CSV to CSV beside polars and DuckDB; rows without results; Parquet of many row groups."""
    with TemporaryDirectory() as folder, repository("digits") as models:
        yield from csv(Path(folder), models, quick)
        yield from bad(Path(folder), models, quick)
        yield from groups(Path(folder), models)


def csv(folder: Path, models: Path, quick: bool) -> Iterator[Row]:
    """Rows a second and memory, each in a process of its own, in turns."""
    what = f"{ROWS:,} rows of {WIDTH} numbers, CSV to CSV"
    source = folder / "rows.csv"
    write_csv(source, ROWS)
    try:
        install(FRAMES)
    except PeerError as exc:
        yield unavailable(what, str(exc))
        return
    found: dict[str, Samples] = {way: {"seconds": [], "peak": []} for way in ("inferry", "polars", "duckdb")}
    for turn in range(1 if quick else 5):
        say(f"tables: CSV, turn {turn + 1}")
        for way, samples in found.items():
            once = one(models, source, folder) if way == "inferry" else frames(way, models, source, folder)
            for name, values in once.items():
                samples[name] += values
    ours = found["inferry"]
    rate = f"{ROWS / median(ours['seconds']):,.0f} /s"
    for way, said, target in (("polars", "polars in memory", POLARS), ("duckdb", "DuckDB with a UDF", DUCKDB)):
        theirs = found[way]["seconds"]
        against = f"{ROWS / median(theirs):,.0f} /s {said}"
        yield Row(what, rate, against, ratio(theirs, ours["seconds"]), target)
    peak, theirs = ours["peak"], found["polars"]["peak"]
    yield Row(
        f"memory of {what}", f"{median(peak):.0f} MB", f"{median(theirs):.0f} MB polars", ratio(peak, theirs), MEMORY
    )


def bad(folder: Path, models: Path, quick: bool) -> Iterator[Row]:
    """The memory of rows none of which has a result, against that of as many that have."""
    count = 10_000 if quick else 60_000
    say("tables: bad rows")
    good, wrong = folder / "good.csv", folder / "wrong.csv"
    write_csv(good, count)
    write_csv(wrong, count, last="x")
    (ours,), (theirs,) = (one(models, source, folder)["peak"] for source in (wrong, good))
    what = f"memory of {count:,} rows of CSV without a result"
    yield Row(what, f"{ours:.0f} MB", f"{theirs:.0f} MB the same rows, all good", ours / theirs, BAD)


def groups(folder: Path, models: Path) -> Iterator[Row]:
    """Parquet with a row group for each row, which pyarrow reads at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    say("tables: row groups")
    source = folder / "groups.parquet"
    values = np.random.default_rng(0).integers(0, 17, (GROUPS, WIDTH)).astype(np.float32)
    table = pa.table({"pixels": pa.array(list(values))})
    with pq.ParquetWriter(source, table.schema) as writer:
        for at in range(GROUPS):
            writer.write_table(table.slice(at, 1))
    samples = sample("tables", models, source, folder / "out", "reading")
    ours, theirs = samples["inferry"], samples["pyarrow"]
    against = f"{median(theirs) / GROUPS * 1e6:.0f} us pyarrow, reading alone"
    what = f"a group of Parquet with {GROUPS:,} row groups of a row"
    yield Row(what, f"{median(ours) / GROUPS * 1e6:.0f} us", against, ratio(ours, theirs), READING)


def write_csv(path: Path, count: int, last: str = "") -> None:
    """Rows of digits; with `last` the last cell of each is that."""
    import pyarrow as pa
    import pyarrow.csv

    values = np.random.default_rng(0).integers(0, 17, (count, WIDTH))
    columns = {f"c{at}": values[:, at] for at in range(WIDTH)}
    if last:
        columns[f"c{WIDTH - 1}"] = np.full(count, last)
    pyarrow.csv.write_csv(pa.table(columns), path)


def one(models: Path, source: Path, folder: Path) -> Samples:
    """Seconds and peak of a job in a process of its own."""
    return sample("tables", models, source, folder / "out")


def frames(way: str, models: Path, source: Path, folder: Path) -> Samples:
    """The same of a library."""
    script, model = str(HERE / "frames/frames.py"), str(models / "digits/2/model.onnx")
    command = (str(FRAMES.venv / "bin/python"), script, way, str(source), str(folder / f"{way}.csv"), model)
    samples: Samples = json.loads(run(command, os.environ))
    return samples
