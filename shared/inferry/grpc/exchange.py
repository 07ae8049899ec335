"""One request and what comes of it, as ASGI and the records of requests have them."""

import asyncio
import math
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from grpc import StatusCode

from inferry.grpc.errors import status
from inferry.http.errors import failure
from inferry.observability.record import RequestRecord
from inferry.observability.stats import reason_of

# Clients take 8 KiB of metadata, in which a character of an error may take 12.
_LONGEST = 600
_METHOD = "POST"


class CallScope(dict[str, Any]):
    """A call as ASGI has requests. Its metadata as headers, and who the client is, are looked up when asked for."""

    __slots__ = ("_call", "is_idle", "task", "until", "who")

    def __init__(self, path: str, call: Any) -> None:
        """`call`: grpc.aio's context."""
        super().__init__(type="http", method=_METHOD, path=path)
        self._call = call
        # Whether it is a stream that waits for its client.
        self.is_idle = False
        # The client, once somebody wants to know.
        self.who: str | None = None
        # The task that waits for the call's message, and until when; infinity when it is there, 0 when it was late.
        self.task: asyncio.Task[Any] | None = None
        self.until = math.inf

    def __missing__(self, key: str) -> Any:
        if key == "headers":
            value: Any = [(name.encode(), _bytes(value)) for name, value in self._call.invocation_metadata()]
        elif key == "client" and self._call is not None:
            value = _address(self._call.peer())
        else:
            raise KeyError(key)
        self[key] = value
        return value

    def end(self) -> None:
        """The call is over: nothing may be asked of it any more."""
        self._call = None


class Exchange:
    """A request until the block ends: then it is counted and recorded, and `failed` says what its client is told.

    `body` is the response's. Exceptions end here, but for those that end the call.
    """

    __slots__ = ("_path", "_record", "_responses", "_scope", "body", "failed")

    def __init__(
        self,
        path: str,
        scope: CallScope,
        record: RequestRecord | None,
        responses: MutableMapping[tuple[str, str, int], int],
    ) -> None:
        self.body = b""
        self.failed: tuple[StatusCode, str] | None = None
        self._path, self._scope, self._record, self._responses = path, scope, record, responses

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(self, _type: object, exc: BaseException | None, _traceback: object) -> bool:
        record, http = self._record, 200
        if isinstance(exc, Exception):
            http, text = failure(exc, self._scope, record, _LONGEST)
            self.failed = status(exc), text
        elif exc is not None:
            # Nobody is there to answer; nginx has a status for that.
            http = 499
        self._responses[_METHOD, self._path, http] += 1
        if record is not None:
            record.status, record.sent, record.route = http, len(self.body), self._path
            if exc is not None:
                record.reason = reason_of(exc)
            record.end()
        return self.failed is not None


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _address(peer: str) -> tuple[str, int] | None:
    """The address and the port of gRPC's name for a peer, such as ipv4:127.0.0.1:50000 or ipv6:%5B::1%5D:50000."""
    kind, _, place = peer.partition(":")
    address, _, port = unquote(place).rpartition(":")
    return (address.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") and port.isdigit() else None
