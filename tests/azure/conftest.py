"""The contract tests' servers as Functions apps: `servers.serving` starts the stand-in for `func start`."""

import pytest
from functionhosts import HERE, invocation_id, servers, standin

pytest_plugins = ("contract.conftest",)

servers.host = standin
servers.of_the_host = lambda name, value: servers.date(name, value) or invocation_id(name, value)

# What the Functions host does before the app.
ELSEWHERE = {
    "test_a_declared_length_over_the_limit_is_refused_before_the_body_comes": "the host invokes with the whole body",
    "test_a_wrong_verb_is_told_the_right_ones[PROPFIND-/v2/health/live]": "the host knows seven methods",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Of the suites that test_protocol imports; a port of gRPC, say, has only the local server.
    items[:] = [item for item in items if item.path.parent != HERE or not item.get_closest_marker("local")]
    for item in items:
        if item.name in ELSEWHERE and item.path.parent == HERE:
            item.add_marker(pytest.mark.skip(reason=ELSEWHERE[item.name]))
