"""What can keep a peer from giving a number.

PeerError
├── Unavailable   cannot be installed or started here; the message gives the reason
├── WrongAnswer   its answer is not onnxruntime's
└── LoadFailed    wrk is missing, or saw answers other than 2xx
"""


class PeerError(Exception):
    """A peer that gives no number."""


class Unavailable(PeerError):
    """The peer cannot be installed or started here."""


class WrongAnswer(PeerError):
    """The peer does not answer what onnxruntime answers."""


class LoadFailed(PeerError):
    """The load generator could not measure the peer."""


def tail(text: str, lines: int = 8) -> str:
    """The text's last lines."""
    return "\n".join(text.strip().splitlines()[-lines:])
