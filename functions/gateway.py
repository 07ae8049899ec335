"""Invocations, by HTTP and direct ones, as ASGI requests, with what Lambda knows of each in the scope."""

import os
import time
from collections.abc import Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from inferry.http.asgi import ASGIApp, Exchange, Scope
from inferry.observability.context import KEY, PlatformContext

from functions.sources import CONFIG, SOURCES, decoded, placed, unknown

if TYPE_CHECKING:
    import asyncio

    from inferry.service import Service

    from functions.direct import Direct

# Seconds before the end of an invocation at which a prediction is stopped: its response has to be written and sent.
MARGIN = 0.5


class Gateway:
    """An application behind Mangum's handlers, without an event loop for responses that wait for nothing.

    These are nearly all; the first one that waits opens a loop. There is no lifespan.
    """

    def __init__(self, app: ASGIApp, service: "Service | None" = None) -> None:
        """`app`: a coroutine function, or an object that is called like one; `service` answers direct invocations."""
        self.app = app
        self._service = service
        self._direct: Direct | None = None
        self._cold = True
        self._loop: asyncio.AbstractEventLoop | None = None

    def open_loop(self) -> "asyncio.AbstractEventLoop":
        """The event loop for what has to wait, the same one each time."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
        return self._loop

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """The response to an HTTP event, in the form that its source takes, or to a direct invocation.

        UnknownEvent when it is neither; a direct invocation raises what is wrong with it.
        """
        source = _source(event, context)
        if source is None:
            return self._invoke(event, context)
        scope = source.scope
        scope["root_path"], path = placed(event)
        scope["path"] = scope["root_path"] + path
        request_id = event["requestContext"].get("requestId") or context.aws_request_id
        scope[KEY] = self._platform(context, request_id, source.max_response)
        exchange = Exchange(partial(decoded, source.body, event.get("isBase64Encoded", False)))
        self._exchange(self.app, scope, exchange)
        response: dict[str, Any] = source(
            {"status": exchange.status, "headers": exchange.headers, "body": exchange.body}
        )
        return response

    def _invoke(self, event: Any, context: Any) -> dict[str, Any]:
        # Most functions are never invoked directly: their init doesn't wait for this.
        from functions import direct

        if self._service is None or not direct.is_direct(event):
            raise unknown(event)
        if self._direct is None:
            self._direct = direct.Direct(self._service)
        request = self._direct.request(event)
        platform = self._platform(context, context.aws_request_id, direct.MAX_ANSWER)
        platform["failed"] = request.failed
        exchange = Exchange(request.body)
        self._exchange(self._direct.app, {**request.scope, KEY: platform}, exchange)
        return request.result(exchange.status, exchange.body)

    def _platform(self, context: Any, request_id: str, max_response: tuple[int, str]) -> PlatformContext:
        """What Lambda knows of a request."""
        cold, self._cold = self._cold, False
        return {
            "request_id": request_id,
            "trace_id": _trace_id(os.environ),
            "deadline": time.monotonic() + context.get_remaining_time_in_millis() / 1000 - MARGIN,
            "cold_start": cold,
            "max_response": max_response,
        }

    def _exchange(self, app: ASGIApp, scope: Scope, exchange: Exchange) -> None:
        answering: Coroutine[Any, Any, None] = app(scope, exchange.receive, exchange.send)  # type: ignore[assignment]
        variables = copy_context()
        try:
            variables.run(answering.send, None)
        except StopIteration:
            return
        loop = self.open_loop()
        loop.run_until_complete(loop.create_task(answering, context=variables))


def _source(event: Any, context: Any) -> Any:
    """The handler for the source of an event; None where that is no HTTP event."""
    if isinstance(event, dict):
        for source in SOURCES:
            if source.infer(event, context, CONFIG):
                return source(event, context, CONFIG)
    return None


def _trace_id(env: Mapping[str, str]) -> str:
    """X-Ray's id of the trace, of "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"."""
    return env.get("_X_AMZN_TRACE_ID", "").partition("Root=")[2].partition(";")[0]
