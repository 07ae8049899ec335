#!/usr/bin/env bash
# deltalake 1.6.6: a table asked for as it was at a time before its first commit is not refused. load_as_version gives
# version 0, with its rows, as if the table had been there.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq deltalake==1.6.6 pyarrow==26.0.1
venv/bin/python - <<'EOF'
from datetime import datetime, timezone

import deltalake
import pyarrow as pa

deltalake.write_deltalake("table", pa.table({"id": [1, 2, 3]}))
table = deltalake.DeltaTable("table")
long_ago = datetime(2000, 1, 1, tzinfo=timezone.utc)
made = datetime.fromtimestamp(table.history()[0]["timestamp"] / 1000, timezone.utc)
assert long_ago < made
table.load_as_version(long_ago)
rows = table.to_pyarrow_table().num_rows
print(f"deltalake 1.6.6: a table of {made:%Y} as of {long_ago:%Y} is version {table.version()} with {rows} rows")
assert (table.version(), rows) == (0, 3)
EOF
