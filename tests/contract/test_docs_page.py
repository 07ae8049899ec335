"""The documentation page comes whole from the server: it works where there is no internet."""

from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import onnx_models
import pytest
from inferry import documentation
from inferry.asgi import ASGIApp
from servers import Answer, Server, ask

pytest.importorskip("fastapi_swagger", reason="the page's assets come with the extra 'server'")

ASSETS = {
    "/docs/assets/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/docs/assets/swagger-ui.css": "text/css; charset=utf-8",
    "/docs/assets/favicon-32x32.png": "image/png",
}


class Links(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ("src", "href") and value}


def links(page: str) -> set[str]:
    parser = Links()
    parser.feed(page)
    return parser.found


def test_the_page_loads_nothing_from_elsewhere(tiny: Server) -> None:
    answer = tiny.ask("GET", "/docs")
    page = answer.body.decode()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert links(page) == set(ASSETS)
    assert "url: '/openapi.json'" in page
    assert "://" not in page


@pytest.mark.parametrize("path", ASSETS)
def test_assets_are_those_of_the_package(tiny: Server, path: str) -> None:
    content = (files("fastapi_swagger") / "resources" / path.rpartition("/")[2]).read_bytes()
    assert len(content) > 100
    assert tiny.ask("GET", path) == Answer(
        200, {"content-type": ASSETS[path], "content-length": str(len(content))}, content
    )


@pytest.mark.parametrize("name", ["__init__.py", "nothing.js", "..%2f__init__.py", "%2e%2e"])
def test_nothing_else_is_an_asset(tiny: Server, name: str) -> None:
    assert tiny.ask("GET", f"/docs/assets/{name}").status == 404


def test_the_page_below_a_prefix(app: Callable[..., ASGIApp]) -> None:
    served = app({"m.onnx": onnx_models.identity()})
    page = ask(served, "GET", "/prod/docs", root_path="/prod").text
    assert links(page) == {f"/prod{path}" for path in ASSETS}
    assert "url: '/prod/openapi.json'" in page
    document = ask(served, "GET", "/prod/openapi.json", root_path="/prod").json()
    assert document["servers"] == [{"url": "/prod"}]


def test_without_its_package_the_page_says_where_its_assets_are(
    app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(_: str) -> Any:
        return None

    monkeypatch.setattr(documentation, "find_spec", find_nothing)
    served = app({"m.onnx": onnx_models.identity()})
    answer = ask(served, "GET", "/docs")
    assert answer.status_code == 200
    assert all(link.startswith("https://") for link in links(answer.text))
    assert ask(served, "GET", next(iter(ASSETS))).status_code == 404
