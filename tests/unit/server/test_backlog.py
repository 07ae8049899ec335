"""A listener that ends takes what the kernel has made for it, and resets nobody."""

import socket
import sys
from collections.abc import Iterator

import pytest
from inferry.server.backlog import turn_away, waiting


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has filters for sockets")
def test_who_came_before_is_there_and_who_comes_later_is_refused(listener: socket.socket) -> None:
    address = listener.getsockname()
    with socket.create_connection(address) as early:
        early.sendall(b"early")
        turn_away(listener)
        # No handshake is answered; this one would be refused once the listener is closed.
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.2)
        (taken,) = waiting(listener)
        listener.close()
        with taken:
            taken.settimeout(10)
            assert taken.recv(10) == b"early"
            early.sendall(b"later")
            assert taken.recv(10) == b"later"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_nobody_waits(listener: socket.socket) -> None:
    assert list(waiting(listener)) == []
