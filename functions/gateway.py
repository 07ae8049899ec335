"""An invocation by HTTP: Mangum, and what Lambda knows of the request told to the application."""

import os
import time
from collections.abc import Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Literal

from inferry.concurrency import on_loop
from inferry.http.asgi import ASGIApp, Message

from functions.postponed import postponed
from functions.sources import SOURCES, decoded, placed, unknown

with postponed("asyncio"):
    from mangum import Mangum

if TYPE_CHECKING:
    import asyncio

# Seconds before the end of an invocation at which a prediction is stopped: its answer has to be written and sent.
MARGIN = 0.5


class Gateway(Mangum):
    """Mangum without an event loop for answers that wait for nothing, which are nearly all."""

    def __init__(self, app: ASGIApp, lifespan: Literal["off"]) -> None:
        """`app`: a coroutine function, or an object that is called like one."""
        super().__init__(app, lifespan)  # type: ignore[arg-type]
        self._cold = True
        self._loop: asyncio.AbstractEventLoop | None = None

    def _setup_event_loop(self) -> None:
        """Nothing: the first answer that waits opens a loop."""

    def open_loop(self) -> "asyncio.AbstractEventLoop":
        """The event loop for what has to wait, the same one each time."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
        return self._loop

    def infer(self, event: Any, context: Any) -> Any:
        """The source of an event. UnknownEvent."""
        if isinstance(event, dict):
            for source in SOURCES:
                if source.infer(event, context, self.config):
                    return source(event, context, self.config)
        raise unknown(event)

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """An invocation. UnknownEvent."""
        source = self.infer(event, context)
        scope = source.scope
        scope["root_path"], path = placed(event)
        scope["path"] = scope["root_path"] + path
        scope["inferry"] = {
            "request_id": event["requestContext"].get("requestId") or context.aws_request_id,
            "trace_id": _trace_id(os.environ),
            "deadline": time.monotonic() + context.get_remaining_time_in_millis() / 1000 - MARGIN,
            "cold_start": self._cold,
            "max_response": source.max_response,
        }
        self._cold = False
        exchange = _Exchange(source.body, event.get("isBase64Encoded", False))
        answering = self.app(scope, exchange.receive, exchange.send)
        variables = copy_context()
        try:
            variables.run(answering.send, None)
        except StopIteration:
            pass
        else:
            loop = self.open_loop()
            loop.run_until_complete(loop.create_task(answering, context=variables))
        answer: dict[str, Any] = source(exchange.answer)
        return answer


class _Exchange:
    """A request's body on its way to the application, and the answer on its way back."""

    answer: dict[str, Any]
    _asked = _answered = False
    _waiting: "asyncio.Event | None" = None

    def __init__(self, body: bytes, is_base64: bool) -> None:
        self._body = body
        self._is_base64 = is_base64

    async def receive(self) -> Message:
        """The body, and then that the client is gone, as soon as it has its answer."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": decoded(self._body, self._is_base64), "more_body": False}
        if not self._answered:
            await on_loop()
            import asyncio

            self._waiting = self._waiting or asyncio.Event()
            await self._waiting.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer = {"status": message["status"], "headers": message["headers"], "body": b""}
            return
        self.answer["body"] += message.get("body", b"")
        self._answered = not message.get("more_body")
        if self._answered and self._waiting is not None:
            self._waiting.set()


def _trace_id(env: Mapping[str, str]) -> str:
    """X-Ray's id of the trace, of "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"."""
    return env.get("_X_AMZN_TRACE_ID", "").partition("Root=")[2].partition(";")[0]
