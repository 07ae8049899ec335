"""A request's body, and Content-Encoding in and out: gzip and deflate, with a bound on what a body inflates to."""

import pickle
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from inferry.errors import InvalidRequest, RequestTooLarge, UnsupportedEncoding
from inferry.http.asgi import Headers, Message, Receive
from inferry.observability.record import RequestRecord

if TYPE_CHECKING:
    from inferry.http.intake import Intake

# zlib's window bits: 15 for a zlib container, which is what HTTP calls deflate (RFC 9110, 8.4.1.2), +16 for gzip.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
# A member is 20 bytes or more; those who write many (bgzip) put 64 kB in each.
_MAGIC, _MEMBERS, _STEP = b"\x1f\x8b", 8192, 4096
# As many are inflated between two turns of the event loop. All begin so: in what is compressed it hardly ever occurs.
_FEW, _BEGINNING = 16, _MAGIC + b"\x08"
# Of an Accept or Accept-Encoding header so much is read.
_ACCEPT = 1024


# Bytes of a body up to which it is read between two turns of the event loop, whatever is in it: in 40 ms at worst
# (strings in binary, rows of one number). Numbers in binary are only copied.
LARGE = 256 * 2**10
# Bytes up to which it is read as it comes: more, or compressed ones, of several clients are read in turns.
SMALL = 4096
LARGE_NUMBERS = 4 * 2**20


class Large(NamedTuple):
    """A body as it came, in parts, with its Content-Encoding; it may have `limit` bytes without."""

    parts: Sequence[bytes | bytearray]
    encoding: str
    limit: int

    def __reduce__(self) -> tuple[Any, ...]:
        return Large, ([*map(pickle.PickleBuffer, self.parts)], self.encoding, self.limit)

    def read(self) -> bytes:
        """The whole body without its Content-Encoding. Errors as `inflate`."""
        return inflate(b"".join(self.parts), self.encoding, self.limit)

    def of_numbers(self, header_length: bytes | None) -> bytes | None:
        """All of it if there is not much but numbers in binary, which take no time to read; else None."""
        if self.encoding or header_length is None or not header_length.isdigit() or len(header_length) > 7:
            return None
        size = int(header_length)
        if size > LARGE or sum(map(len, self.parts)) > LARGE_NUMBERS:
            return None
        body = b"".join(self.parts)
        return None if b"BYTES" in body[:size] else body


Body: TypeAlias = bytes | Large


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without its Content-Encoding. RequestTooLarge as soon as it holds over `limit` bytes."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOW_BITS:
        raise UnsupportedEncoding(f"Content-Encoding {encoding[:40]!r} is not supported; use gzip, deflate or none")
    parts: list[bytes] = []
    end = size = 0
    for _ in range(_MEMBERS):
        member = _member(body, name, end, limit - size, _STEP if end else len(body))
        parts += member.parts
        size += sum(map(len, member.parts))
        end = member.end
        if size > limit:
            raise RequestTooLarge(f"the body inflates to more than {limit} bytes (MAX_REQUEST_BYTES)")
        if not member.whole:
            raise InvalidRequest(f"the {name} body is cut off")
        if end == len(body):
            return b"".join(parts)
        # RFC 1952, 2.2: members simply follow one another.
        if name == "deflate" or body[end : end + 2] != _MAGIC:
            raise InvalidRequest(f"the {name} body is followed by other bytes")
    raise InvalidRequest(f"the {name} body has more than {_MEMBERS} members: send it as one")


def choose(accept: str) -> str:
    """The encoding to answer with under an Accept-Encoding header: the first of the highest weight, as in Triton."""
    best, weight = "identity", 0.0
    for part in accept[:_ACCEPT].split(","):
        name, _, parameter = part.strip().lower().partition(";")
        if name.strip() in ("gzip", "deflate", "identity") and (value := _weight(parameter)) > weight:
            best, weight = name.strip(), value
    return best


def encoded(body: bytes, accept: str) -> tuple[bytes, Headers]:
    """`body` as an Accept-Encoding header asks for it, and the response's headers that say so."""
    encoding = choose(accept)
    if encoding == "identity":
        return body, []
    return deflate(body, encoding), [(b"content-encoding", encoding.encode())]


def deflate(body: bytes, encoding: str) -> bytes:
    """`body` in `encoding`, gzip or deflate."""
    import zlib

    # Level 1: tensors of floats hardly shrink at any level.
    deflater = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS[encoding])
    return deflater.compress(body) + deflater.flush()


def _weight(parameter: str) -> float:
    _, _, value = parameter.partition("q=")
    try:
        return float(value) if value else 1.0
    except ValueError:
        return 0.0


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"the request's body is over {limit} bytes (MAX_REQUEST_BYTES): send fewer rows at a time, or tensors in binary"
    )


async def read_body(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    limit: int,
    record: RequestRecord | None,
    large: int,
    intake: "Intake | None" = None,
    small: int = SMALL,
) -> Body:
    """A request's body without its Content-Encoding; as it came if it has over `large` bytes, with that or without.

    Over `small` bytes it is read in turns.
    RequestTooLarge over `limit` bytes, before and after inflating; what `intake` raises, which is a server's.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit():
        expected = int(declared[:20])
        if expected > limit:
            raise _too_large(limit)
        if intake is not None and expected > large:
            intake.check(expected)
    message = await receive()
    body: Body = message.get("body", b"")
    size = len(body)
    if size > large or message.get("more_body"):
        received = await _received(message, receive, limit, intake)
        size = len(received)
        body = Large([received], "", limit) if size > large else bytes(received)
    if record is not None:
        record.received = size
    encoding = headers.get(b"content-encoding")
    # What is larger is read in another process.
    if intake is not None and (size > small or encoding) and size <= LARGE_NUMBERS:
        await intake.turn()
    if encoding:
        body = _inflated(body, encoding.decode("latin-1"), limit, large)
    if intake is not None and isinstance(body, Large):
        intake.check(0)
    return body


def _inflated(body: Body, encoding: str, limit: int, large: int) -> Body:
    if isinstance(body, Large):
        return body._replace(encoding=encoding)
    if limit <= large:
        return inflate(body, encoding, limit)
    try:
        if body.count(_BEGINNING) <= _FEW:
            return inflate(body, encoding, large)
    except RequestTooLarge:
        pass
    return Large([body], encoding, limit)


async def _received(message: Message, receive: Receive, limit: int, intake: "Intake | None") -> bytearray:
    """A body that begins with `message`.

    In one block, which goes back to the system: of parts of 256 kB, `process` would keep what lies before the last.
    """
    body = bytearray()
    while True:
        part = message.get("body", b"")
        if intake is not None:
            intake.hold(len(part))
        body += part
        if len(body) > limit or not message.get("more_body"):
            break
        message = await receive()
    if len(body) > limit:
        raise _too_large(limit)
    return body


class _Member(NamedTuple):
    """Of a gzip file: what it inflates to, where it ends, and whether it was there to its end."""

    parts: list[bytes]
    end: int
    whole: bool


def _member(body: bytes, name: str, start: int, limit: int, step: int) -> _Member:
    """The member at `start`, inflated as far as it has `limit` bytes.

    It is read in steps that grow: zlib copies what comes behind a member, and there may be many in a body.
    """
    import zlib

    inflater, view = zlib.decompressobj(_WINDOW_BITS[name]), memoryview(body)
    parts: list[bytes] = []
    try:
        while start < len(body) and not inflater.eof and limit >= 0:
            parts.append(inflater.decompress(view[start : start + step], limit + 1))
            limit -= len(parts[-1])
            start = min(start + step, len(body)) - len(inflater.unused_data)
            step *= 2
    except zlib.error as exc:
        raise InvalidRequest(f"the body is not {name}, as its Content-Encoding says: {exc}") from exc
    return _Member(parts, start, inflater.eof)
