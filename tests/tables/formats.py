"""The writers that are tried: their packages, licences, and the formats they write."""

from typing import NamedTuple


class Writer(NamedTuple):
    """`name` is that of a function of writers.py; `package` that of a pin."""

    name: str
    title: str
    package: str
    licence: str
    formats: tuple[str, ...]


TEXT = ("CSV", "JSONL", "Parquet")
WRITERS = (
    Writer("pandas", "pandas", "pandas", "BSD-3-Clause", TEXT),
    Writer("pandas_nullable", "pandas with nullable dtypes", "pandas", "BSD-3-Clause", TEXT),
    Writer("polars", "polars", "polars", "MIT", TEXT),
    Writer("duckdb", "DuckDB", "duckdb", "MIT", TEXT),
    Writer("pyarrow", "pyarrow", "pyarrow", "Apache-2.0", ("CSV", "Parquet")),
    Writer("fastparquet", "fastparquet", "fastparquet", "Apache-2.0", ("Parquet",)),
    Writer("datasets", "Hugging Face `datasets`", "datasets", "Apache-2.0", TEXT),
    Writer("pyspark", "Spark", "pyspark", "Apache-2.0", TEXT),
    Writer("numpy", "NumPy", "numpy", "BSD-3-Clause", ("NPY",)),
)
