"""Whose a request is: what its client can't choose."""

import hashlib
from typing import Any

import pytest
from inferry.server import clients
from inferry.server.clients import Clients
from inferry.settings import Settings

KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "two")}
NGINX = "10.0.0.7"


def whose(settings: Settings, address: str | None, *headers: tuple[str, str]) -> str:
    scope: dict[str, Any] = {
        "client": (address, 1) if address else None,
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    token = clients.scope.set(scope)
    try:
        return Clients(settings)()
    finally:
        clients.scope.reset(token)


def test_nobody() -> None:
    assert Clients(Settings())() == ""
    assert whose(Settings(), None) == ""


def test_by_its_valid_key() -> None:
    settings = Settings(api_keys=tuple(KEYS.values()))
    bearer = ("authorization", "Bearer two")
    assert whose(settings, "192.0.2.1", ("x-api-key", "one")) == KEYS["one"]
    assert whose(settings, "192.0.2.2", bearer) == KEYS["two"]
    # A key that is none makes no new client.
    assert whose(settings, "192.0.2.2", ("x-api-key", "anything"), bearer) == KEYS["two"]
    assert whose(settings, "192.0.2.2", ("x-api-key", "anything")) == "192.0.2.2"


FORWARDED = {
    "nobody is trusted": ((), NGINX, ["192.0.2.1"], NGINX),
    "by the proxy": ((NGINX,), NGINX, ["192.0.2.1"], "192.0.2.1"),
    "by the proxy's network": (("10.0.0.0/8",), NGINX, ["192.0.2.1"], "192.0.2.1"),
    "by who is no proxy": ((NGINX,), "192.0.2.9", ["192.0.2.1"], "192.0.2.9"),
    "what the client says itself": ((NGINX,), NGINX, ["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
    "in a field of its own": ((NGINX,), NGINX, ["198.51.100.1", "192.0.2.1"], "192.0.2.1"),
    "by two proxies": (("10.0.0.0/8",), NGINX, ["192.0.2.1, 10.1.1.1"], "192.0.2.1"),
    "by nobody": ((NGINX,), NGINX, [], NGINX),
    "no address": ((NGINX,), NGINX, ["unknown"], "unknown"),
    "IPv4 on a socket for both": (("10.0.0.0/8",), f"::ffff:{NGINX}", ["192.0.2.1"], "192.0.2.1"),
    "IPv6": (("::1",), "::1", ["2001:db8::1"], "2001:db8::1"),
}


@pytest.mark.parametrize("name", FORWARDED)
def test_by_its_address(name: str) -> None:
    proxies, address, fields, expected = FORWARDED[name]
    headers = [("x-forwarded-for", field) for field in fields]
    assert whose(Settings(trusted_proxies=proxies), address, *headers) == expected
