"""What the tests of the page share: where things are, and what a person does on it."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "page"
AXE = TOOLS / "npm" / "node_modules" / "axe-core" / "axe.min.js"


def predicted(page: Any) -> str:
    """The headline of the answer, after a click on Predict."""
    page.get_by_role("button", name="Predict", exact=True).click()
    return headline(page)


def headline(page: Any) -> str:
    page.locator(".headline:visible, .error:visible").first.wait_for()
    assert page.locator(".error:visible").all_inner_texts() == []
    text: str = page.locator(".headline").inner_text()
    return text


def tries_newsline(page: Any) -> None:
    """The form of the model newsline is open: a headline is put into its section."""
    page.get_by_label("text").fill("Shares fall after bank warns of losses")
    assert predicted(page).startswith("business (")
