"""The documentation page comes whole from the server: it works where there is no internet."""

import re
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import onnx_models
import pytest
from fastapi.openapi.utils import get_openapi
from inferry.http import docs
from inferry.http.asgi import ASGIApp
from inferry.http.routes import ROUTES
from servers import Answer, Server, ask

ASSETS = {
    "/docs/assets/docs.js": "text/javascript; charset=utf-8",
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
    assert "://" not in page
    # Swagger UI would show the document to validator.swagger.io.
    assert "validatorUrl: null" in tiny.ask("GET", "/docs/assets/docs.js").body.decode()


def test_the_browser_lets_the_page_load_nothing_from_elsewhere(tiny: Server) -> None:
    """What its scripts ask for as well: the policy has no source but the server itself."""
    answer = tiny.ask("GET", "/docs")
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert re.findall(rb"<script>|<style|style=|\son\w+=", answer.body) == []
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_what_the_page_loads_loads_nothing_from_elsewhere(tiny: Server) -> None:
    """Scripts ask for what the policy allows; styles hold their pictures."""
    page = tiny.ask("GET", "/docs").body.decode()
    assert {tiny.ask("GET", link).status for link in links(page)} == {200}
    styles = tiny.ask("GET", "/docs/assets/swagger-ui.css").body.decode()
    assert {url.lstrip("\"'")[:5] for url in re.findall(r"url\(([^)]*)\)", styles)} == {"data:"}
    assert "@import" not in styles


def test_no_other_page_is_html(tiny: Server) -> None:
    paths = [route.path for route in ROUTES if route.method == "GET" and "{" not in route.path]
    types = {path: tiny.ask("GET", path).headers["content-type"] for path in paths}
    assert [path for path, name in types.items() if "html" in name] == ["/docs"]


def test_the_package_of_the_assets_is_in_every_image() -> None:
    """It is no extra: the images have those that they name, and this one always."""
    root = Path(__file__).parents[2]
    dependencies = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    assert any(re.match(r"fastapi-swagger\b", line) for line in dependencies)
    assert re.search(r"^fastapi-swagger==", (root / "requirements.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", ASSETS)
def test_assets_are_those_of_the_package(tiny: Server, path: str) -> None:
    """But for the script that starts it, which is ours."""
    name = path.rpartition("/")[2]
    folder = files("inferry") / "http" if name == "docs.js" else files("fastapi_swagger") / "resources"
    content = (folder / name).read_bytes()
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
    document = ask(served, "GET", "/prod/openapi.json", root_path="/prod").json()
    assert document["servers"] == [{"url": "/prod"}]


def test_the_document_is_made_once_and_shows_what_is_loaded(
    app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making it takes longer than any other answer, and whoever asks needs no key."""
    made = []
    monkeypatch.setattr(docs, "get_openapi", lambda **given: made.append(given) or get_openapi(**given))
    served = app({"m.onnx": onnx_models.identity(), "n.onnx": onnx_models.identity()})
    seen = []
    for name in ("m", "n"):
        assert ask(served, "GET", f"/v2/models/{name}/ready").status_code == 200
        infer = ask(served, "GET", "/openapi.json").json()["paths"]["/v2/models/{model}/infer"]["post"]
        seen.append([*infer["requestBody"]["content"]["application/json"]["examples"]])
    assert seen == [["m"], ["m", "n"]]
    assert len(made) == 1


def test_the_document_is_filled_in_once_for_the_same_models(
    app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = []
    monkeypatch.setattr(docs.openapi, "add_examples", lambda *given: filled.append(given))
    served = app({"m.onnx": onnx_models.identity()})
    for expected in (1, 1):
        assert ask(served, "GET", "/openapi.json").status_code == 200
        assert len(filled) == expected
    assert ask(served, "GET", "/v2/models/m/ready").status_code == 200
    for root_path, expected in (("", 2), ("", 2), ("/prod", 3), ("/prod", 3)):
        assert ask(served, "GET", f"{root_path}/openapi.json", root_path=root_path).status_code == 200
        assert len(filled) == expected


def test_assets_are_read_once(app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch) -> None:
    served = app({"m.onnx": onnx_models.identity()})
    first = ask(served, "GET", "/docs/assets/swagger-ui.css")
    monkeypatch.setattr(docs, "files", None)
    assert ask(served, "GET", "/docs/assets/swagger-ui.css").content == first.content
