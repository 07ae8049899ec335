"""Requests a second on one core, against other servers of the same model."""

from collections.abc import Iterator
from importlib.metadata import version
from statistics import median

from .measure import MODELS, ratio, say
from .peers.errors import PeerError
from .peers.servers import PEERS, Peer, rate
from .table import Row, Target, unavailable

OURS = Peer("inferry", ("{python}", "-m", "inferry", "serve", str(MODELS), "--port", "{port}"))
TARGETS = {
    "fastapi_pydantic": Target(2.2, at_least=True),
    "mlserver": Target(4, at_least=True),
    "litserve": Target(8, at_least=True),
    "bentoml": Target(10, at_least=True),
    "asgi": Target(0.75, at_least=True),
}
# What of this project's own venv such a peer is made of.
PARTS = {"fastapi_pydantic": ("fastapi", "pydantic"), "asgi": ("uvicorn",)}


def rps(quick: bool) -> Iterator[Row]:
    """A row for each peer, measured in turns with us; those that can't run here say why."""
    rounds, seconds = (1, 2) if quick else (8, 2)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in TARGETS}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name in (name for name in TARGETS if name not in failures):
            say(f"rps: {name}, round {number} of {rounds}")
            try:
                pairs[name].append((rate(OURS, seconds), rate(PEERS[name], seconds)))
            except PeerError as exc:
                failures[name] = str(exc)
    for name, target in TARGETS.items():
        what = f"requests/s, 8 connections, {name}"
        if name in failures:
            yield unavailable(what, failures[name], target)
            continue
        ours, theirs = zip(*pairs[name], strict=True)
        against = f"{median(theirs):.0f} /s {versions(PEERS[name])}"
        yield Row(what, f"{median(ours):.0f} /s", against, ratio(ours, theirs), target)


def versions(peer: Peer) -> str:
    """What is measured, with the versions that are pinned or installed."""
    if peer.requirements is None:
        return ", ".join(f"{part} {version(part)}" for part in PARTS[peer.name])
    pins = dict(line.split("==", 1) for line in peer.requirements.read_text().splitlines() if "==" in line)
    return f"{peer.name} {pins[peer.name]}"
