"""What deploy/kubernetes becomes, by kubectl's own kustomize."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
BIN = ROOT / ".tools" / "cluster" / "bin"
OVERLAYS = ("dev", "staging", "prod")
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())


def tool(name: str) -> str:
    if not (BIN / name).exists():
        pytest.fail(f"{name} is missing: make test-cluster installs it")
    return str(BIN / name)


@cache
def rendered(path: Path) -> str:
    done = subprocess.run([tool("kubectl"), "kustomize", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def overlay(name: str) -> dict[tuple[str, str], Any]:
    """The resources by their kind and name."""
    return resources(rendered(FOLDER / "overlays" / name))


def resources(text: str) -> dict[tuple[str, str], Any]:
    documents = list(yaml.safe_load_all(text))
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}
