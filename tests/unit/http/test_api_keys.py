"""API keys: which requests have one, and which of them are valid."""

import hashlib

import pytest
from inferry.errors import KeyMissing, KeyRefused
from inferry.http import api_keys
from inferry.http.api_keys import ApiKeys

KEYS = ApiKeys([hashlib.sha256(key).hexdigest() for key in (b"first", b"second")])
UPPER = ApiKeys([hashlib.sha256(b"first").hexdigest().upper()])


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-api-key": b"first"},
        {b"x-api-key": b"second"},
        {b"authorization": b"Bearer second"},
        {b"authorization": b"bearer  first "},
        {b"x-api-key": b"first", b"authorization": b"AWS4-HMAC-SHA256 Credential=x"},
        # A gateway's own key may stand in one place, ours in the other.
        {b"x-api-key": b"gateway", b"authorization": b"Bearer first"},
        {b"x-api-key": b"first", b"authorization": b"Bearer token"},
    ],
)
def test_valid(headers: dict[bytes, bytes]) -> None:
    KEYS.check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-api-key": b""},
        {b"authorization": b""},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Basic Zmlyc3Q="},
        {b"authorization": b"first"},
        {b"cookie": b"x-api-key=first"},
    ],
)
def test_missing(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(KeyMissing, match=r"x-api-key, or as Authorization: Bearer KEY$"):
        KEYS.check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-api-key": b"First"},
        {b"x-api-key": b"first "},
        {b"x-api-key": b"firstsecond"},
        {b"x-api-key": hashlib.sha256(b"first").hexdigest().encode()},
        {b"authorization": b"Bearer third"},
        {b"x-api-key": b"third", b"authorization": b"Bearer fourth"},
    ],
)
def test_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(KeyRefused, match=r"^the API key is not a valid one$"):
        KEYS.check(headers)


def test_digests_may_be_in_capitals() -> None:
    UPPER.check({b"x-api-key": b"first"})


def test_every_digest_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a comparison ends early, its time tells which digest, and how much of it, was right."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    KEYS.check({b"x-api-key": b"first"})
    assert compared == [hashlib.sha256(key).digest() for key in (b"first", b"second")]


def test_new_keys() -> None:
    pairs = [api_keys.new() for _ in range(100)]
    assert len({key for key, _ in pairs}) == 100
    for key, digest in pairs:
        assert len(key) == 43
        ApiKeys([digest]).check({b"x-api-key": key.encode()})
