"""HTTP events, and what an invocation tells the application beside the request."""

import binascii
import os
import time
from collections.abc import Mapping, MutableMapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from inferry.asgi import ASGIApp, Receive, Scope, Send
from inferry.errors import InvalidRequest, RequestTooLarge
from mangum.handlers import ALB, APIGateway, HTTPGateway

# Lambda's 6 MB are those of a whole event: this leaves some for what is beside the body.
MAX_BODY = 6_000_000
# A text of this many bytes fits whatever it holds.
MAX_TEXT = MAX_BODY // 3
# Seconds before the end of an invocation at which a prediction is stopped: its answer has to be written and sent.
MARGIN = 0.5


class UnknownEvent(Exception):
    """An event that is no HTTP request."""


class _Source:
    """What all sources have. A body stays as it came: one that can't be decoded gets the application's answer."""

    event: dict[str, Any]

    @property
    def body(self) -> bytes:
        return (self.event.get("body") or "").encode()

    def __call__(self, response: Any) -> dict[str, Any]:
        """The answer; a large text in base64, as in JSON its quotes are two characters, and others up to six."""
        answer: dict[str, Any] = super().__call__(response)  # type: ignore[misc]
        if len(response["body"]) > MAX_TEXT and not answer["isBase64Encoded"]:
            answer |= {"body": binascii.b2a_base64(response["body"], newline=False).decode(), "isBase64Encoded": True}
        return answer

    @cached_property
    def scope(self) -> Any:
        """Made once: Mangum looks into it for the answer, too."""
        return super().scope  # type: ignore[misc]


class LoadBalancer(_Source, ALB):
    """Application Load Balancer."""


class HTTPApi(_Source, HTTPGateway):
    """HTTP API, in both of its payload formats, and Function URLs."""


class RestApi(_Source, APIGateway):
    """REST API."""


class Unknown(_Source, HTTPGateway):
    """Whatever the others don't take; asked first, it raises UnknownEvent."""

    @classmethod
    def infer(cls, event: Any, *arguments: Any) -> bool:
        if isinstance(event, dict) and any(source.infer(event, *arguments) for source in SOURCES[1:]):
            return False
        what = f"the keys {', '.join(sorted(event)) or '(none)'}" if isinstance(event, dict) else type(event).__name__
        raise UnknownEvent(
            "functions.api.handler takes HTTP events of API Gateway, Application Load Balancer and Function URLs, and "
            f"got {what}; events about files and queues are for functions.batch.handler"
        )


SOURCES = (Unknown, LoadBalancer, HTTPApi, RestApi)


class Invocations:
    """Tells `app` the ids and the deadline of each invocation, and the prefix of its path that is the gateway's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cold = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        event, context = scope["aws.event"], scope["aws.context"]
        scope["inferry"] = {
            "request_id": event["requestContext"].get("requestId") or context.aws_request_id,
            "trace_id": _trace_id(os.environ),
            "deadline": time.monotonic() + context.get_remaining_time_in_millis() / 1000 - MARGIN,
            "cold_start": self._cold,
        }
        self._cold = False
        scope["root_path"] = _root_path(event)

        async def received() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "http.request":
                message["body"] = _decoded(message["body"], event.get("isBase64Encoded", False))
            return message

        await self._app(scope, received, send)


def _decoded(body: bytes, is_base64: bool) -> bytes:
    if len(body) > MAX_BODY:
        raise RequestTooLarge(
            f"the body is {len(body)} bytes in its event, and {MAX_BODY} is what Lambda has room for (about 4.5 MB of "
            "tensors): send fewer rows at a time, tensors in binary, or a compressed body; or let a tensor's parameter "
            "'uri' say where it is (DATA_PREFIXES)"
        )
    if not is_base64:
        return body
    try:
        return binascii.a2b_base64(body, strict_mode=True)
    except binascii.Error as exc:
        raise InvalidRequest(f"the event's body isn't the base64 that its isBase64Encoded says: {exc}") from exc


def _trace_id(env: Mapping[str, str]) -> str:
    """X-Ray's id of the trace, of "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"."""
    fields = dict(field.partition("=")[::2] for field in env.get("_X_AMZN_TRACE_ID", "").split(";"))
    return fields.get("Root", "")


def _root_path(event: Mapping[str, Any]) -> str:
    """What the client's path has before the application's: a stage, or the mapping of a custom domain."""
    context = event["requestContext"]
    path = unquote(context.get("path") or event.get("rawPath") or "")
    proxy = (event.get("pathParameters") or {}).get("proxy")
    if proxy and path.endswith(own := f"/{unquote(proxy)}"):
        return path.removesuffix(own)
    stage = context.get("stage", "$default")
    return "" if stage == "$default" else f"/{stage}"
