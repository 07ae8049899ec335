"""Who the client of a request is, as far as those of one must not keep out those of another."""

from contextvars import ContextVar
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from inferry.http.api_keys import ApiKeys
from inferry.http.asgi import Scope
from inferry.settings import Settings

# That of the request whose task this is.
scope: ContextVar[Scope | None] = ContextVar("inferry.scope", default=None)


# What a provider gives one customer of IPv6, who may have as many addresses as are in it.
_PREFIX = 64
_LONGEST = 64  # characters of an address, and of what a proxy says instead


def _read(address: str) -> IPv4Address | IPv6Address | None:
    """The address in a text, which some proxies write with a port; that of IPv4 where a socket for both has IPv6."""
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        known = ip_address(address)
    except ValueError:
        return None
    return getattr(known, "ipv4_mapped", None) or known


@lru_cache(4096)
def network_of(address: str) -> str:
    """Whose an address is: that of IPv4 itself, of one of IPv6 its /64; any other text is left as it is."""
    known = _read(address)
    if isinstance(known, IPv6Address):
        return str(ip_network((int(known), _PREFIX), strict=False))
    return address if known is None else str(known)


class Proxies:
    """The addresses of TRUSTED_PROXIES: `address in proxies`."""

    def __init__(self, settings: Settings) -> None:
        self._networks = [ip_network(proxy) for proxy in settings.trusted_proxies]

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        known = _read(address)
        return known is not None and any(known in network for network in self._networks)


class Clients:
    """Tells clients apart: by their API keys where there are any, else by their addresses."""

    def __init__(self, settings: Settings) -> None:
        self._keys = ApiKeys(settings.api_keys)
        self._proxies = Proxies(settings)

    def __call__(self) -> str:
        """The client whose request is worked on now; empty when it is nobody's."""
        current = scope.get()
        return "" if current is None else self.of(current)

    def of(self, current: Scope) -> str:
        """The client of a request."""
        headers = dict(current["headers"])
        return self._keys.client(headers) or self._address(current, headers)

    def _address(self, current: Scope, headers: dict[bytes, bytes]) -> str:
        """Whose the last address is that no trusted proxy has: each adds that of who called it, others write anything.

        Several fields count as one.
        """
        client = current.get("client")
        address = client[0] if client else ""
        fields = [value for name, value in current["headers"] if name == b"x-forwarded-for"]
        said = [part.strip() for part in b",".join(fields).decode("latin-1").split(",")]
        while said and said[-1] and address in self._proxies:
            address = said.pop()
        return network_of(address[:_LONGEST])
