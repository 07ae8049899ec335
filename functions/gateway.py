"""Invocations by HTTP as ASGI requests, with what Lambda knows of each in the scope."""

import os
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from inferry.http.asgi import ASGIApp, Exchange
from inferry.observability.context import KEY, PlatformContext

from functions.sources import CONFIG, SOURCES, decoded, placed, unknown

if TYPE_CHECKING:
    import asyncio

# Seconds before the end of an invocation at which a prediction is stopped: its response has to be written and sent.
MARGIN = 0.5


class Gateway:
    """An application behind Mangum's handlers, without an event loop for responses that wait for nothing.

    These are nearly all; the first one that waits opens a loop. There is no lifespan.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app`: a coroutine function, or an object that is called like one."""
        self.app: Callable[..., Coroutine[Any, Any, None]] = app  # type: ignore[assignment]
        self._cold = True
        self._loop: asyncio.AbstractEventLoop | None = None

    def open_loop(self) -> "asyncio.AbstractEventLoop":
        """The event loop for what has to wait, the same one each time."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
        return self._loop

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """The response to an HTTP event, in the form that its source takes. UnknownEvent when it is no HTTP event."""
        source = _source(event, context)
        scope = source.scope
        scope["root_path"], path = placed(event)
        scope["path"] = scope["root_path"] + path
        platform: PlatformContext = {
            "request_id": event["requestContext"].get("requestId") or context.aws_request_id,
            "trace_id": _trace_id(os.environ),
            "deadline": time.monotonic() + context.get_remaining_time_in_millis() / 1000 - MARGIN,
            "cold_start": self._cold,
            "max_response": source.max_response,
        }
        scope[KEY] = platform
        self._cold = False
        exchange = Exchange(partial(decoded, source.body, event.get("isBase64Encoded", False)))
        answering = self.app(scope, exchange.receive, exchange.send)
        variables = copy_context()
        try:
            variables.run(answering.send, None)
        except StopIteration:
            pass
        else:
            loop = self.open_loop()
            loop.run_until_complete(loop.create_task(answering, context=variables))
        response: dict[str, Any] = source(
            {"status": exchange.status, "headers": exchange.headers, "body": exchange.body}
        )
        return response


def _source(event: Any, context: Any) -> Any:
    """The handler for the source of an event. UnknownEvent."""
    if isinstance(event, dict):
        for source in SOURCES:
            if source.infer(event, context, CONFIG):
                return source(event, context, CONFIG)
    raise unknown(event)


def _trace_id(env: Mapping[str, str]) -> str:
    """X-Ray's id of the trace, of "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"."""
    return env.get("_X_AMZN_TRACE_ID", "").partition("Root=")[2].partition(";")[0]
