"""A stand-in for Google Cloud Storage, of which no emulator can be installed here: what obstore needs of its XML API.

Written after Google's reference of that API, in memory. moto, which speaks S3's dialect of the same, knows neither
Google's tokens nor its conditions. A token is one that the key file of `running()` signed, or the answer is a 401.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

HOST = "127.0.0.1"
# Google's pages have 1,000 objects; with few, the tests see several pages.
PAGE = 3
SMALLEST_PART = 5 * 1024 * 1024
REASONS = {
    401: "AuthenticationRequired",
    404: "NoSuchKey",
    400: "EntityTooSmall",
    412: "PreconditionFailed",
    416: "InvalidRange",
}


@dataclass(frozen=True)
class Stored:
    content: bytes
    generation: int
    modified: float

    @property
    def tag(self) -> str:
        # Google's tag names the generation, not the content.
        return f'"{hashlib.sha256(b"%d" % self.generation).hexdigest()[:24]}"'


Buckets = dict[str, dict[str, Stored]]


@dataclass(frozen=True)
class GoogleStorage:
    """The stand-in at `endpoint`, for those who hold the key file."""

    endpoint: str
    key_file: Path
    buckets: Buckets = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"GOOGLE_BASE_URL": self.endpoint, "GOOGLE_APPLICATION_CREDENTIALS": str(self.key_file)}

    def create(self, name: str) -> None:
        self.buckets[name] = {}

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self.buckets[bucket][key] = Stored(content, time.time_ns() // 1000, time.time())


@contextmanager
def running() -> Iterator[GoogleStorage]:
    with TemporaryDirectory() as folder:
        key = write_key(Path(folder, "key.json"))
        buckets: Buckets = {}
        with ThreadingHTTPServer((HOST, 0), _handler(buckets, key)) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield GoogleStorage(f"http://{HOST}:{server.server_port}", Path(folder, "key.json"), buckets)
            server.shutdown()
            thread.join()


def write_key(path: Path) -> rsa.RSAPublicKey:
    """A service account's key file, as Google's console gives it."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "inferry@localhost", "private_key_id": "1"}
    path.write_text(json.dumps(account | {"private_key": private.decode()}))
    return key.public_key()


class _Refused(Exception):
    def __init__(self, status: int, reason: str = "") -> None:
        self.status, self.reason = status, reason or REASONS[status]


@dataclass(frozen=True)
class _Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Request:
    query: Mapping[str, str]
    headers: Message
    body: bytes


class _Objects:
    """The API's requests for the objects of one process; a method each, chosen by `_routed`."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._generation = time.time_ns() // 1000
        self._lock = threading.Lock()

    def answer(self, method: str, bucket: str, name: str, request: _Request) -> _Answer:
        with self._lock:
            if bucket not in self._buckets:
                raise _Refused(404, "NoSuchBucket")
            return self._routed(method, name, request)(self._buckets[bucket], name, request)

    def _routed(self, method: str, name: str, request: _Request) -> Any:
        upload = "uploads" if "uploads" in request.query else "uploadId" if "uploadId" in request.query else ""
        return {
            ("GET", "bucket"): self.listed,
            ("GET", ""): self.read,
            ("HEAD", ""): self.read,
            ("PUT", ""): self.put,
            ("DELETE", ""): self.delete,
            ("POST", "uploads"): self.start,
            ("PUT", "uploadId"): self.part,
            ("POST", "uploadId"): self.complete,
            ("DELETE", "uploadId"): self.abort,
        }[method, upload if name else "bucket"]

    def listed(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        after = request.query.get("continuation-token", "")
        names = sorted(key for key in bucket if key.startswith(request.query.get("prefix", "")) and key > after)
        items = "".join(_item(key, bucket[key]) for key in names[:PAGE])
        more = len(names) > PAGE
        token = f"<NextContinuationToken>{escape(names[PAGE - 1])}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return _Answer(body=_xml("ListBucketResult", f"{items}{truncated}{token}"))

    def read(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        found = _found(bucket, name)
        headers = {
            "ETag": found.tag,
            "Last-Modified": formatdate(found.modified, usegmt=True),
            "x-goog-generation": str(found.generation),
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if not asked:
            return _Answer(200, found.content, headers)
        first, last = int(asked[1]), min(int(asked[2]), len(found.content) - 1)
        if first > last:
            raise _Refused(416)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(found.content)}"
        return _Answer(206, found.content[first : last + 1], headers)

    def put(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        wanted = request.headers.get("x-goog-if-generation-match")
        if wanted is not None and int(wanted) != (bucket[name].generation if name in bucket else 0):
            raise _Refused(412)
        stored = self._store(bucket, name, request.body)
        return _Answer(headers={"ETag": stored.tag, "x-goog-generation": str(stored.generation)})

    def delete(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        _found(bucket, name)
        del bucket[name]
        return _Answer(204)

    def start(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        upload = f"upload-{len(self._uploads)}"
        self._uploads[upload] = {}
        return _Answer(body=_xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>"))

    def part(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        self._upload(request)[int(request.query["partNumber"])] = request.body
        return _Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    def complete(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        parts = self._upload(request)
        numbers = [int(node.text or "") for node in ElementTree.fromstring(request.body).iter("PartNumber")]
        if any(len(parts[number]) < SMALLEST_PART for number in numbers[:-1]):
            raise _Refused(400)
        stored = self._store(bucket, name, b"".join(parts[number] for number in numbers))
        del self._uploads[request.query["uploadId"]]
        return _Answer(body=_xml("CompleteMultipartUploadResult", f"<ETag>{escape(stored.tag)}</ETag>"))

    def abort(self, bucket: dict[str, Stored], name: str, request: _Request) -> _Answer:
        self._upload(request)
        del self._uploads[request.query["uploadId"]]
        return _Answer(204)

    def _upload(self, request: _Request) -> dict[int, bytes]:
        if request.query["uploadId"] not in self._uploads:
            raise _Refused(404, "NoSuchUpload")
        return self._uploads[request.query["uploadId"]]

    def _store(self, bucket: dict[str, Stored], name: str, content: bytes) -> Stored:
        self._generation += 1
        bucket[name] = Stored(content, self._generation, time.time())
        return bucket[name]


def _found(bucket: dict[str, Stored], name: str) -> Stored:
    if name not in bucket:
        raise _Refused(404)
    return bucket[name]


def _item(name: str, stored: Stored) -> str:
    modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.modified))
    return (
        f"<Contents><Key>{escape(name)}</Key><Generation>{stored.generation}</Generation>"
        f"<LastModified>{modified}</LastModified><ETag>{escape(stored.tag)}</ETag>"
        f"<Size>{len(stored.content)}</Size></Contents>"
    )


def _xml(name: str, content: str) -> bytes:
    namespace = "http://doc.s3.amazonaws.com/2006-03-01"
    return f"<?xml version='1.0' encoding='UTF-8'?><{name} xmlns='{namespace}'>{content}</{name}>".encode()


def _check_token(authorization: str, key: rsa.RSAPublicKey) -> None:
    """The bearer's token is a JSON Web Token that the account signed and that has not expired."""
    try:
        jwt.decode(authorization.removeprefix("Bearer "), key, ["RS256"], options={"require": ["exp"]})
    except jwt.InvalidTokenError as exc:
        raise _Refused(401) from exc


def _handler(buckets: Buckets, key: rsa.RSAPublicKey) -> type[BaseHTTPRequestHandler]:
    objects = _Objects(buckets)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are written apart: without it the body waits for the other side to acknowledge the head.
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            bucket, name = (unquote(part) for part in url.path[1:].partition("/")[::2])
            try:
                _check_token(self.headers.get("Authorization", ""), key)
                answer = objects.answer(self.command, bucket, name, _Request(query, self.headers, body))
            except _Refused as exc:
                answer = _Answer(exc.status, _xml("Error", f"<Code>{exc.reason}</Code>"))
            self._send(answer)

        def _send(self, answer: _Answer) -> None:
            self.send_response(answer.status)
            for header, value in answer.headers.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            # A client that wants no more of an answer closes the connection.
            with suppress(ConnectionError):
                self.wfile.write(b"" if self.command == "HEAD" else answer.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
