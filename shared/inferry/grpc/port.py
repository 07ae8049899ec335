"""GRPC_PORT, before anything of gRPC is imported."""

import socket
from importlib.util import find_spec

from inferry.errors import InvalidSettings, extra
from inferry.settings import Settings

# The last two need the first, and protobuf.
_PACKAGES = ("grpc", "grpc_health", "grpc_reflection")


def reserve(settings: Settings) -> socket.socket:
    """A socket that keeps GRPC_PORT for this process and its workers, each of which listens on the port itself.

    InvalidSettings when somebody else has it, or a package is missing.
    """
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise InvalidSettings(f"GRPC_PORT needs gRPC: {extra('grpc')} (no {', '.join(missing)})")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.grpc_port)
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Of those who may share a port with others, anybody of the same user could join: alone it is tried first.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = alone.getsockname()[:2]
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as exc:
        held.close()
        raise InvalidSettings(
            f"can't listen on {settings.host}:{settings.grpc_port} (GRPC_PORT): {exc.strerror}"
        ) from exc
    return held
