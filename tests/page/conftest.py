"""Debian's Chromium before a server of the example models, and of models for what these don't show."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import AXE, ROOT, TOOLS

# Playwright, and the contract tests' helpers.
sys.path[1:1] = [str(TOOLS), str(ROOT / "tests" / "contract")]

import models_to_try  # noqa: E402
from servers import Server, serving  # noqa: E402

# Nothing of the browser's own leaves this machine, whatever it would like to update.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [
        name for name, is_there in (("chromium", shutil.which("chromium")), (AXE.name, AXE.exists())) if not is_there
    ]
    if missing and os.environ.get("CI") == "true":
        pytest.exit(f"missing: {', '.join(missing)}", 1)
    for item in items if missing else ():
        item.add_marker(pytest.mark.skip(reason=f"THE PAGE IS NOT TESTED: {', '.join(missing)} missing"))


@pytest.fixture(scope="session")
def repository_to_try(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models_to_try.write(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(repository_to_try: Path) -> Iterator[Server]:
    prices = {"PRICE_SECOND": "0.0000133334", "PRICE_REQUEST": "2e-7"}
    with serving(repository_to_try, MODEL_CACHE_SIZE="32", **prices) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # With a profile of its own, which is empty, and is deleted.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """`opened("/#/digits", color_scheme="dark")` is that page in a window of its own, without cookies or history.

    At its end no request has left the server, and the page's scripts have not failed.
    """
    contexts, requested, failures = [], [], []

    def open_page(path: str = "/", url: str = server.url, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: requested.append((url, request.url)))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda message: failures.append(message.text) if message.type == "error" else None)
        page.goto(f"{url}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert requested
    assert [found for url, found in requested if not found.startswith((f"{url}/", "blob:", "data:"))] == []
    # Chromium says so itself of each answer that is no success: the page says it in words.
    assert [text for text in failures if "Failed to load resource" not in text] == []
