"""What the app reads of its environment beside the settings of every host."""

from collections.abc import Mapping
from pathlib import Path

import azure.functions as func
from inferry.errors import InvalidSettings


def defaults(env: Mapping[str, str], root: Path) -> dict[str, str]:
    """`env` with a MODEL_PATH that the host's working directory doesn't matter to: folders are below `root`."""
    path = env.get("MODEL_PATH") or "models"
    return {**env, "MODEL_PATH": path if "://" in path else str(root / path)}


def auth_level(env: Mapping[str, str]) -> func.AuthLevel:
    """Which of the host's keys a request needs: AUTH_LEVEL, a function's unless it says otherwise."""
    given = env.get("AUTH_LEVEL") or "function"
    try:
        return func.AuthLevel[given.upper()]
    except KeyError:
        raise InvalidSettings(f"AUTH_LEVEL must be function, anonymous or admin, got {given!r}") from None
