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


def test_a_network_of_ipv6_is_one_client() -> None:
    """As its customer has 2 ** 64 addresses; the next network is somebody else's."""
    same = {whose(Settings(), address) for address in ("2001:db8::1", "2001:db8::ffff:1:2:3", "2001:DB8:0:0::9")}
    assert same == {"2001:db8::/64"}
    assert whose(Settings(), "2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert whose(Settings(), "fe80::1%eth0") == "fe80::/64"
    assert [whose(Settings(), address) for address in ("192.0.2.1", "192.0.2.2")] == ["192.0.2.1", "192.0.2.2"]


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
    "IPv6": (("::1",), "::1", ["2001:db8:0:1:2:3:4:5"], "2001:db8:0:1::/64"),
    "IPv4 with a port": ((NGINX,), NGINX, ["192.0.2.1:50123"], "192.0.2.1"),
    "IPv6 with a port": ((NGINX,), NGINX, ["[2001:db8::1]:50123"], "2001:db8::/64"),
    "IPv4 in IPv6": ((NGINX,), NGINX, ["::ffff:192.0.2.1"], "192.0.2.1"),
    "longer than any address": ((NGINX,), NGINX, ["a" * 1000], "a" * 64),
}


@pytest.mark.parametrize("name", FORWARDED)
def test_by_its_address(name: str) -> None:
    proxies, address, fields, expected = FORWARDED[name]
    headers = [("x-forwarded-for", field) for field in fields]
    assert whose(Settings(trusted_proxies=proxies), address, *headers) == expected
