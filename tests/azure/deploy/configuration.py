"""The Terraform configuration as Python values, and Terraform itself where it is installed."""

import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "terraform" / "azure"
ENVIRONMENTS = ("dev", "staging", "prod")
_OPTIONS = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
_TRAVERSAL = re.compile(r"(?<![\w.\"-])(?:data\.)?[a-z]\w*(?:\.[a-z_]\w*|\[(?:\d+|\"\w+\"|[\w.]+)\])+")


def sources() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(FOLDER.glob("*.tf"))}


@cache
def blocks(kind: str) -> tuple[dict[str, Any], ...]:
    """All blocks of a kind, as python-hcl2 reads them."""
    files = (hcl2.loads(text, serialization_options=_OPTIONS) for text in sources().values())
    return tuple(block for file in files for block in file.get(kind, ()))


def named(kind: str) -> dict[str, dict[str, Any]]:
    """Blocks with one label by their name: variables and outputs."""
    return {name: body for block in blocks(kind) for name, body in block.items()}


def resources(kind: str = "resource") -> dict[str, dict[str, Any]]:
    """Blocks with two labels by their address."""
    return {
        f"{type_}.{name}": body
        for block in blocks(kind)
        for type_, instances in block.items()
        for name, body in instances.items()
    }


def values() -> dict[str, Any]:
    """The locals of all files."""
    return {name: value for block in blocks("locals") for name, value in block.items()}


def attributes(path: str) -> dict[str, Any]:
    """A file of values."""
    return dict(hcl2.loads((FOLDER / path).read_text(), serialization_options=_OPTIONS))


def given(environment: str) -> dict[str, Any]:
    """What an environment's two files say."""
    by_hand = attributes(f"environments/{environment}.tfvars")
    generated = json.loads((FOLDER / f"environments/{environment}.app.tfvars.json").read_text())
    assert not by_hand.keys() & generated.keys()
    return {**by_hand, **generated}


def references(text: str) -> Iterator[str]:
    """The addresses that expressions of a file name: var.x, local.x, TYPE.NAME and data.TYPE.NAME."""
    code = re.sub(r"(?m)(?:^|\s)#.*$", "", text)
    for found in _TRAVERSAL.findall(code):
        parts = re.split(r"[.\[]", found)
        if parts[0] in ("var", "local"):
            yield ".".join(parts[:2])
        elif parts[0] == "data":
            yield ".".join(parts[:3])
        elif parts[0].startswith(("azapi_", "azurerm_", "random_")):
            yield ".".join(parts[:2])


def generator() -> Mapping[str, Any]:
    return runpy.run_path(str(FOLDER / "generate.py"))


def terraform(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Terraform, without a look at the tester's own configuration."""
    if shutil.which("terraform") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("terraform is missing")
        pytest.skip("terraform is missing")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "TF_CLI_CONFIG_FILE": os.devnull,
    }
    return subprocess.run(
        ["terraform", f"-chdir={folder}", *arguments], env=env, capture_output=True, text=True, timeout=60
    )
