"""The sample events of events/, an HTTP API's event for any request, and the body of an answer."""

import base64
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "events"
HTTP = (
    "alb",
    "alb-multi-value",
    "function-url",
    "http-api",
    "http-api-binary",
    "http-api-get",
    "http-api-stage",
    "rest-api-binary",
    "rest-api-mapping",
    "rest-api-mapping-stage",
    "rest-api-slash",
    "rest-api-stage",
)
# What API Gateway takes for text; everything else comes in base64.
TEXT = ("text/", "application/json", "application/javascript", "application/xml")


def load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return event


def http_api(
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    query: str = "",
    request_id: str = "",
) -> dict[str, Any]:
    """The event of a request, with header names in lower case."""
    event = load("http-api")
    headers = headers or {}
    text = _text(body) if headers.get("content-type", "").startswith(TEXT) else None
    context = event["requestContext"]
    context["http"] |= {"method": method, "path": path}
    del event["pathParameters"]
    return event | {
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": context | ({"requestId": request_id} if request_id else {}),
        "isBase64Encoded": text is None,
        "body": base64.b64encode(body).decode() if text is None else text,
    }


def body(answer: dict[str, Any]) -> bytes:
    """The bytes that a gateway makes of a function's answer."""
    text: str = answer["body"]
    return base64.b64decode(text) if answer["isBase64Encoded"] else text.encode()


def _text(body: bytes) -> str | None:
    # What the gateway does to bytes that it was told are text, nobody says.
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
