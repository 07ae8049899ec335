#!/usr/bin/env bash
# pyarrow 26.0.1: casting list_view to list empties the last list, without an error: [[1], [2]] becomes [[1], []].
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq pyarrow==26.0.1
venv/bin/python - <<'EOF'
import pyarrow as pa

views = pa.array([[1], [2]], pa.list_view(pa.int64()))
lists = views.cast(pa.list_(pa.int64()))
print(f"pyarrow 26.0.1, list_view to list: {views.to_pylist()} becomes {lists.to_pylist()}")
assert views.to_pylist() == [[1], [2]]
assert lists.to_pylist() == [[1], []]
EOF
