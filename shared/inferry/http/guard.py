"""Keeps pages of other sites away from a server that has no keys and listens on loopback.

A browser lets any page post a form to any address, and a name whose address changes (DNS rebinding) lets it read the
answers too. Both show in what the browser says of the request.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

from inferry.errors import HostRefused, OriginRefused
from inferry.settings import Settings

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ALL = "*"


class Guard:
    """Checks requests of any client; those that no browser sends for another site's page pass."""

    def __init__(self, settings: Settings) -> None:
        self._origins = settings.cors_origins
        self._hosts = {
            *_LOOPBACK,
            _bracketed(settings.host),
            *(_name(host.encode()) for host in settings.allowed_hosts),
        }

    def check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """HostRefused for a host that isn't this one, OriginRefused for what a page of another site posts."""
        host = headers.get(b"host", b"")
        if host and _name(host) not in self._hosts and _ALL not in self._hosts:
            raise HostRefused(
                f"this server listens on loopback and is no {_name(host)[:100]!r}: name it in ALLOWED_HOSTS if it is "
                "to be called so, as through a proxy that passes the client's Host on"
            )
        if method == "POST" and (b"origin" in headers or b"sec-fetch-site" in headers):
            self._check_origin(host, headers)

    def _check_origin(self, host: bytes, headers: Mapping[bytes, bytes]) -> None:
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin in self._origins or _ALL in self._origins:
            return
        scheme, _, name = origin.lower().partition("://")
        is_own = scheme in ("http", "https") and name == host.decode("latin-1").lower()
        if (origin and not is_own) or headers.get(b"sec-fetch-site") == b"cross-site":
            raise OriginRefused(
                f"a page of {origin[:100] or 'another site'} may not post to this server: name its origin in "
                "CORS_ORIGINS if it is to, or set API_KEYS"
            )


def guard(settings: Settings) -> Guard | None:
    """The guard that a server of these settings needs; None where it has API keys or is not on loopback."""
    return Guard(settings) if _is_loopback(settings.host) and not settings.api_keys else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


@lru_cache(64)
def _name(host: bytes) -> str:
    """A Host header without its port."""
    text = host.decode("latin-1").strip().lower()
    name, colon, port = text.rpartition(":")
    return name if colon and (port.isdigit() or not port) else text
