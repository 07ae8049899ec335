"""A listing of a bucket that breaks off in its middle, over a real socket."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from inferry.errors import StoreError
from inferry.storage.bucket import LISTINGS
from inferry.storage.files import open_files

PAGE = (
    b'<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>x.csv</Key>'
    b'<LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>"e"</ETag><Size>7</Size></Contents></ListBucketResult>'
)


class Listing(BaseHTTPRequestHandler):
    """The first `broken` responses end in the middle of their document."""

    broken = 0
    asked = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked += 1
        body = PAGE[:100] if kind.asked <= kind.broken else PAGE
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Listing]]:
    handler = type("OneListing", (Listing,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        }.items():
            monkeypatch.setenv(name, value)
        yield handler
        server.shutdown()
        thread.join()


def test_a_listing_that_breaks_off(listing: type[Listing]) -> None:
    listing.broken = LISTINGS - 1
    assert [tuple(file) for file in open_files("s3://b").list()] == [("x.csv", 7, "e")]
    assert listing.asked == LISTINGS


def test_a_listing_that_always_breaks_off(listing: type[Listing]) -> None:
    listing.broken = 100
    with pytest.raises(StoreError, match="can't list s3://b"):
        open_files("s3://b").below("x")
    assert listing.asked == LISTINGS
