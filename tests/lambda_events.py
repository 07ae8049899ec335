"""The sample events of events/, and the same requests by hand."""

import base64
import copy
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "events"
HTTP = (
    "alb",
    "alb-multi-value",
    "function-url",
    "http-api",
    "http-api-binary",
    "http-api-get",
    "http-api-stage",
    "rest-api-binary",
    "rest-api-stage",
)


def load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return event


def http_api(
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    request_id: str = "B7xQ2jOdliAEPLg=",
) -> dict[str, Any]:
    """An HTTP API's event; like the gateway, it takes for text what its Content-Type calls so."""
    event = copy.deepcopy(_TEMPLATE)
    headers = {name.lower(): value for name, value in (headers or {}).items()}
    is_text = headers.get("content-type", "").startswith(_TEXT)
    event |= {
        "rawPath": path,
        "headers": headers,
        "isBase64Encoded": not is_text,
        "body": body.decode() if is_text else base64.b64encode(body).decode(),
    }
    event["requestContext"] |= {"requestId": request_id}
    event["requestContext"]["http"] |= {"method": method, "path": path}
    del event["pathParameters"]
    return event


def body(answer: dict[str, Any]) -> bytes:
    """The bytes that a gateway makes of a function's answer."""
    text: str = answer["body"]
    return base64.b64decode(text) if answer["isBase64Encoded"] else text.encode()


_TEMPLATE = load("http-api")
_TEXT = ("text/", "application/json", "application/javascript", "application/xml")
