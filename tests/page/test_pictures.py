"""The pictures of README and docs; PICTURES=docs writes them there."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import predicted
from PIL import Image
from test_page import draw

# With so few a file is small.
COLOURS = 64


def kept(page: Any, name: str) -> None:
    image = Image.open(io.BytesIO(page.screenshot()))
    assert len(image.convert("RGB").getcolors(2**24) or ()) > 5
    if folder := os.environ.get("PICTURES"):
        image.convert("RGB").quantize(COLOURS).save(Path(folder) / f"page-{name}.png", optimize=True)


@pytest.mark.parametrize("name", ["digits"])
def test_a_drawn_digit(opened: Callable[..., Any], name: str) -> None:
    page = opened(f"/#/{name}", viewport={"width": 1080, "height": 800}, color_scheme="light")
    draw(page, "7")
    assert predicted(page).startswith("7 (")
    page.evaluate("scrollTo(0, 0)")
    kept(page, name)


def test_a_number_in_the_dark(opened: Callable[..., Any]) -> None:
    page = opened("/#/diabetes", viewport={"width": 1080, "height": 620}, color_scheme="dark")
    predicted(page)
    page.evaluate("scrollTo(0, 0)")
    kept(page, "diabetes")
