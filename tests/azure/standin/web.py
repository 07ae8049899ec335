"""The host's web server, as an ASGI application: a request to an invocation, its return value to an answer."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from azure_functions_runtime.bindings.datumdef import Datum

from standin import worker
from standin.routing import Route, allowed, find

# The host takes no larger body.
MAX_BODY = 100 * 2**20

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Web:
    """Serves `routes`; with `keys` (by level) they are asked for."""

    def __init__(self, routes: Sequence[Route], keys: Mapping[str, str], log: Callable[[str], None]) -> None:
        self._routes = routes
        self._keys = keys
        self._log = log

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        path = scope["raw_path"].decode("latin-1")
        route = find(self._routes, scope["method"], path)
        if route is None:
            return await _answer(send, 404)
        if not allowed(route, headers, query, self._keys):
            return await _answer(send, 401)
        body = await _body(receive)
        if body is None:
            return await _answer(send, 413)
        request = _datum(scope, path, headers, query, body)
        outcome = await worker.invoke(route.function, request, traceparent=headers.get("traceparent", ""))
        if outcome.error:
            self._log(f"Executed 'Functions.{route.function.name}' (Failed): {outcome.error}")
            return await _answer(send, 500)
        assert outcome.value is not None
        value = outcome.value.value
        answered = [(name.encode(), datum.value.encode()) for name, datum in value["headers"].items()]
        return await _answer(send, int(value["status_code"].value), answered, value["body"].value)


def _datum(scope: Message, path: str, headers: dict[str, str], query: dict[str, str], body: bytes) -> Datum:
    text = scope["query_string"].decode("latin-1")
    url = f"{scope['scheme']}://{headers.get('host', '127.0.0.1')}{path}{'?' if text else ''}{text}"
    return Datum(
        {
            "method": Datum(scope["method"], "string"),
            "url": Datum(url, "string"),
            "headers": {name: Datum(value, "string") for name, value in headers.items()},
            "query": {name: Datum(value, "string") for name, value in query.items()},
            "params": {},
            # The worker says RawHttpBodyBytes: bytes, whatever the content type.
            "body": Datum(body, "bytes"),
        },
        "http",
    )


async def _body(receive: Receive) -> bytes | None:
    """The whole body, as the host has it before it invokes; None when it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _answer(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b"") -> None:
    known = {name.lower() for name, _ in headers}
    length = [] if b"content-length" in known else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})
