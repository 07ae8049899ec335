#!/usr/bin/env bash
# PySpark 4.3.0: in CSV of a single column, a row whose value is null gets no line at all. Seven rows, three of them
# null, give four lines, so lines no longer match rows. Needs Java 17 or newer.
set -euo pipefail
command -v java >/dev/null || { echo "This script needs Java 17 or newer." >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq pyspark==4.3.0
venv/bin/python - 2>errors <<'EOF' || { cat errors >&2; exit 1; }
import pathlib

from pyspark.sql import SparkSession

loopback = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
spark = SparkSession.builder.master("local[1]").config(map=loopback).getOrCreate()
rows = [(1,), (None,), (2,), (None,), (3,), (None,), (4,)]
spark.createDataFrame(rows, "value int").coalesce(1).write.csv("table")
spark.stop()
text = "".join(path.read_text() for path in pathlib.Path("table").glob("part-*.csv"))
print(f"PySpark 4.3.0, {len(rows)} rows of one column give {len(text.splitlines())} lines: {text!r}")
assert text == "1\n2\n3\n4\n"
EOF
