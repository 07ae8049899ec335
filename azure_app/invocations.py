"""What the Functions host knows of an invocation, for the application; and what the host needs before the first."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import azure.functions as func
from inferry.asgi import ASGIApp, Receive, Scope, Send
from inferry.errors import InvalidSettings

# Azure's load balancer gives up on an answer after 230 s. The rest is for the way there and back.
LIMIT = 225.0
NOT_UTF_8 = b'{"error":"there is nothing at a path that is not UTF-8"}'


class Invocations:
    """Tells `app` the ids and the deadline of each invocation.

    Answers the host's lifespan at once: it is started again for each of the first requests that come together, and
    never for other triggers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cold = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            return
        known = {
            "trace_id": _trace_id(scope["azure_functions.trace_context"].trace_parent),
            "deadline": time.monotonic() + LIMIT,
            "cold_start": self._cold,
        }
        # A caller's own id for the request stays: it is in the logs of more than this app.
        if all(name != b"x-request-id" for name, _ in scope["headers"]):
            known["request_id"] = scope["azure_functions.invocation_id"]
        scope["inferry"] = known
        self._cold = False
        await self._app(scope, receive, send)


class FunctionApp(func.AsgiFunctionApp):
    """AsgiFunctionApp whose middleware answers what azure.functions fails at, as the host would with an empty 500."""

    def _add_http_app(self, http_middleware: Any, function_name: str = "api") -> None:
        self.middleware = Middleware(http_middleware)
        super()._add_http_app(self.middleware, function_name)

    def __del__(self) -> None:
        """Nothing: azure.functions would end a lifespan in an event loop of its own, which fails within another."""


class Middleware(func.AsgiMiddleware):
    """`asgi` with 404 for paths that are no UTF-8, which scanners send."""

    def __init__(self, asgi: func.AsgiMiddleware) -> None:
        super().__init__(asgi._app)  # type: ignore[no-untyped-call]

    async def handle_async(self, req: func.HttpRequest, context: func.Context | None = None) -> func.HttpResponse:
        try:
            answer: func.HttpResponse = await super().handle_async(req, context)
        except UnicodeDecodeError:
            return func.HttpResponse(NOT_UTF_8, status_code=404, mimetype="application/json")
        return answer


def defaults(env: Mapping[str, str], root: Path) -> dict[str, str]:
    """`env` with a MODEL_PATH that the host's working directory doesn't matter to: folders are below `root`."""
    path = env.get("MODEL_PATH") or "models"
    return {**env, "MODEL_PATH": path if "://" in path else str(root / path)}


def auth_level(env: Mapping[str, str]) -> func.AuthLevel:
    """Which of the host's keys a request needs: AUTH_LEVEL, a function's unless it says otherwise."""
    given = env.get("AUTH_LEVEL") or "function"
    try:
        return func.AuthLevel[given.upper()]
    except KeyError:
        raise InvalidSettings(f"AUTH_LEVEL must be function, anonymous or admin, got {given!r}") from None


def _trace_id(trace_parent: str) -> str:
    """W3C Trace Context's: version, trace id, parent id, flags."""
    parts = trace_parent.split("-")
    return parts[1] if len(parts) == 4 else ""
