"""Who the client of a request is, as far as those of one must not keep out those of another."""

from contextvars import ContextVar
from ipaddress import ip_address, ip_network

from inferry.http.api_keys import ApiKeys
from inferry.http.asgi import Scope
from inferry.settings import Settings

# That of the request whose task this is.
scope: ContextVar[Scope | None] = ContextVar("inferry.scope", default=None)


class Proxies:
    """The addresses of TRUSTED_PROXIES: `address in proxies`."""

    def __init__(self, settings: Settings) -> None:
        self._networks = [ip_network(proxy) for proxy in settings.trusted_proxies]

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            known = ip_address(address)
        except ValueError:
            return False
        # As a socket for both has an address of IPv4.
        known = getattr(known, "ipv4_mapped", None) or known
        return any(known in network for network in self._networks)


class Clients:
    """Tells clients apart: by their API keys where there are any, else by their addresses."""

    def __init__(self, settings: Settings) -> None:
        self._keys = ApiKeys(settings.api_keys)
        self._proxies = Proxies(settings)

    def __call__(self) -> str:
        """The client whose request is worked on now; empty when it is nobody's."""
        current = scope.get()
        if current is None:
            return ""
        headers = dict(current["headers"])
        return self._keys.client(headers) or self._address(current, headers)

    def _address(self, current: Scope, headers: dict[bytes, bytes]) -> str:
        """The last address that no trusted proxy has: each adds that of who called it, and others can write anything.

        Several fields count as one.
        """
        client = current.get("client")
        address = client[0] if client else ""
        fields = [value for name, value in current["headers"] if name == b"x-forwarded-for"]
        said = [part.strip() for part in b",".join(fields).decode("latin-1").split(",")]
        while said and said[-1] and address in self._proxies:
            address = said.pop()
        return address
