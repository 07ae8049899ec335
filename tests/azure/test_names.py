"""The functions that the runtime finds, beside the queues, containers and connections that Terraform makes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from functionhosts import ROOT
from test_index import index

VARIABLES = json.loads((ROOT / "deploy/terraform/azure/environments/prod.app.tfvars.json").read_text())
PLACES = {"queueName": set(VARIABLES["queues"].values())}


@pytest.fixture(scope="module")
def bindings(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, dict[str, Any]]]:
    """Every binding of storage, with its function's name."""
    batch = {name: value for name, value in VARIABLES["app_settings"].items() if name.startswith("BATCH_")}
    done = index(ROOT, tmp_path_factory.mktemp("index"), **batch)
    assert done.returncode == 0, done.stderr
    found = [(name, binding) for name, all_ in json.loads(done.stdout).items() for binding in all_]
    return [(name, binding) for name, binding in found if "http" not in binding["type"]]


def places(bindings: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    for _, binding in bindings:
        yield from ((key, binding[key].split("/")[0]) for key in PLACES if key in binding)


def test_every_queue_is_made(bindings: list[tuple[str, dict[str, Any]]]) -> None:
    found = set(places(bindings))
    assert {(key, place) for key, place in found if place not in PLACES[key]} == set()
    queues = {VARIABLES["queues"][queue] for queue in ("jobs", "jobs_poison")}
    assert found == {("queueName", queue) for queue in queues}


def test_every_connection_is_set(bindings: list[tuple[str, dict[str, Any]]]) -> None:
    assert {binding["connection"] for _, binding in bindings} == {VARIABLES["triggers"]["connection"]}


def test_event_grid_s_messages_have_a_trigger(bindings: list[tuple[str, dict[str, Any]]]) -> None:
    """Terraform has them put into the queue of jobs."""
    triggers = {binding["queueName"] for _, binding in bindings if binding["type"] == "queueTrigger"}
    assert triggers == {VARIABLES["queues"]["jobs"]}


def test_no_function_is_handed_a_blob(bindings: list[tuple[str, dict[str, Any]]]) -> None:
    """The host would read it as a whole into an instance's memory."""
    assert {binding["type"] for _, binding in bindings} == {"queueTrigger", "queue"}
