"""Content-Encoding: what is inflated, what is refused, and that a bomb costs no memory."""

import asyncio
import gzip
import os
import time
import tracemalloc
import zlib

import pytest
from inferry.errors import InvalidRequest, RequestTooLarge, UnsupportedEncoding
from inferry.http.asgi import Message
from inferry.http.content import LARGE, Large, choose, deflate, inflate, read_body

BODY = b'{"inputs":[]}\0\1\2\xff' * 100
GZIP, DEFLATE = gzip.compress(BODY), zlib.compress(BODY)
LIMIT = len(BODY)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", GZIP),
        ("x-gzip", GZIP),
        (" GZip\t", GZIP),
        ("deflate", DEFLATE),
        ("Deflate", DEFLATE),
        ("", BODY),
        ("identity", BODY),
        ("Identity ", BODY),
    ],
)
def test_inflate(encoding: str, body: bytes) -> None:
    assert inflate(body, encoding, LIMIT) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"", b"a", BODY, bytes(10_000)])
def test_there_and_back(encoding: str, body: bytes) -> None:
    assert inflate(deflate(body, encoding), encoding, len(body)) == body
    # What clients use: Python's own modules read it.
    decompress = gzip.decompress if encoding == "gzip" else zlib.decompress
    assert decompress(deflate(body, encoding)) == body


@pytest.mark.parametrize("size", [1, 10, 1000, LIMIT])
def test_members_of_gzip_follow_one_another(size: int) -> None:
    """RFC 1952, 2.2: as `cat a.gz b.gz` and bgzip write them."""
    members = b"".join(gzip.compress(BODY[start : start + size]) for start in range(0, LIMIT, size))
    assert inflate(members, "gzip", LIMIT) == BODY
    with pytest.raises(RequestTooLarge):
        inflate(members, "gzip", LIMIT - 1)


def test_many_members_before_many_bytes_take_no_time() -> None:
    """Each would have what comes behind it copied: 8 GB here."""
    large = os.urandom(2**20)
    start = time.process_time()
    assert inflate(gzip.compress(b"") * 8000 + gzip.compress(large), "gzip", 2**20) == large
    assert time.process_time() - start < 2


@pytest.mark.parametrize("count", [1, 16, 17, 8000])
def test_a_body_of_many_members_is_a_large_one(count: int) -> None:
    """Each takes as long as some kilobytes, however little is in it."""
    body = gzip.compress(b"") * (count - 1) + GZIP

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    read = asyncio.run(read_body({b"content-encoding": b"gzip"}, receive, 2**20, None, LARGE))
    assert isinstance(read, Large) == (count > 16)
    assert (read.read() if isinstance(read, Large) else read) == BODY
    # Where there is no other process, all are.
    assert asyncio.run(read_body({b"content-encoding": b"gzip"}, receive, 2**20, None, 2**20)) == BODY


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "gzip,gzip", "*", "g" * 99, "compress"])
def test_unsupported(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding) as caught:
        inflate(GZIP, encoding, LIMIT)
    shown = encoding[:40]
    assert str(caught.value) == f"Content-Encoding {shown!r} is not supported; use gzip, deflate or none"


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("gzip", GZIP + b"\0", "the gzip body is followed by other bytes"),
        ("gzip", GZIP + gzip.compress(b"")[:-1], "the gzip body is cut off"),
        ("gzip", gzip.compress(b"") * 8193, "the gzip body has more than 8192 members: send it as one"),
        ("deflate", zlib.compress(b"a") * 2, "the deflate body is followed by other bytes"),
        ("deflate", DEFLATE + b"tail", "the deflate body is followed by other bytes"),
        ("gzip", GZIP[:-1], "the gzip body is cut off"),
        ("gzip", GZIP[:5], "the gzip body is cut off"),
        ("gzip", b"", "the gzip body is cut off"),
        ("deflate", DEFLATE[:-4], "the deflate body is cut off"),
        ("deflate", b"", "the deflate body is cut off"),
    ],
)
def test_cut_off_or_followed(encoding: str, body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        inflate(body, encoding, LIMIT)
    assert type(caught.value) is InvalidRequest
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", DEFLATE),
        ("deflate", GZIP),
        ("gzip", BODY),
        ("deflate", BODY),
        ("deflate", DEFLATE[2:-4]),  # without its container, as some servers once understood "deflate"
        ("gzip", GZIP[:-8] + bytes(4) + GZIP[-4:]),  # a wrong checksum
        ("deflate", DEFLATE[:-1] + bytes([DEFLATE[-1] ^ 1])),
    ],
)
def test_not_what_the_encoding_says(encoding: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        inflate(body, encoding, LIMIT)
    assert str(caught.value).startswith(f"the body is not {encoding}, as its Content-Encoding says: ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_limit(encoding: str) -> None:
    body = deflate(BODY, encoding)
    assert inflate(body, encoding, LIMIT) == BODY
    with pytest.raises(RequestTooLarge) as caught:
        inflate(body, encoding, LIMIT - 1)
    assert str(caught.value) == f"the body inflates to more than {LIMIT - 1} bytes (MAX_REQUEST_BYTES)"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bombs(encoding: str) -> None:
    """A thousandth of what it inflates to: the memory for it is bound by the limit, not by the bomb."""
    bomb = deflate(bytes(64 * 2**20), encoding)
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLarge):
            inflate(bomb, encoding, 2**20)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "identity"),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),  # tritonclient.http.aio
        ("deflate, gzip", "deflate"),
        ("br", "identity"),
        ("*", "identity"),
        ("identity, gzip", "identity"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0.8, deflate;q=0.8", "gzip"),
        ("gzip;q=0.5, identity", "identity"),
        ("gzip ; q=0.5 , DEFLATE ; Q=0.6", "deflate"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0, deflate;q=0.001", "deflate"),
        ("br;q=1, gzip;q=0.1", "gzip"),
        ("identity;q=0.5, gzip;q=1.0", "gzip"),
        ("gzip;q=1, deflate", "gzip"),
        ("gzip;q=", "gzip"),
        ("gzip;q=high", "identity"),
        ("gzip;q=-1", "identity"),
        ("gzip;q=nan", "identity"),
        ("gzip;q=0.2;q=0.9, deflate;q=0.1", "deflate"),
        (",,;,gzip", "gzip"),
        ("gzip," + "a," * 30_000, "gzip"),
        ("a," * 500 + "gzip", "gzip"),
        ("a," * 512 + "gzip", "identity"),  # nobody means what is behind 1 KiB
        (";q=1", "identity"),
    ],
)
def test_choose(accept: str, chosen: str) -> None:
    assert choose(accept) == chosen
