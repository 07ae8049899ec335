"""Writes every case with every writer below FOLDER/WRITER/, where these are installed: python writers.py FOLDER."""

import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cases import CASES, Case

DTYPES = {"FP64": "float64", "INT64": "int64", "BOOL": "bool", "BYTES": "object"}


def has_nulls(case: Case) -> bool:
    return any(value is None for column in case.columns.values() for value in column)


def arrow_table(case: Case) -> Any:
    import pyarrow as pa

    types = {"FP64": pa.float64(), "INT64": pa.int64(), "BOOL": pa.bool_(), "BYTES": pa.string()}
    return pa.table({name: pa.array(values, types[case.datatype]) for name, values in case.columns.items()})


def pandas(case: Case, folder: Path) -> None:
    """As a beginner does: dtypes are what pandas makes of the values."""
    import pandas as pd

    frame = pd.DataFrame(case.columns)
    frame.to_csv(folder / f"{case.name}.index.csv")
    frame.to_csv(folder / f"{case.name}.csv", index=False)
    frame.to_json(folder / f"{case.name}.jsonl", orient="records", lines=True, double_precision=15)
    frame.to_parquet(folder / f"{case.name}.parquet")
    frame[frame.index >= 0].sample(frac=1, random_state=1).sort_index().to_parquet(
        folder / f"{case.name}.index.parquet", index=True
    )


def pandas_nullable(case: Case, folder: Path) -> None:
    import pandas as pd

    dtype = {"FP64": "Float64", "INT64": "Int64", "BOOL": "boolean", "BYTES": "string"}[case.datatype]
    frame = pd.DataFrame({name: pd.array(values, dtype) for name, values in case.columns.items()})
    frame.to_csv(folder / f"{case.name}.csv", index=False)
    frame.to_json(folder / f"{case.name}.jsonl", orient="records", lines=True, double_precision=15)
    frame.to_parquet(folder / f"{case.name}.parquet")


def polars(case: Case, folder: Path) -> None:
    import polars as pl

    types = {"FP64": pl.Float64, "INT64": pl.Int64, "BOOL": pl.Boolean, "BYTES": pl.String}
    frame = pl.DataFrame(case.columns, schema=dict.fromkeys(case.columns, types[case.datatype]))
    frame.write_csv(folder / f"{case.name}.csv")
    frame.write_ndjson(folder / f"{case.name}.jsonl")
    frame.write_parquet(folder / f"{case.name}.parquet")
    frame.lazy().sink_parquet(folder / f"{case.name}.lazy.parquet", compression="lz4")


def duckdb(case: Case, folder: Path) -> None:
    import duckdb

    connection = duckdb.connect()
    connection.register("t", arrow_table(case))
    for ending, options in {
        "csv": "format csv, header",
        "jsonl": "format json",
        "parquet": "format parquet",
        "v2.parquet": "format parquet, parquet_version v2, compression zstd",
    }.items():
        connection.execute(f"copy (from t) to '{folder}/{case.name}.{ending}' ({options})")


def pyarrow(case: Case, folder: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    table = arrow_table(case)
    pyarrow.csv.write_csv(table, folder / f"{case.name}.csv")
    pq.write_table(table, folder / f"{case.name}.parquet")
    pq.write_table(
        table,
        folder / f"{case.name}.v2.parquet",
        version="2.6",
        data_page_version="2.0",
        compression="brotli",
        row_group_size=2 if len(table) < 100 else 700,
        write_statistics=False,
    )


def fastparquet(case: Case, folder: Path) -> None:
    import fastparquet
    import pandas as pd

    frame = pd.DataFrame(
        {
            name: pd.Series(values, dtype=object if case.datatype == "BYTES" else None)
            for name, values in case.columns.items()
        }
    )
    fastparquet.write(f"{folder}/{case.name}.parquet", frame, compression="GZIP")
    fastparquet.write(f"{folder}/{case.name}.index.parquet", frame, write_index=True)


def datasets(case: Case, folder: Path) -> None:
    """Hugging Face's."""
    from datasets import Dataset, Features, Value

    kind = {"FP64": "float64", "INT64": "int64", "BOOL": "bool", "BYTES": "string"}[case.datatype]
    data = Dataset.from_dict(case.columns, Features({name: Value(kind) for name in case.columns}))
    data.to_csv(f"{folder}/{case.name}.csv")
    data.to_json(f"{folder}/{case.name}.jsonl")
    data.to_parquet(f"{folder}/{case.name}.parquet")


def pyspark(case: Case, folder: Path) -> None:
    from pyspark.sql import types

    kind = {"FP64": types.DoubleType, "INT64": types.LongType, "BOOL": types.BooleanType, "BYTES": types.StringType}
    schema = types.StructType([types.StructField(name, kind[case.datatype](), True) for name in case.columns])
    rows = list(zip(*case.columns.values(), strict=True))
    frame = spark().createDataFrame(rows, schema).coalesce(1)
    for ending, options in {"csv": {"header": "true"}, "json": {}, "parquet": {}}.items():
        parts = folder / f"{case.name}-{ending}"
        frame.write.format(ending).options(**options).save(str(parts))
        [part] = parts.glob("part-*")
        part.rename(folder / f"{case.name}.{'jsonl' if ending == 'json' else ending}")
        shutil.rmtree(parts)


def spark() -> Any:
    from pyspark.sql import SparkSession

    local = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false"}
    builder = SparkSession.builder.master("local[1]")
    for name, value in local.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def numpy(case: Case, folder: Path) -> None:
    """An array of the columns side by side, and one with named fields."""
    import numpy as np

    if has_nulls(case) and case.datatype != "FP64":
        return
    dtype = np.dtype(DTYPES[case.datatype] if case.datatype != "BYTES" else "U40")
    columns = [
        np.array([math.nan if value is None else value for value in column], dtype) for column in case.columns.values()
    ]
    np.save(
        folder / f"{case.name}.npy",
        np.rec.fromarrays(columns, names=",".join(case.columns))  # type: ignore[call-overload]
        .view(np.ndarray)
        .astype([(n, dtype) for n in case.columns]),
    )
    np.save(folder / f"{case.name}.array.npy", np.stack(columns, axis=1))
    np.save(folder / f"{case.name}.fortran.npy", np.asfortranarray(np.stack(columns, axis=1)))


WRITERS: dict[str, Callable[[Case, Path], None]] = {
    writer.__name__: writer
    for writer in (pandas, pandas_nullable, polars, duckdb, pyarrow, fastparquet, datasets, pyspark, numpy)
}

if __name__ == "__main__":
    root = Path(sys.argv[1])
    os.environ |= {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": f"{root}/hf",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    for name in sys.argv[2:] or WRITERS:
        folder = root / name
        folder.mkdir(parents=True)
        for case in CASES:
            WRITERS[name](case, folder)
