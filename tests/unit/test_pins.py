"""What `make` installs is the same everywhere: exact versions, and no lock file that says from where they come."""

import json
import re
import tomllib
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


IMAGES = {path.stem: path for path in sorted((ROOT / "images" / "packages").glob("*.txt"))}


def test_each_image_has_its_list() -> None:
    made = re.search(r"^IMAGES = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made
    assert sorted(IMAGES) == sorted(made[1].split())
    dockerfiles = {
        name: (ROOT / name / "Dockerfile").read_text() for name in ("functions", "azure_app", "deploy/server")
    }
    assert all("--require-hashes --no-deps" in text for text in dockerfiles.values())
    assert "images/packages/azure,batch,otel.txt" in dockerfiles["azure_app"]
    assert "ARG EXTRAS=aws,batch\n" in dockerfiles["functions"]
    assert "ARG EXTRAS=server,grpc,postgres,redis\n" in dockerfiles["deploy/server"]
    assert 'EXTRAS = "aws,batch"' in (ROOT / "cdk" / "image.py").read_text()
    for text in dockerfiles.values():
        # Whoever wants a base by its digest gives it.
        assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${BASE_IMAGE}", "scratch"}


@pytest.mark.parametrize("extras", IMAGES)
def test_packages_of_an_image_are_pinned_by_their_hashes(extras: str) -> None:
    """At the versions of constraints.txt: `make lock` writes both."""
    blocks = IMAGES[extras].read_text().replace(" \\\n", "\n").strip().split("\n")
    pins = [line for line in blocks if not line.startswith(" ")]
    known = (ROOT / "constraints.txt").read_text().splitlines()
    assert [pin for pin in pins if pin not in known] == []
    assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", line) for line in blocks if line.startswith(" "))
    unhashed = [pin for pin, after in zip(blocks, [*blocks[1:], ""], strict=True) if pin in pins and after[:1] != " "]
    assert unhashed == []
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *wanted["dependencies"],
        *(x for extra in extras.split(",") for x in wanted["optional-dependencies"][extra]),
    ]
    needed = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in lines}
    assert needed <= {pin.split("==")[0] for pin in pins}
