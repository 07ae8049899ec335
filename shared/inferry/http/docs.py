"""The documentation page, its files, and the OpenAPI document that it shows."""

import weakref
from functools import cache
from html import escape
from importlib.resources import files

import orjson
from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse
from starlette.responses import Response as HTTPResponse

from inferry.http import openapi
from inferry.http.asgi import link
from inferry.http.routes import RouteNotFound
from inferry.runtime.model import Model
from inferry.service import Service

_ASSETS = "/docs/assets"
# Ours, beside Swagger UI's.
_SCRIPT = "docs.js"
_ASSET_TYPES = {
    _SCRIPT: "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>inferry</title>
<link rel="icon" href="assets/favicon-32x32.png">
<link rel="stylesheet" href="assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="assets/swagger-ui-bundle.js"></script>
<script src="assets/docs.js"></script>
</body>
</html>
"""
# The page loads what this server has, and is in no other page.
_RULES = {
    "default-src": "'none'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "script-src": "'self'",
    # Swagger UI sets the styles of its elements.
    "style-src": "'self' 'unsafe-inline'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_POLICY = "; ".join(f"{name} {value}" for name, value in _RULES.items())


class Documentation:
    """The endpoints, one method per operation of the route table, over an `app` that has all routes."""

    def __init__(self, service: Service, app: FastAPI) -> None:
        self._service = service
        self._app = app
        self._described = b""
        # The last document, and what it was made for: where the application is, and the models.
        self._document = b""
        self._made_for: object = None

    async def docs(self, request: HTTPRequest) -> HTMLResponse:
        page = _PAGE.replace("assets/", f"{escape(link(request.scope, _ASSETS))}/")
        return HTMLResponse(page, headers={"content-security-policy": _POLICY})

    async def docs_asset(self, request: HTTPRequest) -> HTTPResponse:
        file = request.path_params["file"]
        if file not in _ASSET_TYPES:
            raise RouteNotFound(f"there is no asset {file!r}")
        return HTTPResponse(_asset(file), headers={"content-type": _ASSET_TYPES[file]})

    async def openapi(self, request: HTTPRequest) -> HTTPResponse:
        # This route is public, the models are not.
        models = [] if self._service.settings.api_keys else self._service.repository.loaded()
        url = link(request.scope, "") or "/"
        made_for = (url, [weakref.ref(model) for model in models])
        if self._made_for != made_for:
            self._document, self._made_for = self._filled_in(url, models), made_for
        return HTTPResponse(self._document, media_type="application/json")

    def _filled_in(self, url: str, models: list[Model]) -> bytes:
        document = orjson.loads(self._described or self._describe())
        document["servers"] = [{"url": url}]
        if self._service.settings.api_keys:
            openapi.add_security(document)
        else:
            openapi.add_examples(document, models)
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

    def _describe(self) -> bytes:
        """What is the same in every document: making it takes 60 ms."""
        self._described = orjson.dumps(
            get_openapi(
                title=self._app.title,
                version=self._app.version,
                description="Any ONNX model over the Open Inference Protocol v2.",
                routes=self._app.routes,
                servers=[{"url": "/"}],
            )
        )
        return self._described


@cache
def _asset(file: str) -> bytes:
    if file == _SCRIPT:
        return files("inferry").joinpath("http", file).read_bytes()
    return files("fastapi_swagger").joinpath("resources", file).read_bytes()
