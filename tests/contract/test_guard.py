"""Pages of other sites reach no local server that has no keys."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx_models
import pytest
from inferry.app import create_app
from inferry.http.asgi import ASGIApp
from inferry.http.guard import guard
from inferry.http.host import Host
from inferry.service import Service
from inferry.settings import Settings
from servers import ask, serving

DIGEST = hashlib.sha256(b"key").hexdigest()
MODEL = {"m.onnx": onnx_models.identity("FP32", ("n",))}
BODY = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
EVIL = "http://evil.example"
POSTS = (
    "/v2/models/m/infer",
    "/predict",
    "/v1/models/m:predict",
    "/v2/repository/index",
    "/v2/repository/models/m/load",
    "/v2/repository/models/m/unload",
    "/v2/models/m/requests",
)


@pytest.fixture
def guarded(repository: Callable[..., str]) -> Iterator[Callable[..., ASGIApp]]:
    """`guarded(host="0.0.0.0")` is the application as the local server of these settings has it."""
    services = []

    def make(**settings: Any) -> ASGIApp:
        service = Service.from_settings(Settings(model_path=repository(MODEL), model_control=True, **settings))
        services.append(service)
        return create_app(service, Host(guard(service.settings)))

    yield make
    for service in services:
        service.close()


def status(app: ASGIApp, headers: Mapping[str, str], method: str = "POST", path: str = "/v2/models/m/infer") -> int:
    headers = {"host": "127.0.0.1:8000", **headers}
    body: dict[str, Any] = {"json": BODY} if method == "POST" else {}
    return ask(app, method, path, headers=headers, **body).status_code


@pytest.mark.parametrize("path", POSTS)
def test_a_page_of_another_site_posts_nothing(guarded: Callable[..., ASGIApp], path: str) -> None:
    headers = {"host": "localhost:8000", "origin": EVIL, "content-type": "text/plain"}
    answer = ask(guarded(), "POST", path, headers=headers, content=b"{}")
    assert (answer.status_code, answer.json()) == (
        403,
        {
            "error": "a page of http://evil.example may not post to this server: name its origin in CORS_ORIGINS if it "
            "is to, or set API_KEYS"
        },
    )


ORIGINS: dict[str, tuple[dict[str, str], int]] = {
    "no page": ({}, 200),
    "the server's own": ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
    "its own by another name": ({"host": "LocalHost:8000", "origin": "http://localhost:8000"}, 200),
    "its own without a port": ({"host": "localhost", "origin": "http://localhost"}, 200),
    "its own on IPv6": ({"host": "[::1]:8000", "origin": "http://[::1]:8000"}, 200),
    "its own behind TLS": ({"host": "localhost", "origin": "https://localhost"}, 200),
    "one of CORS_ORIGINS": ({"origin": "https://app.example", "sec-fetch-site": "cross-site"}, 200),
    "typed in, or of a bookmark": ({"sec-fetch-site": "none"}, 200),
    "another site": ({"origin": EVIL}, 403),
    "another port": ({"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"}, 403),
    "this host by a name that it was not called by": ({"origin": "http://localhost:8000"}, 403),
    "another scheme": ({"origin": "ftp://127.0.0.1:8000"}, 403),
    "a part of one of CORS_ORIGINS": ({"origin": "https://app.example.evil.example"}, 403),
    "a page without an origin": ({"origin": "null"}, 403),
    "another site that hides its origin": ({"sec-fetch-site": "cross-site"}, 403),
    "another site that claims this one": ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site"}, 403),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_origins(guarded: Callable[..., ASGIApp], name: str) -> None:
    headers, expected = ORIGINS[name]
    assert status(guarded(cors_origins=("https://app.example",)), headers) == expected


def test_any_origin_where_all_may_call(guarded: Callable[..., ASGIApp]) -> None:
    assert status(guarded(cors_origins=("*",)), {"origin": EVIL, "sec-fetch-site": "cross-site"}) == 200


def test_a_page_may_still_be_linked(guarded: Callable[..., ASGIApp]) -> None:
    assert status(guarded(), {"sec-fetch-site": "cross-site"}, "GET", "/docs") == 200


HOSTS = {
    "127.0.0.1": 200,
    "127.0.0.1:8000": 200,
    "LOCALHOST:1": 200,
    "[::1]": 200,
    "[::1]:8000": 200,
    "models.example": 200,
    "models.example:443": 200,
    "": 200,
    "evil.example": 421,
    "evil.example:8000": 421,
    "localhost.evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "localhost:8000.evil.example": 421,
    "192.0.2.1:8000": 421,
    "[::2]:8000": 421,
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("host", HOSTS)
def test_hosts(guarded: Callable[..., ASGIApp], method: str, host: str) -> None:
    path = "/v2/models/m" if method == "GET" else "/v2/models/m/infer"
    app = guarded(allowed_hosts=("Models.example", "other.example:80"))
    assert status(app, {"host": host}, method, path) == HOSTS[host]


def test_a_host_that_is_not_allowed_is_told_the_setting(guarded: Callable[..., ASGIApp]) -> None:
    """nginx with `proxy_set_header Host $host` meets it."""
    answer = ask(guarded(), "GET", "/v2/health/live", headers={"host": "api.example:8000"})
    assert (answer.status_code, answer.json()) == (
        421,
        {
            "error": "this server listens on loopback and is no 'api.example': name it in ALLOWED_HOSTS if it is to be "
            "called so, as through a proxy that passes the client's Host on"
        },
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 421),
        ({"host": "127.0.0.2"}, 421),
        ({"host": "::1"}, 421),
        ({"host": "localhost"}, 421),
        ({"allowed_hosts": ("*",)}, 200),
        ({"host": "0.0.0.0"}, 200),
        ({"host": "192.0.2.1"}, 200),
        ({"host": "models.example"}, 200),
    ],
)
def test_only_servers_on_loopback_are_concerned(guarded: Callable[..., ASGIApp], settings: Any, expected: int) -> None:
    app = guarded(**settings)
    assert status(app, {"host": "evil.example"}) == expected
    if "allowed_hosts" not in settings:
        assert status(app, {"host": "evil.example", "origin": EVIL}) == expected


def test_who_has_a_key_is_no_page_of_another_site(guarded: Callable[..., ASGIApp]) -> None:
    headers = {"host": "evil.example", "origin": EVIL}
    app = guarded(api_keys=(DIGEST,))
    assert [status(app, headers), status(app, headers | {"x-api-key": "key"})] == [401, 200]


def test_functions_are_not_concerned(app: Callable[..., ASGIApp]) -> None:
    assert status(app(MODEL), {"host": "id.execute-api.example", "origin": EVIL}) == 200


@pytest.mark.local
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_local_server(repository: Callable[..., str], workers: str) -> None:
    with serving(repository(MODEL), "--workers", workers, ALLOWED_HOSTS="api.example") as server:
        path = "/v2/repository/index"
        asked: list[dict[str, str]] = [{}, {"Host": "api.example"}, {"Host": "evil.example"}, {"Origin": EVIL}]
        assert [server.ask("POST", path, b"{}", headers).status for headers in asked] == [200, 200, 421, 403]
        assert server.ask("POST", path, b"{}", {"Origin": server.url}).status == 200
        text = 'inferry_request_failures_total{model="",version="",reason="denied"}'
        assert workers == "2" or f"{text} 2" in server.ask("GET", "/metrics").body.decode()
