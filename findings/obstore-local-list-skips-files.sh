#!/usr/bin/env bash
# obstore 0.12.1: a LocalStore does not list files whose names end in # and digits (object_store's mark of unfinished
# uploads): "run#1" is left out without an error, "run#1.csv" and "run#a" are there. Reading "run#1" is an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq obstore==0.12.1
venv/bin/python - <<'EOF'
import os

import obstore
from obstore.store import LocalStore

os.mkdir("files")
for name in ("run#1", "run#1.csv", "run#a"):
    with open(f"files/{name}", "w") as file:
        file.write("1\n")
store = LocalStore("files")
listed = sorted(entry["path"] for entry in obstore.list(store).collect())
print(f"obstore 0.12.1, LocalStore: {sorted(os.listdir('files'))} are listed as {listed}")
assert listed == ["run#1.csv", "run#a"]
EOF
