"""What is at /: a page to browsers, JSON to all others, wherever the application is."""

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inferry
import onnx_models
import pytest
from inferry.app import create_app
from inferry.http.asgi import ASGIApp
from inferry.http.host import Host
from inferry.service import Service
from inferry.settings import Settings
from servers import JSON, Server, ask

FOLDER = Path(inferry.__file__).parent / "http" / "page"
NAMES = sorted(path.name for path in FOLDER.iterdir())
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
HTML = {"accept": BROWSER}
KEY = "the key of a person"


def test_a_browser_gets_a_page(tiny: Server) -> None:
    answer = tiny.ask("GET", "/", headers={"Accept": BROWSER})
    assert (answer.status, answer.body) == (200, (FOLDER / "index.html").read_bytes())
    assert answer.headers == {
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(answer.body)),
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'self'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
        "vary": "accept",
    }


@pytest.mark.parametrize("accept", [None, "*/*", JSON, "application/xhtml+xml"])
def test_all_others_get_json(tiny: Server, accept: str | None) -> None:
    answer = tiny.ask("GET", "/", headers={"Accept": accept} if accept else {})
    assert (answer.status, answer.json) == (200, {"status": "alive", "docs": "/docs"})


@pytest.mark.parametrize("name", [name for name in NAMES if name != "index.html"])
def test_its_files(tiny: Server, name: str) -> None:
    answer = tiny.ask("GET", f"/page/{name}")
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert (answer.status, answer.body) == (200, (FOLDER / name).read_bytes())
    assert answer.headers["content-type"] == f"{kinds[name.rpartition('.')[2]]}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2fhome.py", "%2e%2e"])
def test_nothing_else_is_a_file_of_it(tiny: Server, name: str) -> None:
    assert tiny.ask("GET", f"/page/{name}").status == 404


def test_it_is_small() -> None:
    """Gzipped, as in the wheel."""
    assert sum(len(gzip.compress((FOLDER / name).read_bytes())) for name in NAMES) <= 60_000


def test_its_addresses_are_relative() -> None:
    """And none is elsewhere: the only URL is the name of a namespace."""
    page = (FOLDER / "index.html").read_text()
    linked = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert linked
    assert [link for link in linked if link.startswith("/") or ":" in link] == []
    urls = {url for name in NAMES for url in re.findall(r"\w+://[^\s\"'`<]*", (FOLDER / name).read_text())}
    assert urls <= {"http://www.w3.org/2000/svg"}
    scripts = "".join((FOLDER / name).read_text() for name in NAMES if name.endswith(".js"))
    imported = set(re.findall(r'from "([^"]*)"', scripts))
    assert imported <= {f"./{name}" for name in NAMES}
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|localStorage|sessionStorage|cookie", scripts
    )


@pytest.fixture
def shown(repository: Callable[..., str]) -> Callable[..., ASGIApp]:
    """`shown(page="false")` is the application over a model, of a host that people open in a browser."""

    def make(host: bool = True, **settings: Any) -> ASGIApp:
        path = repository({"m.onnx": onnx_models.identity()})
        return create_app(Service.from_settings(Settings(model_path=path, **settings)), Host(page=host))

    return make


@pytest.mark.parametrize(
    ("host", "setting", "expected"),
    [(True, "", True), (False, "", False), (False, "true", True), (True, "false", False), (False, "on", True)],
)
def test_where_it_is(shown: Callable[..., ASGIApp], host: bool, setting: str, expected: bool) -> None:
    app = shown(host, page=setting)
    assert ("html" in ask(app, "GET", "/", headers=HTML).headers["content-type"]) is expected
    for path in ("/page/app.js", "/page/models/m", "/page/models/m/versions/1"):
        answer = ask(app, "GET", path)
        assert answer.status_code == (200 if expected else 404)
        assert expected or answer.json() == {"error": "the page is off (PAGE)"}


def test_its_base_below_a_path_that_is_known(shown: Callable[..., ASGIApp]) -> None:
    """Of a stage, or by BASE_PATH: there it is right without a slash at its end too."""
    assert '<base href="/prod/">' in ask(shown(), "GET", "/prod", root_path="/prod", headers=HTML).text
    assert '<base href="/ml/">' in ask(shown(base_path="/ml/"), "GET", "/ml", headers=HTML).text
    assert '<base href="./">' in ask(shown(), "GET", "/", headers=HTML).text
    odd = ask(shown(), "GET", '/"><b>/', root_path='/"><b>', headers=HTML).text
    assert '<base href="/%22%3E%3Cb%3E/">' in odd


def test_keys_open_the_models_and_not_the_page(shown: Callable[..., ASGIApp]) -> None:
    app = shown(api_keys=(hashlib.sha256(KEY.encode()).hexdigest(),))
    assert ask(app, "GET", "/", headers=HTML).status_code == 200
    assert ask(app, "GET", "/page/app.js").status_code == 200
    assert ask(app, "GET", "/page/models/m").status_code == 401
    assert ask(app, "GET", "/page/models/m", headers={"x-api-key": KEY}).status_code == 200


def test_what_it_learns_of_a_model(repository: Callable[..., str]) -> None:
    """The protocol's metadata, and beside them what only config.json says."""
    files = {
        "m/1/model.onnx": onnx_models.identity("FP32", ("n", 2, 2, 3), output="y"),
        "m/config.json": b'{"columns": ["a"], "preprocess": {"x": {"resize": "pad", "align": "start"}}, '
        b'"max_batch_size": 4}',
    }
    settings = Settings(model_path=repository(files), page="true", price_second=0.5, price_request=0.25)
    app = create_app(Service.from_settings(settings))
    found = ask(app, "GET", "/page/models/m").json()
    metadata = ask(app, "GET", "/v2/models/m").json()
    assert {name: found[name] for name in metadata} == metadata
    assert {name: value for name, value in found.items() if name not in metadata} == {
        "version": "1",
        "max_batch_size": 4,
        "optional": [],
        "columns": ["a"],
        "example": {"inputs": [{"name": "x", "shape": [1, 2, 2, 3], "datatype": "FP32", "data": [0] * 12}]},
        "images": {
            "x": {
                "resize": "pad", "size": [2, 2], "short_side": 0, "resample": "bilinear", "channels": "RGB",
                "layout": "NHWC", "scale": 1 / 255, "mean": [0.0], "std": [1.0], "fill": [0], "align": "start",
            }
        },
        "sound": {},
        "boxes": None,
        "price": {"second": 0.5, "request": 0.25},
    }  # fmt: skip
    assert ask(app, "GET", "/page/models/n").status_code == 404
