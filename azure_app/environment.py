"""What the app reads of its environment beside the settings of every host."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import azure.functions as func
from inferry.errors import InvalidSettings


def defaults(env: Mapping[str, str], root: Path) -> dict[str, str]:
    """`env` with a MODEL_PATH that the host's working directory doesn't matter to: folders are below `root`.

    BASE_PATH is the host's own prefix where it has one and `env` says nothing.
    """
    path, base = env.get("MODEL_PATH") or "models", env.get("BASE_PATH") or route_prefix(env, root)
    return {**env, "MODEL_PATH": path if "://" in path else str(root / path), "BASE_PATH": base}


def route_prefix(env: Mapping[str, str], root: Path) -> str:
    """What the host puts before the routes of all functions: "/ml", or "" for nothing."""
    given = env.get("AzureFunctionsJobHost__extensions__http__routePrefix")
    prefix = given if given is not None else _host(root)["extensions"]["http"]["routePrefix"]
    return f"/{prefix.strip('/')}".rstrip("/")


def auth_level(env: Mapping[str, str]) -> func.AuthLevel:
    """Which of the host's keys a request needs: AUTH_LEVEL, a function's unless it says otherwise."""
    given = env.get("AUTH_LEVEL") or "function"
    try:
        return func.AuthLevel[given.upper()]
    except KeyError:
        raise InvalidSettings(f"AUTH_LEVEL must be function, anonymous or admin, got {given!r}") from None


class Limits(NamedTuple):
    """The host's: how many seconds an invocation may take, and how often a message is tried."""

    seconds: float
    tries: int

    @classmethod
    def of(cls, env: Mapping[str, str], root: Path) -> "Limits":
        """As host.json tells the host, or the settings that replace it."""
        host = _host(root)
        tries = env.get("AzureFunctionsJobHost__extensions__queues__maxDequeueCount")
        return cls(
            _seconds(env.get("AzureFunctionsJobHost__functionTimeout") or host["functionTimeout"]),
            int(tries or host["extensions"]["queues"]["maxDequeueCount"]),
        )


def _host(root: Path) -> Any:
    return json.loads((root / "host.json").read_text())


def _seconds(text: str) -> float:
    if text == "-1":
        return math.inf
    hours, minutes, seconds = map(int, text.split(":"))
    return float(hours * 3600 + minutes * 60 + seconds)
