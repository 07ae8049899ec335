"""The documentation page, its files, and the OpenAPI document that it shows."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse
from starlette.responses import Response as HTTPResponse

from inferry import openapi
from inferry.routes import RouteNotFound
from inferry.service import Service

_ASSETS = "/docs/assets"
_ASSET_TYPES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}


class Documentation:
    """The endpoints, one method per operation of the route table, over an `app` that has all routes."""

    def __init__(self, service: Service, app: FastAPI) -> None:
        self._service = service
        self._app = app

    async def docs(self, request: HTTPRequest) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        assets: dict[str, Any] = {}
        if _assets() is not None:
            assets = {
                "swagger_js_url": f"{root}{_ASSETS}/swagger-ui-bundle.js",
                "swagger_css_url": f"{root}{_ASSETS}/swagger-ui.css",
                "swagger_favicon_url": f"{root}{_ASSETS}/favicon-32x32.png",
            }
        return get_swagger_ui_html(openapi_url=f"{root}/openapi.json", title="inferry", **assets)

    async def docs_asset(self, request: HTTPRequest) -> HTTPResponse:
        folder, file = _assets(), request.path_params["file"]
        if folder is None or file not in _ASSET_TYPES:
            raise RouteNotFound(f"there is no asset {file!r}")
        return HTTPResponse((folder / file).read_bytes(), headers={"content-type": _ASSET_TYPES[file]})

    async def openapi(self, request: HTTPRequest) -> HTTPResponse:
        document = get_openapi(
            title=self._app.title,
            version=self._app.version,
            description="Any ONNX model over the Open Inference Protocol v2.",
            routes=self._app.routes,
            servers=[{"url": request.scope.get("root_path", "") or "/"}],
        )
        if self._service.settings.api_keys:
            openapi.add_security(document)  # and no examples: this route is public, the models are not
        else:
            openapi.add_examples(document, self._service.repository.loaded())
        return HTTPResponse(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _assets() -> Path | None:
    """The folder of Swagger UI, when its package is installed; else the page takes it from a public CDN."""
    found = find_spec("fastapi_swagger")
    return Path(found.origin).parent / "resources" if found and found.origin else None
