"""Writes the files of tests/contract/files/ again: python small_files.py FOLDER, with the packages of writers.txt.

Those that are there were written by pandas 3.1.1, polars 2.1.0, DuckDB 2.0.1, pyarrow 26.0.1, NumPy 2.4.6 and
fastparquet 2026.9.0.
"""

import sys
from pathlib import Path

import duckdb
import fastparquet
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq

TABLE = {"id": [7, 8, 12], "a": [1.0, 3.0, 5.5], "b": [2.0, 4.0, -1.0]}


def wide_lines(folder: Path) -> None:
    pd.DataFrame(TABLE).to_json(folder / "pandas_wide.jsonl", orient="records", lines=True)
    pl.DataFrame(TABLE).write_ndjson(folder / "polars_wide.jsonl")
    duckdb.sql(
        f"copy (from (values (7, 1.0, 2.0), (8, 3.0, 4.0), (12, 5.5, -1)) t(id, a, b)) to '{folder}/duckdb_wide.json'"
    )
    pd.DataFrame(TABLE).to_json(folder / "pandas_records.json", orient="records", indent=1)
    pd.DataFrame(TABLE).to_json(folder / "pandas_wide.jsonl.bz2", orient="records", lines=True)
    pd.DataFrame(TABLE).to_json(folder / "pandas_wide.jsonl.xz", orient="records", lines=True)


def types(folder: Path) -> None:
    frame = pd.DataFrame({"colour": ["red", "blue", "red"], "size": ["s", "s", "m"]})
    dummies = pd.get_dummies(frame)
    dummies.to_parquet(folder / "pandas_dummies.parquet")
    dummies.to_csv(folder / "pandas_dummies.csv", index=False)
    pd.DataFrame({"x": [1.0, 3.0, None]}).to_parquet(folder / "pandas_whole.parquet")
    pd.DataFrame({"x": [1.0, 3.0, None]}).to_csv(folder / "pandas_whole.csv", index=False)
    pd.DataFrame({"x": pd.Categorical(["b", "a", "b"])}).to_parquet(folder / "pandas_category.parquet")
    pd.DataFrame({"x": pd.Categorical([3.5, 1.0, 3.5])}).to_parquet(folder / "pandas_category_number.parquet")
    duckdb.sql(f"copy (select 1.5 as a, 22.25 as b) to '{folder}/duckdb_decimal.parquet'")
    duckdb.sql(f"copy (select [1.5, 22.25] as x) to '{folder}/duckdb_decimals.parquet'")
    duckdb.sql(f"copy (select {{'a': 1.5::float, 'b': 2::float}} as row) to '{folder}/duckdb_struct.parquet'")
    pl.DataFrame({"x": ["first", "second"]}).write_ipc(folder / "polars_views.arrow")
    fastparquet.write(f"{folder}/fastparquet_bytes.parquet", pd.DataFrame({"x": [b"one", "zwölf".encode()]}))
    nulls = pa.table({"a": pa.nulls(2), "b": [1.0, 2.0]})
    pq.write_table(nulls, folder / "pyarrow_null.parquet")
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.float32).reshape(4, 2))
    pq.write_table(pa.table({"x": tensors}), folder / "pyarrow_tensor.parquet")


def arrays(folder: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 3.0, 5.5], "b": [2.0, 4.0, -1.0]})
    np.save(folder / "numpy_frame.npy", frame.to_numpy())
    np.save(folder / "numpy_big_endian.npy", frame.to_numpy().astype(">f4"))
    np.save(folder / "numpy_half.npy", frame.to_numpy().astype("f2"))
    np.savez(folder / "numpy_frames.npz", x=frame.to_numpy())
    named = np.array([(1.0, 2.0), (3.0, 4.0)], [("gröẞe", "f4"), ("b", "f4")])
    np.save(folder / "numpy_3_0.npy", named)


def tables(folder: Path) -> None:
    frame = pd.DataFrame(TABLE, index=["r1", "r2", "r3"])
    frame.to_csv(folder / "pandas_index.csv")
    frame.to_parquet(folder / "pandas_index.parquet")
    pd.DataFrame({"id": ["007", "12"], "a": [1.0, 3.0], "b": [2.0, 4.0]}).to_csv(folder / "pandas_ids.csv", index=False)
    duckdb.sql(
        f"copy (from (values (1.0, 2.0, 'x=1', 5), (3.0, 4.0, null, 6)) t(a, b, kind, day)) to '{folder}/hive' "
        "(format parquet, partition_by (day, kind))"
    )


def formats(folder: Path) -> None:
    frame = pd.DataFrame(TABLE)
    frame.to_feather(folder / "pandas.feather")
    frame.to_orc(folder / "pandas.orc")
    frame.to_csv(folder / "pandas.csv.bz2", index=False)
    frame.to_csv(folder / "pandas.csv.xz", index=False)
    frame.to_csv(folder / "pandas.tsv", index=False, sep="\t")
    frame.to_csv(folder / "pandas_semicolons.csv", index=False, sep=";", decimal=",")
    text = pd.DataFrame({"x": ['say "a"; b', "back\\slash", "it's"]})
    text.to_csv(folder / "pandas_escaped.csv", index=False, sep=";", quotechar='"', doublequote=False, escapechar="\\")
    duckdb.sql(f"copy (from (values (1.0, 2.0), (null, 4.0)) t(a, b)) to '{folder}/duckdb_null.csv' (nullstr '\\N')")


if __name__ == "__main__":
    for write in (wide_lines, types, arrays, tables, formats):
        write(Path(sys.argv[1]))
