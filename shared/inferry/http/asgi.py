"""ASGI: its types, and what a response passes on its way to the server."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from inferry.concurrency import on_loop
from inferry.observability.record import RequestRecord

if TYPE_CHECKING:
    import asyncio

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
# Status, body and headers of a response.
Response: TypeAlias = tuple[int, bytes, Headers]

# Bytes of a response that are sent at once.
PART = 1 << 20
# A response of more bytes is held until its client has taken it. Servers take that much for it (uvicorn's high water).
HELD = 1 << 16

# In a scope: whose the response is, where responses are kept.
OWNER = "inferry.owner"

# In the state of a scope while the server is about to end.
DRAINING = "draining"
# There too, of a server that has more ports than uvicorn's: an event, from which on they take nothing more.
ENDING = "ending"


class Exchange:
    """A request that is there as a whole, and its response, collected: `receive` and `send` for an application."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        """`read` gives the request's body, when it is asked for: what it raises is the application's to answer."""
        self.status = 500
        self.headers: Headers = []
        self._read: Callable[[], bytes] | None = read
        self._parts: list[bytes] = []
        self._complete = False
        self._answered: asyncio.Event | None = None

    @property
    def body(self) -> bytes:
        """The body of the response, as far as it was sent."""
        return b"".join(self._parts)

    async def receive(self) -> Message:
        """ASGI's `receive`: the whole body; then, when the response is complete, that the client has left."""
        if self._read is not None:
            read, self._read = self._read, None
            return {"type": "http.request", "body": read(), "more_body": False}
        if not self._complete:
            await on_loop()
            import asyncio

            self._answered = self._answered or asyncio.Event()
            await self._answered.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's `send`: keeps the start of the response, or a part of its body."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
            return
        self._parts.append(message.get("body", b""))
        if not message.get("more_body"):
            self._complete = True
            if self._answered is not None:
                self._answered.set()


def is_draining(scope: Scope) -> bool:
    """Whether the server is about to end, and only answers what comes in spite of that."""
    return DRAINING in (scope.get("state") or ())


async def respond(response: Response, send: Send) -> None:
    """Sends a response as a whole, with its Content-Length."""
    status, body, headers = response
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def without_body(send: Send) -> Send:
    """`send` for the response to HEAD: the headers of GET's."""

    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


def in_parts(send: Send) -> Send:
    """`send` for a server of several clients: who takes a large response quickly keeps the others waiting no longer.

    It returns when the server has not much left of it, and the connection's next request begins no sooner.
    """

    async def send_parts(message: Message) -> None:
        body = memoryview(message.get("body", b""))
        if len(body) > HELD:
            import asyncio

            for start in range(0, len(body), PART):
                await send({"type": message["type"], "body": body[start : start + PART], "more_body": True})
                await asyncio.sleep(0)
            message = {**message, "body": b""}  # a server that has much to send takes it later
        await send(message)

    return send_parts


def below(root: str, path: str) -> str:
    """A path without the part in front of the application's own; some servers leave that out themselves."""
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


def below_base(base: str, root: str, path: str) -> str:
    """A path without the server's `root` and the rest of `base` in front, where they are: proxies take some off."""
    return below(below(root, base), below(root, path))


def link(scope: Mapping[str, Any], path: str) -> str:
    """A path of the application's as the client calls it, to be written into a response."""
    return f"{quote(scope.get('root_path', ''))}{path}"


def with_headers(send: Send, headers: Headers, record: RequestRecord | None) -> Send:
    """`send` that adds these to the response, and fills in `record`; `send` itself when there is nothing to do."""
    if record is None and not headers:
        return send

    def send_with_headers(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        if record is not None:
            record.status = message.get("status", record.status)
            record.sent += len(message.get("body", b""))
        return send(message)

    return send_with_headers


def limited(send: Send, check: Callable[[int], None], refusal: Callable[[Exception], Response]) -> Send:
    """`send` that asks `check` of the length a response declares; what it raises is answered instead."""
    refused = False

    async def send_limited(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start":
            try:
                check(int(dict(message["headers"]).get(b"content-length", 0)))
            except Exception as exc:  # noqa: BLE001  whatever it is becomes the response
                refused = True
                await respond(refusal(exc), send)
        if not refused:
            await send(message)

    return send_limited


async def not_http(kind: str, receive: Receive, send: Send) -> None:
    """Answers what is not HTTP: a lifespan has nothing to start or to stop, and a WebSocket is closed."""
    while True:
        message = await receive()
        if kind == "websocket":
            await send({"type": "websocket.close"})
            return
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
