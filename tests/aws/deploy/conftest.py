"""The variants, each synthesised once in a session."""

import os
from collections.abc import Iterator
from pathlib import Path

# The CDK's warning about the age of Node goes through the same pipe as its answers.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "18,20")

import pytest
from account import ACCOUNT, PROGRAMS, REGION, Account
from account import account as running_account
from assemblies import VARIANTS, Assembly, sources, synthesise
from codedeploy import CodeDeploy
from codedeploy import codedeploy as running_codedeploy
from emulator import EMULATOR


class Assemblies(dict[str, Assembly]):
    """By the variant's name; made when asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.source = sources(folder / "source")

    def __missing__(self, name: str) -> Assembly:
        self[name] = synthesise(VARIANTS[name], self.folder / name, self.source)
        return self[name]


@pytest.fixture(scope="session")
def assemblies(tmp_path_factory: pytest.TempPathFactory) -> Assemblies:
    return Assemblies(tmp_path_factory.mktemp("assemblies"))


@pytest.fixture(scope="session", params=VARIANTS)
def assembly(request: pytest.FixtureRequest, assemblies: Assemblies) -> Assembly:
    return assemblies[request.param]


@pytest.fixture(scope="session")
def dev(assemblies: Assemblies) -> Assembly:
    return assemblies["dev"]


@pytest.fixture(scope="session")
def prod(assemblies: Assemblies) -> Assembly:
    return assemblies["prod"]


@pytest.fixture(scope="session")
def opened(assemblies: Assemblies) -> Assembly:
    return assemblies["open"]


@pytest.fixture(scope="session")
def keys(assemblies: Assemblies) -> Assembly:
    return assemblies["keys"]


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    """An account that the CDK may deploy to."""
    if missing := [path.name for path in (*PROGRAMS, EMULATOR) if not path.exists()]:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"missing: {', '.join(missing)}")
    with running_account() as there:
        done = there.cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}")
        assert done.returncode == 0, done.stderr
        yield there


@pytest.fixture(scope="module")
def codedeploy() -> Iterator[CodeDeploy]:
    with running_codedeploy() as there:
        yield there
