"""Every pair of values of the props is in a stack, and neither linters nor rules of permissions find fault with it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import combinations, product
from typing import Any

import pytest
from assemblies import Assembly, sources, synthesise
from combinations import ALLOWED, VALUES, contexts, rows
from linting import lint
from permissions import denied

from cdk.props import InvalidProps, Props

Pair = tuple[tuple[str, int], tuple[str, int]]
# Their values make other resources, all of them.
COMPLETE = ("architecture", "start", "models", "authorization")


def test_every_prop_is_at_its_default_and_at_another_value() -> None:
    defaults = {item.name: item.default for item in fields(Props)}
    assert list(VALUES) == list(defaults)
    found = {prop: getattr(Props.from_context(_alone(prop).get), prop) for prop in VALUES if prop != "settings"}
    assert found == {prop: value for prop, value in defaults.items() if prop != "settings"}
    assert {prop for prop, values in VALUES.items() if len(values) < 2} == set()
    choices = {item.name: item.metadata.get("choices", ()) for item in fields(Props)}
    assert {prop: VALUES[prop] for prop in COMPLETE} == {prop: choices[prop] for prop in COMPLETE}


def _alone(prop: str) -> dict[str, Any]:
    return {"environments": {"dev": {}}, prop: VALUES[prop][0]}


def test_every_pair_that_the_props_allow_is_in_a_stack() -> None:
    made = {pair for row in rows() for pair in _pairs({prop: VALUES[prop].index(row[prop]) for prop in VALUES})}
    missing = set(_pairs_of_all()) - made
    assert missing == {pair for pair in missing if {prop for prop, _ in pair} <= TIED}
    assert missing & _possible() == set()


def _pairs(row: Mapping[str, int]) -> Iterator[Pair]:
    yield from combinations(row.items(), 2)


def _pairs_of_all() -> Iterator[Pair]:
    for one, other in combinations(VALUES, 2):
        for first, second in product(range(len(VALUES[one])), range(len(VALUES[other]))):
            yield (one, first), (other, second)


TIED = {prop for pair in ALLOWED for prop in pair}


def _possible() -> set[Pair]:
    """The pairs of the props that depend on each other that are in any props that can be."""
    props = [prop for prop in VALUES if prop in TIED]
    found: set[Pair] = set()
    for indices in product(*(range(len(VALUES[prop])) for prop in props)):
        row = dict(zip(props, indices, strict=True))
        context = {prop: VALUES[prop][index] for prop, index in row.items()}
        if _is_valid({"environments": {"dev": {}}, **context}):
            found.update(_pairs(row))
    return found


def _is_valid(context: Mapping[str, Any]) -> bool:
    try:
        Props.from_context(context.get)
    except InvalidProps:
        return False
    return True


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> list[Assembly]:
    """All of them, synthesised in this process."""
    folder = tmp_path_factory.mktemp("combinations")
    source = sources(folder / "source")
    shutil.copytree(source / "models", source / VALUES["model_path"][1])
    return [synthesise(context, folder / str(number), source) for number, context in enumerate(contexts())]


def test_no_finding_is_open(stacks: list[Assembly]) -> None:
    reports = [json.loads((stack.folder / "validation-report.json").read_text()) for stack in stacks]
    assert [report["pluginReports"] for report in reports] == [[] for _ in stacks]


def test_cfn_lint(stacks: list[Assembly]) -> None:
    assert lint(stack.template_file for stack in stacks) == ""


def test_permissions(stacks: list[Assembly]) -> None:
    assert denied(stack.template for stack in stacks) == [[] for _ in stacks]
