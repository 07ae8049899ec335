#!/usr/bin/env bash
# DuckDB 2.0.1: sum() of BIGINT is a HUGEINT, and COPY to Parquet writes HUGEINT as DOUBLE, without a word. The sum
# 9007199254740993 comes back as 9007199254740992.0. CAST(sum(x) AS BIGINT) keeps it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq duckdb==2.0.1
venv/bin/python - <<'EOF'
import duckdb


def copied(expression):
    duckdb.execute(f"COPY (SELECT {expression} FROM (VALUES (9007199254740992), (1)) AS t(x)) TO 'sum.parquet'")
    return duckdb.execute("FROM 'sum.parquet'").fetchone()[0]


queried = duckdb.execute("SELECT sum(x) FROM (VALUES (9007199254740992), (1)) AS t(x)").fetchone()[0]
rounded, exact = copied("sum(x)"), copied("CAST(sum(x) AS BIGINT)")
print(f"DuckDB 2.0.1, sum of BIGINT: {queried}; after COPY to Parquet: {rounded!r}; cast to BIGINT first: {exact}")
assert (queried, repr(rounded), exact) == (9007199254740993, "9007199254740992.0", 9007199254740993)
EOF
