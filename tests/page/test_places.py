"""The page wherever the application is: behind keys, below paths, in Lambda's runtime and in the Functions app."""

import hashlib
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import servers
from browsing import ROOT, tries_newsline
from loopback import listening
from models_to_try import EXAMPLES
from servers import Server, serving

Opened = Callable[..., Any]
KEY = "the key of a person"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    shutil.copytree(EXAMPLES / "newsline", folder / "newsline")
    return folder


def test_a_key_is_asked_for_and_kept_nowhere(opened: Opened, few: Path) -> None:
    with serving(few, API_KEYS=hashlib.sha256(KEY.encode()).hexdigest()) as server:
        page = opened("/#/newsline", server.url)
        assert page.get_by_role("alert").inner_text() == "This server wants an API key. Type it in above."
        page.get_by_label("API key").fill("another")
        page.keyboard.press("Enter")
        page.get_by_text("the API key is not a valid one. Type in another key above.").wait_for()
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Use it").click()
        page.get_by_role("heading", name="newsline", level=1).wait_for()
        tries_newsline(page)
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert KEY not in page.content()
        assert "$KEY" in page.locator("pre").first.text_content()
        page.reload()
        page.get_by_role("alert").wait_for()


@pytest.mark.parametrize("path", ["/ml", "/ml/"])
def test_below_a_base_path(opened: Opened, few: Path, path: str) -> None:
    with serving(few, BASE_PATH="/ml") as server:
        page = opened(path, server.url)
        page.get_by_role("link", name="newsline").click()
        tries_newsline(page)


def test_below_a_path_that_nobody_tells_the_server(opened: Opened, few: Path) -> None:
    with serving(few, ALLOWED_HOSTS="*", CORS_ORIGINS="*") as server, stripping("/front", server) as url:
        page = opened("/front/", url)
        page.get_by_role("link", name="newsline").click()
        tries_newsline(page)


@contextmanager
def stripping(prefix: str, server: Server) -> Iterator[str]:
    """The address of a proxy that takes `prefix` off the path, and passes on what is left."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
            }
            asked = urllib.request.Request(f"{server.url}{self.path.removeprefix(prefix)}", body, headers)
            with urllib.request.urlopen(asked) as answer:
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.read())

        do_POST = do_GET

        def log_message(self, format: str, *arguments: Any) -> None:
            """Says nothing."""

    with listening(Proxy) as address:
        yield address


def test_in_lambda(opened: Opened, few: Path) -> None:
    """Under AWS's emulator of the runtime, behind what makes events of requests."""
    host = import_module("aws.runtime.host")
    with host.serving(few, PAGE="true") as server:
        page = opened("/#/newsline", server.url)
        tries_newsline(page)


def test_in_the_functions_app(opened: Opened, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Microsoft's runtime library."""
    sys.path.append(str(ROOT / "tests" / "azure"))
    import functionhosts

    monkeypatch.setattr(servers, "host", functionhosts.standin)
    with servers.serving_locally(few, PAGE="true") as server:
        page = opened("/#/newsline", server.url)
        tries_newsline(page)
