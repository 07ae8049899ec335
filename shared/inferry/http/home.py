"""What is at /: where to look next and, for browsers, a page to try each model, with its files."""

from functools import cache
from html import escape
from importlib.resources import files

import orjson
from fastapi import Request as HTTPRequest
from starlette.responses import HTMLResponse
from starlette.responses import Response as HTTPResponse

from inferry.http.asgi import link
from inferry.http.host import Host
from inferry.http.routes import RouteNotFound
from inferry.repository import metadata
from inferry.service import Service

# Everything is sent as it lies in the folder `page`: nothing is built, and nothing comes from elsewhere.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}
_RULES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "base-uri": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    # What comes from a model or a file is never read as HTML.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
_HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _RULES.items()),
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
    "vary": "accept",
}


class Home:
    """The endpoints, one method per operation of the route table."""

    def __init__(self, service: Service, host: Host) -> None:
        self._service = service
        self._has_page = service.settings.has_page(default=host.page)

    async def home(self, request: HTTPRequest) -> HTTPResponse:
        if self._has_page and "text/html" in request.headers.get("accept", "").lower():
            # Relative addresses are right below any path that nobody told us of, if it ends with a slash; the path
            # that is known is right without one as well.
            root = link(request.scope, "")
            page = _file("index.html").decode().replace('href="./"', f'href="{escape(root)}/"' if root else 'href="./"')
            return HTMLResponse(page, headers=_HEADERS)
        return _json({"status": "alive", "docs": link(request.scope, "/docs")})

    async def page_asset(self, request: HTTPRequest) -> HTTPResponse:
        file = request.path_params["file"]
        if not self._has_page or file not in _assets():
            raise RouteNotFound(f"there is no file {file!r} of a page" if self._has_page else "the page is off (PAGE)")
        headers = {name: _HEADERS[name] for name in ("x-content-type-options", "cache-control")}
        return HTTPResponse(_file(file), headers={"content-type": _assets()[file], **headers})

    async def page_model(self, request: HTTPRequest) -> HTTPResponse:
        if not self._has_page:
            raise RouteNotFound("the page is off (PAGE)")
        name, version = request.path_params["model"], request.path_params.get("version")
        model = await self._service.model(name, version)
        settings = self._service.settings
        shown = metadata.shown(model, self._service.repository.offered(name)[::-1])
        shown["price"] = {"second": settings.price_second, "request": settings.price_request}
        return _json(shown)


@cache
def _assets() -> dict[str, str]:
    """The Content-Type of each file that the page loads."""
    names = [entry.name for entry in files("inferry").joinpath("http", "page").iterdir()]
    found = {name: _TYPES.get(name[name.rfind(".") :]) for name in names}
    return {name: kind for name, kind in found.items() if kind}


@cache
def _file(name: str) -> bytes:
    return files("inferry").joinpath("http", "page", name).read_bytes()


def _json(value: object) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
