"""The page /docs: Swagger UI, with examples that follow the field `model`."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from browsing import AXE
from models_to_try import EXAMPLES
from servers import Server

Opened = Callable[..., Any]
INFER = "#operations-Models-infer"


def shown(opened: Opened, operation: str = INFER) -> Any:
    """The page with an operation open, and that operation."""
    page = opened("/docs")
    block = page.locator(operation)
    block.locator("button.opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    return page, block


def body(block: Any) -> str:
    text: str = block.locator("textarea.body-param__text").input_value()
    return text


def test_what_is_not_offered_takes_no_room(opened: Opened, server: Server) -> None:
    page = opened("/docs")
    page.locator(INFER).wait_for()
    tags = {text.strip() for text in page.locator("h3.opblock-tag a span").all_inner_texts()}
    assert tags == {"Models", "Health", "Simple", "Server", "Repository", "KServe v1"}
    paths = server.ask("GET", "/openapi.json").json["paths"]
    offered = [
        (method, path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "501" not in operation["responses"]
    ]
    assert page.locator(".opblock").count() == len(offered)


@pytest.mark.parametrize("model", ["newsline", "diabetes", "digits"])
def test_the_example_follows_the_model(opened: Opened, model: str) -> None:
    _, block = shown(opened)
    block.locator("tr[data-param-name=model] input").fill(model)
    expected = {"inputs": json.loads((EXAMPLES / model / "config.json").read_text())["example"]["inputs"]}
    wait_for_body(block, expected)
    block.get_by_role("button", name="Execute").click()
    answer = block.locator(".live-responses-table tbody .response-col_status").first
    answer.wait_for()
    assert answer.inner_text().startswith("200")
    assert re.search(rf"/v2/models/{model}/infer", block.locator(".request-url").inner_text())


def wait_for_body(block: Any, expected: Any) -> None:
    handle = block.locator("textarea.body-param__text").element_handle()
    block.page.wait_for_function(
        "([area, text]) => { try { return JSON.stringify(JSON.parse(area.value)) === text } catch { return false } }",
        arg=[handle, json.dumps(expected, separators=(",", ":")).replace(".0,", ",").replace(".0]", "]")],
    )


def test_the_model_follows_the_example(opened: Opened) -> None:
    _, block = shown(opened)
    block.locator(".examples-select select").first.select_option("newsline")
    assert block.locator("tr[data-param-name=model] input").input_value() == "newsline"
    assert json.loads(body(block))["inputs"][0]["name"] == "text"


def test_numbers_are_beside_one_another(opened: Opened) -> None:
    _, block = shown(opened)
    block.locator(".examples-select select").first.select_option("digits")
    lines = body(block).splitlines()
    assert len(lines) < 20
    assert max(map(len, lines)) <= 110


def test_axe_finds_nothing_of_ours(opened: Opened) -> None:
    """The document itself: language, title, landmarks are not Swagger UI's."""
    page, _ = shown(opened)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {runOnly: ['document-title', 'html-has-lang', 'meta-viewport']})")
    assert found["violations"] == []
