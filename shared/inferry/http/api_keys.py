"""API keys: a client sends a key, the settings hold the SHA-256 of those that are valid."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping

from inferry.errors import KeyMissing, KeyRefused

_SCHEME = b"bearer "


class ApiKeys:
    """The keys whose SHA-256 digests, in hex, are `digests`."""

    def __init__(self, digests: Iterable[str]) -> None:
        self._digests = [bytes.fromhex(digest) for digest in digests]

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """KeyMissing when a request has no key, KeyRefused when none that it has is valid."""
        given = _given(headers)
        if not given:
            raise KeyMissing("this needs an API key: send it in the header x-api-key, or as Authorization: Bearer KEY")
        if True not in [self._is_valid(key) for key in given]:
            raise KeyRefused("the API key is not a valid one")

    def client(self, headers: Mapping[bytes, bytes]) -> str:
        """The digest of the valid key that a request has, in hex; empty without one."""
        return next((hashlib.sha256(key).hexdigest() for key in _given(headers) if self._is_valid(key)), "")

    def _is_valid(self, key: bytes) -> bool:
        # Every digest is compared to its end: how long this takes tells nothing of them.
        found = hashlib.sha256(key).digest()
        return True in [hmac.compare_digest(found, digest) for digest in self._digests]


def new() -> tuple[str, str]:
    """A new random key of 256 bits for a client, and its SHA-256 in hex for the settings."""
    key = secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def _given(headers: Mapping[bytes, bytes]) -> list[bytes]:
    return [key for key in (headers.get(b"x-api-key"), _bearer(headers.get(b"authorization", b""))) if key]


def _bearer(authorization: bytes) -> bytes:
    # Gateways put other schemes there, which are not for us.
    return authorization[len(_SCHEME) :].strip() if authorization[: len(_SCHEME)].lower() == _SCHEME else b""
