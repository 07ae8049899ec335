"""deploy/monitoring's rules as the resource that Prometheus' operator takes: python -m deploy.kubernetes.generate."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "monitoring" / "rules"
TARGET = Path(__file__).parent / "components" / "monitoring" / "rules.yaml"
HEAD = "# Written by `python -m deploy.kubernetes.generate` from deploy/monitoring/rules.\n"


def text() -> str:
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    resource: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "inferry"},
        "spec": {"groups": groups},
    }
    return HEAD + str(yaml.safe_dump(resource, sort_keys=False, width=120))


if __name__ == "__main__":
    TARGET.write_text(text())
