"""Queues and blobs by Azure Storage's REST interface, signed with the account's key (Shared Key)."""

import base64
import hashlib
import hmac
import http.client
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import quote, urlencode, urlsplit
from xml.sax.saxutils import escape

VERSION = "2021-08-06"


class StorageFailed(Exception):
    """The service's status is no success."""


@dataclass(frozen=True)
class Message:
    """A message as it is received: `text` is what the queue holds."""

    id: str
    receipt: str
    dequeued: int
    inserted: str
    expires: str
    visible: str
    text: str


@dataclass(frozen=True)
class Storage:
    """An account; endpoints end with the account's name, as Azurite's do."""

    account: str
    key: str
    blob_endpoint: str
    queue_endpoint: str

    @classmethod
    def parse(cls, connection: str) -> "Storage":
        """Of a connection string."""
        fields = dict(part.split("=", 1) for part in connection.split(";") if part)
        return cls(
            fields["AccountName"],
            fields["AccountKey"],
            fields["BlobEndpoint"].rstrip("/"),
            fields["QueueEndpoint"].rstrip("/"),
        )

    @property
    def connection(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_endpoint};QueueEndpoint={self.queue_endpoint}"
        )

    def create_queue(self, name: str) -> None:
        self._request("PUT", self.queue_endpoint, name)

    def put(self, queue: str, body: bytes) -> None:
        """As nearly all senders do it: in base64."""
        self.send(queue, base64.b64encode(body).decode())

    def send(self, queue: str, text: str) -> None:
        self._request("POST", self.queue_endpoint, f"{queue}/messages", content=_content(text))

    def receive(self, queue: str, count: int, invisible: int) -> list[Message]:
        """Up to `count` messages, which nobody else sees for `invisible` seconds."""
        query = {"numofmessages": str(count), "visibilitytimeout": str(invisible)}
        return [_message(node) for node in self._xml(f"{queue}/messages", query)]

    def peek(self, queue: str) -> list[bytes]:
        """The bodies of the messages that are visible, which are base64."""
        return [base64.b64decode(text, validate=True) for text in self.texts(queue)]

    def texts(self, queue: str) -> list[str]:
        """The messages that are visible, as the queue holds them."""
        query = {"peekonly": "true", "numofmessages": "32"}
        return [node.findtext("MessageText") or "" for node in self._xml(f"{queue}/messages", query)]

    def release(self, queue: str, message: Message, seconds: int) -> None:
        """Shows the message again in `seconds`."""
        query = {"popreceipt": message.receipt, "visibilitytimeout": str(seconds)}
        self._request("PUT", self.queue_endpoint, f"{queue}/messages/{message.id}", query, _content(message.text))

    def delete(self, queue: str, message: Message) -> None:
        self._request("DELETE", self.queue_endpoint, f"{queue}/messages/{message.id}", {"popreceipt": message.receipt})

    def create_container(self, name: str) -> None:
        self._request("PUT", self.blob_endpoint, name, {"restype": "container"})

    def upload(self, container: str, name: str, content: bytes) -> None:
        headers = {"x-ms-blob-type": "BlockBlob"}
        self._request("PUT", self.blob_endpoint, f"{container}/{quote(name)}", content=content, headers=headers)

    def download(self, container: str, name: str) -> bytes:
        return self._request("GET", self.blob_endpoint, f"{container}/{quote(name)}")

    def blobs(self, container: str) -> dict[str, str]:
        """The names of the blobs with their ETags."""
        content = self._request("GET", self.blob_endpoint, container, {"restype": "container", "comp": "list"})
        blobs = ET.fromstring(content).iter("Blob")
        return {blob.findtext("Name") or "": blob.findtext("Properties/Etag") or "" for blob in blobs}

    def _xml(self, path: str, query: Mapping[str, str]) -> list[ET.Element]:
        return list(ET.fromstring(self._request("GET", self.queue_endpoint, path, query)))

    def _request(
        self,
        method: str,
        endpoint: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        query = query or {}
        url = urlsplit(f"{endpoint}/{path}")
        ours = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION, **(headers or {})}
        lines = [method, "", "", str(len(content) or ""), *[""] * 8]
        lines += [f"{name}:{value}" for name, value in sorted(ours.items())]
        lines += ["\n".join([f"/{self.account}{url.path}", *(f"{k}:{v}" for k, v in sorted(query.items()))])]
        signed = hmac.digest(base64.b64decode(self.key), "\n".join(lines).encode(), hashlib.sha256)
        ours["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(signed).decode()}"
        if content:
            ours["Content-Length"] = str(len(content))
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        try:
            connection.request(method, f"{url.path}{'?' if query else ''}{urlencode(query)}", content or None, ours)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        # 409: what is to be created is there.
        if response.status >= 300 and response.status != 409:
            raise StorageFailed(f"{method} {path}: {response.status} {answer[:300]!r}")
        return answer


def _message(node: ET.Element) -> Message:
    def text(tag: str) -> str:
        return node.findtext(tag) or ""

    return Message(
        text("MessageId"),
        text("PopReceipt"),
        int(text("DequeueCount")),
        text("InsertionTime"),
        text("ExpirationTime"),
        text("TimeNextVisible"),
        text("MessageText"),
    )


def _content(text: str) -> bytes:
    return f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>".encode()
