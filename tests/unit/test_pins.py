"""What `make` installs is the same everywhere: exact versions, and no lock file that says from where they come."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = r"[0-9]+(\.[0-9]+)*([a-z.]+[0-9]+)?"
LISTS = ("constraints.txt", "requirements.txt", *(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/*.txt")))


def test_programs_from_npm() -> None:
    versions = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    assert {name for name, version in versions.items() if not re.fullmatch(VERSION, version)} == set()
    assert {"aws-cdk", "azurite"} <= set(versions)
    assert "npm install --no-package-lock" in (ROOT / "Makefile").read_text()
    assert [path.name for path in ROOT.glob("*lock*")] == []


@pytest.mark.parametrize("name", LISTS)
def test_packages(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(rf"[A-Za-z0-9._\[\]-]+=={VERSION}( ; .*)?", line)] == []
