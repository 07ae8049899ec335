"""The connections that the kernel makes before a server takes them."""

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# Classic BPF over the TCP header, as <linux/filter.h> has it: of the flags SYN and ACK only SYN? Then drop it.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # the byte of the flags
    (0x54, 0, 0, 0x12),  # of these, SYN and ACK
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)


def turn_away(listener: socket.socket) -> None:
    """The kernel makes no more connections, and ends none: who comes asks again in a second, and is refused by then.

    Closing the socket would reset what it has made and nobody has taken. Does nothing where the kernel is not Linux.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN))
    with suppress(OSError):
        program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(code))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that nobody has taken yet."""
    listener.setblocking(False)
    with suppress(OSError):
        while True:
            yield listener.accept()[0]
