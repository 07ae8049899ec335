"""Writes requirements.txt, which `func` publishes: `python deploy/azure/requirements.py`.

What inferry's dependencies and EXTRAS bring on each Python that Functions has, at the versions of constraints.txt. Read
from what is installed, so it needs no network.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILE = ROOT / "requirements.txt"
PYTHONS = ("3.11", "3.12", "3.13")
# What an app setting may ask for works in the app that is published.
EXTRAS = "azure,batch,otel"
HEAD = "# Written by deploy/azure/requirements.py from pyproject.toml and constraints.txt.\n"


def text() -> str:
    """The file as it should be."""
    inferry = Requirement(f"inferry[{EXTRAS}]")
    names = {name for python in PYTHONS for name in closure(inferry, environment(python))}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return HEAD + "".join(f"{line}\n" for line in lines if canonicalize_name(line.partition("==")[0]) in names)


def environment(python: str) -> dict[str, str]:
    """Of the workers that Azure has: Linux on x86."""
    known = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    return {
        **{name: str(value) for name, value in default_environment().items()},
        **known,
        "platform_machine": "x86_64",
    }


def closure(root: Requirement, environment: Mapping[str, str]) -> set[str]:
    """The names of what `root` needs, and what that needs."""
    found: set[str] = set()
    waiting = list(needed(root, environment))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            waiting += needed(requirement, environment)
    return found


def needed(requirement: Requirement, environment: Mapping[str, str]) -> Iterator[Requirement]:
    """What a distribution needs by itself and for the extras that are asked for."""
    for line in requires(requirement.name) or ():
        one = Requirement(line)
        extras = requirement.extras or {""}
        if one.marker is None or any(one.marker.evaluate({**environment, "extra": extra}) for extra in extras):
            yield one


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"{FILE.name}: {len(re.findall('==', FILE.read_text()))} lines")
