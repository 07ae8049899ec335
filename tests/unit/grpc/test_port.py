"""GRPC_PORT before anything is served on it."""

import socket
from importlib import util
from typing import Any

import pytest
from inferry.errors import InvalidSettings
from inferry.grpc import port
from inferry.settings import Settings
from loopback import free_port


def test_workers_may_listen_on_the_port_and_nobody_else() -> None:
    settings = Settings(grpc_port=free_port())
    address = (settings.host, settings.grpc_port)
    with port.reserve(settings), socket.socket() as worker:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(address)
        worker.listen()
        with pytest.raises(InvalidSettings, match=rf"can't listen on 127.0.0.1:{settings.grpc_port} \(GRPC_PORT\)"):
            port.reserve(settings)
        # Connections come to those that listen.
        with socket.create_connection(address), worker.accept()[0]:
            pass


@pytest.mark.parametrize("package", ["grpc", "grpc_health", "grpc_reflection"])
def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    def found(name: str) -> Any:
        return None if name == package else util.find_spec(name)

    monkeypatch.setattr(port, "find_spec", found)
    with pytest.raises(InvalidSettings, match=rf"extra 'grpc': pip install .* \(no {package}\)"):
        port.reserve(Settings(grpc_port=free_port()))
