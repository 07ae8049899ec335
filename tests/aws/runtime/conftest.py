"""The function under the real runtime, once for each Python."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulator import PYTHONS, TOOLS, Emulator, emulated
from install import PYTHONS as VERSIONS

EXAMPLES = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="session", params=VERSIONS)
def python(request: pytest.FixtureRequest) -> Path:
    """A Python with the function's packages."""
    if request.param in PYTHONS:
        return PYTHONS[request.param]
    reason = f"Python {request.param} was not on this machine when {TOOLS} was made"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def examples(python: Path) -> Iterator[Emulator]:
    """The function over the example models."""
    with emulated(
        "functions.api.handler", python, MODEL_PATH=str(EXAMPLES), DEFAULT_MODEL="digits", API_KEYS=""
    ) as emulator:
        yield emulator
