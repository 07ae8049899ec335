"""HTTP events: the request that each stands for, and the response as its source takes it.

`envelopes` has the events about files.
"""

import binascii
import itertools
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec, module_from_spec
from typing import Any
from urllib.parse import unquote

from inferry.errors import InvalidRequest, RequestTooLarge
from inferry.http.asgi import below
from inferry.http.routes import FIRST_SEGMENTS

# Mangum's handlers without mangum/__init__.py, which imports asyncio: 17 ms of an init of 110 (AMD EPYC, Python 3.11),
# and `gateway` needs none where a response waits for nothing. `importlib.util.LazyLoader` doesn't help: the next
# `import asyncio` would load it.
sys.modules["mangum"] = module_from_spec(find_spec("mangum"))  # type: ignore[arg-type]
from mangum.handlers import ALB, APIGateway, HTTPGateway  # noqa: E402
from mangum.types import LambdaConfig  # noqa: E402

del sys.modules["mangum"]

# What Mangum's handlers are told: the content types, or their beginnings, that are sent as text and not in base64.
CONFIG: LambdaConfig = {
    "api_gateway_base_path": "/",
    "text_mime_types": ["text/", "application/json", "application/javascript"],
    "exclude_headers": [],
}
# Lambda's 6 MB are those of a whole event: this leaves some for what is beside the body.
MAX_BODY = 6_000_000
# A text of this many bytes fits whatever it holds.
MAX_TEXT = MAX_BODY // 3
# In base64, with room for headers: of Lambda's 6 MB, and of what "the response JSON" of a load balancer's function may
# have, "1 MB".
MAX_ANSWER = 4_500_000
MAX_BALANCED = 740_000

_NO_STAGE = "$default"
# The names that API Gateway gives to APIs; custom domains have others.
_GATEWAYS_OWN = ".execute-api."
_PARAMETER = re.compile(r"\{([^}+]+)\+?\}")


class UnknownEvent(Exception):
    """An event that is neither an HTTP request nor a direct invocation."""


class _Source:
    """What the handlers of all sources share. The application decodes the body, so that it can refuse a broken one."""

    event: dict[str, Any]
    max_text = MAX_TEXT
    max_response = (MAX_ANSWER, "what Lambda passes on")
    _scope: Any = None

    @property
    def body(self) -> bytes:
        return (self.event.get("body") or "").encode()

    def __call__(self, response: Any) -> dict[str, Any]:
        """The response; a large text in base64, as in JSON its quotes are two characters, and others up to six."""
        event: dict[str, Any] = super().__call__(response)  # type: ignore[misc]
        if len(response["body"]) > self.max_text and not event["isBase64Encoded"]:
            event |= {"body": binascii.b2a_base64(response["body"], newline=False).decode(), "isBase64Encoded": True}
        return event

    @property
    def scope(self) -> Any:
        """Made once: Mangum looks into it for the response, too."""
        if self._scope is None:  # functools.cached_property takes a lock before Python 3.12
            self._scope = super().scope  # type: ignore[misc]
        return self._scope


class LoadBalancer(_Source, ALB):
    """Events of an Application Load Balancer."""

    max_text = 1_000_000 // 3
    max_response = (MAX_BALANCED, "what a load balancer takes from a function")


class HTTPApi(_Source, HTTPGateway):
    """Events of an HTTP API of API Gateway, in both of its payload formats, and of Function URLs.

    The newer format, which nearly all requests come in, is read and written here: what Mangum does for any application
    takes as long as the prediction of a small model.
    """

    @classmethod
    def infer(cls, event: Any, context: Any, config: Any) -> bool:
        # VPC Lattice has a version and a context of the request too.
        return "version" in event and ("httpMethod" in event or "http" in event.get("requestContext", ()))

    @property
    def scope(self) -> Any:
        event = self.event
        if event["version"] != "2.0" or event.get("cookies"):
            return super().scope
        context = event["requestContext"]
        http = context["http"]
        path = http["path"]
        given = event.get("headers", {})
        headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        return {
            "type": "http",
            "http_version": "1.1",
            "method": http["method"],
            "path": (unquote(path) if "%" in path else path) or "/",
            "raw_path": None,
            "root_path": "",
            "query_string": event.get("rawQueryString", "").encode(),
            "headers": headers,
            "scheme": given.get("x-forwarded-proto", "https"),
            "server": (context.get("domainName", ""), 443),
            "client": (http["sourceIp"], 0),
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "aws.event": event,
            "aws.context": self.context,
        }

    def __call__(self, response: Any) -> dict[str, Any]:
        headers = {name.decode(): value.decode() for name, value in response["headers"]}
        is_plain = len(headers) == len(response["headers"]) and "set-cookie" not in headers
        is_json = headers.get("content-type") == "application/json" and "content-encoding" not in headers
        is_text = is_json and len(response["body"]) <= MAX_TEXT
        if self.event["version"] != "2.0" or not is_plain or not is_text:
            return super().__call__(response)
        return {
            "statusCode": response["status"],
            "body": response["body"].decode(),
            "headers": headers,
            "isBase64Encoded": False,
        }


class RestApi(_Source, APIGateway):
    """Events of a REST API of API Gateway."""


SOURCES = (HTTPApi, RestApi, LoadBalancer)


def unknown(event: Any) -> UnknownEvent:
    """The error for an event that nothing here takes."""
    what = f"the keys {', '.join(sorted(event)) or '(none)'}" if isinstance(event, dict) else type(event).__name__
    return UnknownEvent(
        "functions.api.handler takes HTTP events of API Gateway, Application Load Balancer and Function URLs, and "
        'the direct invocations {"model_name": NAME, "inputs": [TENSOR, ...]}, {"model_name": NAME, "features": [ROW, '
        f'...]}} and {{"model_name": NAME, "ready": true}}; it got {what}; events about files and queues are for '
        "functions.batch.handler"
    )


def decoded(body: bytes, is_base64: bool) -> bytes:
    """A request's body, of that in its event. RequestTooLarge, InvalidRequest."""
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


def placed(event: Mapping[str, Any]) -> tuple[str, str]:
    """Where a client calls the API ("" at the root), and the path below that, as far as the event tells."""
    context, parameters = event["requestContext"], event.get("pathParameters")
    if "http" in context:
        sent, resource = context["http"]["path"], event.get("routeKey") or ""
    else:
        # At a REST API's own name, the event's path has no stage.
        sent = event["path"] if "version" in event else context.get("path") or event["path"]
        resource = event.get("resource") or ""
    stage = context.get("stage") or _NO_STAGE
    if parameters:
        if sent == f"/{parameters.get('proxy')}" and "%" not in sent:  # nearly always
            return "", sent
    elif stage == _NO_STAGE and "/" not in resource:
        return "", (unquote(sent) if "%" in sent else sent) or "/"
    # An HTTP API has its stage there even at a custom domain, where no client wrote it.
    unseen = stage if "http" in context and _GATEWAYS_OWN not in context.get("domainName", "") else ""
    return _placed(sent, resource, tuple(parameters.items()) if parameters else (), stage, unseen)


@lru_cache(64)
def _placed(
    sent: str, resource: str, parameters: tuple[tuple[str, str], ...], stage: str, unseen: str
) -> tuple[str, str]:
    """Most requests of a function are for the same few. `resource` may have a method in front."""
    sent, resource = unquote(sent) or "/", resource.rpartition(" ")[2]
    front, path = _below_resource(sent, resource, dict(parameters)) or _below_stage(sent, f"/{stage}")
    return below(f"/{unseen}", front) if unseen else front, path


def _below_resource(sent: str, resource: str, parameters: Mapping[str, str]) -> tuple[str, str] | None:
    """None where the path is not the resource's. A greedy parameter has no slash at its end where the path has one."""
    if not resource.startswith("/") or not parameters.keys() >= set(_PARAMETER.findall(resource)):
        return None
    path = _PARAMETER.sub(lambda match: unquote(parameters[match[1]]), resource).rstrip("/")
    sent = sent.rstrip("/")
    if not sent.endswith(path):
        return None
    mount = _mount(resource)
    return sent[: len(sent) - len(path)] + mount, path[len(mount) :] or "/"


def _below_stage(sent: str, stage: str) -> tuple[str, str]:
    path = below(stage, sent)
    return sent[: len(sent) - len(path)], path or "/"


def _mount(resource: str) -> str:
    """The literal beginning of a resource's path that no path of the API has: "/ml" of "/ml/{proxy+}"."""
    segments = resource.strip("/").split("/")
    front = itertools.takewhile(lambda segment: segment not in FIRST_SEGMENTS and not segment.startswith("{"), segments)
    return "".join(f"/{segment}" for segment in front)
