"""A queue of Azure Storage: messages into it, how many it has, and what is in front."""

import base64
import binascii
import itertools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.storage.queue import ExponentialRetry, QueueClient

from inferry.errors import InvalidSettings, StoreError
from inferry.jobs.runs.queue_text import decoded, encoded

T = TypeVar("T")

# Seconds for a response, and how often one is asked for that may come another time.
SECONDS, ATTEMPTS = 30, 4
# Messages that are put at once, and those that are taken from an iterable before.
WRITERS, AHEAD = 8, 512


class StorageQueue:
    """The queue at `url`; opened with the account's key, or as whoever DefaultAzureCredential finds:
    the user of `az login`, of Visual Studio Code and so on, or the identity of a machine.

    Messages are put in base64, as nearly all who read queues expect them. StoreError when the service doesn't do what
    it is asked.
    """

    def __init__(self, url: str, env: Mapping[str, str]) -> None:
        """InvalidSettings when it would be asked without TLS, or with a key that is none."""
        credential = _credential(env)
        # The library sends no token without TLS; an emulator has a key.
        is_local = env.get("AZURE_ALLOW_HTTP", "").lower() == "true" and isinstance(credential, dict)
        if not url.startswith(("https://", "http://") if is_local else "https://"):
            raise InvalidSettings(f"the URL of a queue starts with https://, got {url[:200]!r}")
        self.url = url.rstrip("/")
        self._client = QueueClient.from_queue_url(
            self.url,
            credential=credential,
            connection_timeout=SECONDS,
            read_timeout=SECONDS,
            retry_policy=ExponentialRetry(0, increment_base=2, retry_total=ATTEMPTS - 1, random_jitter_range=0),
        )

    def put(self, bodies: Iterable[bytes]) -> None:
        """Puts messages, in any order; when it fails, some of them may be there."""
        left = iter(bodies)
        with ThreadPoolExecutor(WRITERS) as threads:
            while ahead := list(itertools.islice(left, AHEAD)):
                list(threads.map(self._put, ahead))

    def _put(self, body: bytes) -> None:
        self._ask(self._client.send_message, encoded(body))

    def count(self) -> int:
        """About how many messages there are, those that are being worked on included; never fewer than there are."""
        return self._ask(self._client.get_queue_properties).approximate_message_count or 0

    def peek(self) -> list[bytes]:
        """The bodies of up to 32 messages in front; those of other senders may be plain text."""
        messages = self._ask(self._client.peek_messages, max_messages=32)
        return [decoded((message.content or "").encode()) for message in messages]

    def _ask(self, operation: Callable[..., T], *given: Any, **more: Any) -> T:
        try:
            return operation(*given, **more)
        except AzureError as exc:
            raise StoreError(f"the queue {self.url} can't be asked: {_reason(exc)}") from exc


class _Login:
    """DefaultAzureCredential, whose failure is final: the library would ask again, for a minute and more."""

    def __init__(self) -> None:
        self._credential = DefaultAzureCredential()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        try:
            return self._credential.get_token(*scopes, **options)
        except ClientAuthenticationError as exc:
            raise InvalidSettings(f"there are no credentials for Azure Storage: {_line(exc)}") from exc


def _credential(env: Mapping[str, str]) -> Any:
    key = env.get("AZURE_STORAGE_ACCOUNT_KEY")
    if not key:
        return _Login()
    try:
        base64.b64decode(key, validate=True)
    except binascii.Error as exc:
        raise InvalidSettings("AZURE_STORAGE_ACCOUNT_KEY is no base64") from exc
    return {"account_name": env.get("AZURE_STORAGE_ACCOUNT_NAME", ""), "account_key": key}


def _reason(exc: AzureError) -> str:
    """The status and Azure's code for it, or what else went wrong."""
    if not isinstance(exc, HttpResponseError) or not exc.status_code:
        return _line(exc)
    code = getattr(exc, "error_code", None)
    return f"{exc.status_code} {getattr(code, 'value', code) or ''}".strip()


def _line(exc: AzureError) -> str:
    """The reasons of a chain of credentials are a page."""
    return " ".join(str(exc).split())[:1000]
