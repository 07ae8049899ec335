"""The least that a prediction needs: JSON to an array, a run, an array to JSON. No routes, no checks, one event."""

from typing import Any

from bench.peers.asgi import infer


def handler(event: Any, context: Any) -> Any:
    """The answer to an infer request, without a look at anything but its body."""
    body = infer(event["body"].encode())
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    return {"statusCode": 200, "body": body.decode(), "headers": headers, "isBase64Encoded": False}
