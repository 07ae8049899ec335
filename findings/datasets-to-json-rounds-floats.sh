#!/usr/bin/env bash
# Hugging Face datasets 5.2.0: Dataset.to_json() writes floats with ten decimals: 1/7 as 0.1428571429, 1e-12 as 0.0.
# JSON could hold every float exactly; double_precision=15, the most that is allowed, still loses digits of 1/7.
set -euo pipefail
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export HF_HOME=$dir
python3 -m venv venv
venv/bin/pip install -qq datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
venv/bin/python - <<'EOF'
import json

from datasets import Dataset


def written(value, **options):
    Dataset.from_dict({"a": [value]}).to_json("rows.jsonl", **options)
    with open("rows.jsonl") as lines:
        return json.load(lines)["a"]


seen = [written(1 / 7), written(1e-12)]
most = written(1 / 7, double_precision=15)
print(f"datasets 5.2.0, to_json: {1 / 7!r} becomes {seen[0]!r}, 1e-12 becomes {seen[1]!r}; with 15 digits {most!r}")
assert seen == [0.1428571429, 0.0]
assert most != 1 / 7
EOF
