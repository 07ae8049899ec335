"""The images, each built once in a session."""

import os

import pytest
from containers import BASE, BASE_IMAGE, IMAGES, Image, build, missing, podman


@pytest.fixture(scope="session")
def base() -> str:
    """A small Debian with Python in place of a cloud's own base, which is not to be had everywhere."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(f"NO IMAGE IS TESTED: {reason}")
    podman("import", "--quiet", str(BASE), BASE_IMAGE)
    return BASE_IMAGE


@pytest.fixture(scope="session")
def built(base: str) -> dict[str, Image]:
    """The images that were built, by name."""
    for image in IMAGES.values():
        build(image)
    return IMAGES


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest, built: dict[str, Image]) -> Image:
    return built[request.param]
