"""An AsgiFunctionApp that hands a request over in a quarter of the time, with what the host knows of it.

azure.functions' own middleware makes a WSGI environment first, fails at paths that are no UTF-8, waits in steps of
100 ms where an application waits for its client, and starts a lifespan again for each of the first requests.
"""

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import azure.functions as func
from inferry.http.asgi import ASGIApp, Exchange, Scope
from inferry.observability.context import KEY, PlatformContext

# Azure's load balancer gives up on a response after 230 s. The rest is for the way there and back.
LIMIT = 225.0
_PROBE = ("GET", "HEAD")
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class FunctionApp(func.AsgiFunctionApp):
    """AsgiFunctionApp with `Middleware` for its own, without a lifespan."""

    def _add_http_app(self, http_middleware: Any, function_name: str = "api") -> None:
        self._handle = Middleware(http_middleware._app).handle
        # Without the slash of azure.functions' own, of which the host makes two behind its routePrefix, and then none.
        self.add(function_name, "{*route}", func.HttpMethod, self.auth_level)

    def add_probes(self, base: str = "") -> None:
        """The routes of health, below `base`, open to everybody: probes have no keys."""
        name, front = ("base_", f"{base}/") if base else ("", "")
        self.add(f"{name}health", f"{front}health", _PROBE, func.AuthLevel.ANONYMOUS)
        self.add(f"{name}probes", f"{front}v2/health/{{probe}}", _PROBE, func.AuthLevel.ANONYMOUS)

    def add(self, name: str, route: str, methods: Iterable[Any], auth_level: func.AuthLevel) -> None:
        """A function whose requests go to the application, as those of all other routes do."""
        self.function_name(name)(self.route(route, methods=methods, auth_level=auth_level)(self._handle))


class Middleware:
    """Makes an ASGI request of an invocation, and tells `app` its ids and its deadline."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cold = True

    async def handle(self, req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        """The response to an invocation. The host goes by the names of the parameters."""
        exchange = Exchange(req.get_body)
        await self._app(self._scope(req, context), exchange.receive, exchange.send)
        return Response(exchange)

    def _scope(self, request: func.HttpRequest, context: func.Context) -> Scope:
        scheme, path, raw, query = _parts(request.url)
        platform: PlatformContext = {"deadline": time.monotonic() + LIMIT}
        if self._cold:
            platform["cold_start"], self._cold = True, False
        given = request.headers
        # The dict below the headers: they look for each name in lower case again.
        given = getattr(given, "__http_headers__", given)
        headers = [(name.encode(), value.encode()) for name, value in given.items()]
        # The host's own span is the parent of ours; it belongs to the caller's trace, if there is one.
        if parent := context.trace_context.trace_parent:
            if "traceparent" in given:
                headers = [header for header in headers if header[0] != b"traceparent"]
            headers.append((b"traceparent", parent.encode()))
        # A caller's own id for the request stays: it is in the logs of more than this app.
        if "x-request-id" not in given:
            platform["request_id"] = context.invocation_id
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": request.method,
            "scheme": scheme,
            "path": path,
            "raw_path": raw,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "server": None,
            "client": None,
            KEY: platform,
        }


@lru_cache(64)
def _parts(url: str) -> tuple[str, str, bytes, bytes]:
    """Scheme, path, raw path and query. Most requests of an app are for the same few."""
    scheme, _, rest = url.partition("://")
    target, _, query = rest.partition("?")
    raw = target[target.find("/") :] if "/" in target else "/"
    return scheme, unquote(raw), raw.encode(), query.encode()


class Response(func.HttpResponse):
    """A response for the host.

    Its headers are a dict, with ASGI's names in lower case: azure.functions takes longer to make its own of them, and
    to read those again, than a small model runs.
    """

    # Plain attributes, instead of properties of azure.functions'.
    status_code: int = 500
    headers: Any = None
    # Of responses that have no content-type.
    mimetype, charset = "text/plain", "utf-8"

    def __init__(self, exchange: Exchange) -> None:
        self.status_code = exchange.status
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.headers}
        self._body = exchange.body

    def get_body(self) -> bytes:
        return self._body
