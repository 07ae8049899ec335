"""Content-Encoding: gzip and deflate, in and out, with a bound on what a body inflates to."""

from inferry.errors import InvalidRequest, RequestTooLarge, UnsupportedEncoding

# zlib's window bits: 15 for a zlib container, which is what HTTP calls deflate (RFC 9110, 8.4.1.2), +16 for gzip.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without its Content-Encoding. RequestTooLarge as soon as it holds over `limit` bytes."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOW_BITS:
        raise UnsupportedEncoding(f"Content-Encoding {encoding[:40]!r} is not supported; use gzip, deflate or none")
    import zlib

    inflater = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error as exc:
        raise InvalidRequest(f"the body is not {name}, as its Content-Encoding says: {exc}") from exc
    if len(inflated) > limit:
        raise RequestTooLarge(f"the body inflates to more than {limit} bytes (MAX_REQUEST_BYTES)")
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest(f"the {name} body is {'cut off' if not inflater.eof else 'followed by other bytes'}")
    return inflated


def choose(accept: str) -> str:
    """The encoding to answer with under an Accept-Encoding header: the first of the highest weight, as in Triton."""
    best, weight = "identity", 0.0
    for part in accept.split(","):
        name, _, parameter = part.strip().lower().partition(";")
        if name.strip() in ("gzip", "deflate", "identity") and (value := _weight(parameter)) > weight:
            best, weight = name.strip(), value
    return best


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
