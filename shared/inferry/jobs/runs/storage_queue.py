"""A queue of Azure Storage by its REST interface: messages into it, how many it has, and what is in front."""

import base64
import hashlib
import hmac
import itertools
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from email.utils import formatdate
from queue import SimpleQueue
from urllib.parse import parse_qsl, urlsplit

from inferry.cloud.entra import CommandLine, ManagedIdentity
from inferry.cloud.http_client import Answer, NoAnswer, Poster
from inferry.errors import InvalidSettings, StoreError
from inferry.jobs.runs.queue_text import decoded, encoded

_VERSION = "2021-08-06"
_RESOURCE = "https://storage.azure.com"
# Seconds for an answer, and how often one is asked for that may come another time.
SECONDS, ATTEMPTS = 30.0, 4
# Messages that are put at once, and those that are taken from an iterable before.
WRITERS, AHEAD = 8, 512

Signed = Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]


class StorageQueue:
    """The queue at `url`; opened with the account's key, a managed identity or the user of `az login`, in this order.

    Messages are put in base64, as nearly all who read queues expect them. StoreError when the service doesn't do what
    it is asked.
    """

    def __init__(self, url: str, env: Mapping[str, str]) -> None:
        """InvalidSettings when there is nothing to open it with, or it would be asked without TLS."""
        if not url.startswith("https://") and env.get("AZURE_ALLOW_HTTP", "").lower() != "true":
            raise InvalidSettings(f"the URL of a queue starts with https://, got {url[:200]!r}")
        self.url = url.rstrip("/")
        self._signed = _signed(env)

    def put(self, bodies: Iterable[bytes]) -> None:
        """Puts messages, in any order; when it fails, some of them may be there."""
        left = iter(bodies)
        with ExitStack() as stack, ThreadPoolExecutor(WRITERS) as threads:
            free: SimpleQueue[Poster] = SimpleQueue()
            for _ in range(WRITERS):
                free.put(stack.enter_context(self._poster("/messages")))

            def put(body: bytes) -> None:
                poster = free.get()
                try:
                    text = f"<QueueMessage><MessageText>{encoded(body)}</MessageText></QueueMessage>"
                    self._ask(poster, "POST", text.encode())
                finally:
                    free.put(poster)

            while ahead := list(itertools.islice(left, AHEAD)):
                list(threads.map(put, ahead))

    def count(self) -> int:
        """About how many messages there are, those that are being worked on included; never fewer than there are."""
        with self._poster("?comp=metadata") as poster:
            return int(self._ask(poster, "GET").headers["x-ms-approximate-messages-count"])

    def peek(self) -> list[bytes]:
        """The bodies of up to 32 messages in front; those of other senders may be plain text."""
        with self._poster("/messages?numofmessages=32&peekonly=true") as poster:
            answer = self._ask(poster, "GET")
        texts = (node.text or "" for node in ET.fromstring(answer.body).iter("MessageText"))  # noqa: S314  Azure's own
        return [decoded(text.encode()) for text in texts]

    def _poster(self, target: str) -> "closing[Poster]":
        return closing(Poster(f"{self.url}{target}", "BATCH_RUNNER"))

    def _ask(self, poster: Poster, method: str, body: bytes = b"") -> Answer:
        problem = ""
        for attempt in range(ATTEMPTS):
            time.sleep(attempt**2)
            try:
                answer = self._once(poster, method, body)
            except NoAnswer as exc:
                problem = str(exc)
                continue
            if answer.status < 300:
                return answer
            problem = f"{answer.status} {answer.headers.get('x-ms-error-code', '')}".strip()
            if answer.status < 500:
                break
        raise StoreError(f"the queue {self.url} can't be asked: {problem}")

    def _once(self, poster: Poster, method: str, body: bytes) -> Answer:
        ours = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        headers = {**ours, **self._signed(method, poster.target, ours, body)}
        deadline = time.monotonic() + SECONDS
        return poster.post(body, headers, deadline) if method == "POST" else poster.get(headers, deadline)


def _signed(env: Mapping[str, str]) -> Signed:
    """What makes the header that opens the queue."""
    account, key = env.get("AZURE_STORAGE_ACCOUNT_NAME", ""), env.get("AZURE_STORAGE_ACCOUNT_KEY", "")
    if key:
        try:
            return _shared_key(account, base64.b64decode(key))
        except ValueError as exc:
            raise InvalidSettings("AZURE_STORAGE_ACCOUNT_KEY is no base64") from exc
    tokens = ManagedIdentity(env, _RESOURCE) if "IDENTITY_ENDPOINT" in env else CommandLine(_RESOURCE)
    lock = threading.Lock()

    def bearer(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        with lock:
            return {"Authorization": f"Bearer {tokens.token(time.monotonic() + SECONDS)}"}

    return bearer


def _shared_key(account: str, key: bytes) -> Signed:
    """Azure's Shared Key: of all headers, only those that are sent count."""

    def signed(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        parts = urlsplit(target)
        named = [f"{name}:{value}" for name, value in sorted(headers.items())]
        query = [f"{name}:{value}" for name, value in sorted(parse_qsl(parts.query))]
        lines = [method, "", "", str(len(body) or ""), *[""] * 8, *named, f"/{account}{parts.path}", *query]
        signature = base64.b64encode(hmac.digest(key, "\n".join(lines).encode(), hashlib.sha256)).decode()
        return {"Authorization": f"SharedKey {account}:{signature}"}

    return signed
