"""Tokens of Microsoft Entra ID, for who runs this: the app's managed identity, or the user of `az login`."""

import json
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from inferry.cloud.http_client import NoAnswer, Poster
from inferry.errors import InvalidSettings

_API_VERSION = "2019-08-01"
_REFRESH_SECONDS = 300.0
# Of a command line whose answer doesn't say how long its token is good: they are for an hour or so, and kept by it.
_UNKNOWN_SECONDS = 600.0


class Tokens(ABC):
    """For one `resource`: kept until some minutes before they end. Subclasses ask for new ones."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._token = ""
        self._until = 0.0

    def token(self, deadline: float) -> str:
        """NoAnswer when there is none until `deadline`."""
        if time.time() > self._until - _REFRESH_SECONDS:
            self._token, self._until = self._fetch(deadline)
        return self._token

    @abstractmethod
    def _fetch(self, deadline: float) -> tuple[str, float]:
        """A new one, and when it ends, on time.time. NoAnswer."""


class ManagedIdentity(Tokens):
    """The identity of a Functions app, an App Service or a Container App; AZURE_CLIENT_ID chooses one of several."""

    def __init__(self, env: Mapping[str, str], resource: str) -> None:
        """InvalidSettings where the platform offers none."""
        super().__init__(resource)
        if "IDENTITY_ENDPOINT" not in env or "IDENTITY_HEADER" not in env:
            raise InvalidSettings(
                "IDENTITY_ENDPOINT and IDENTITY_HEADER are not set: give the app a managed identity; elsewhere push "
                "with the sink remote_write and REMOTE_WRITE_TOKEN"
            )
        query = {"api-version": _API_VERSION, "resource": resource}
        if client := env.get("AZURE_CLIENT_ID"):
            query["client_id"] = client
        address = f"{env['IDENTITY_ENDPOINT']}?{urlencode(query, safe=':/')}"
        self._poster = Poster(address, "IDENTITY_ENDPOINT")
        self._secret = env["IDENTITY_HEADER"]

    def _fetch(self, deadline: float) -> tuple[str, float]:
        answer = self._poster.get({"X-IDENTITY-HEADER": self._secret, "Metadata": "true"}, deadline)
        if answer.status != 200:
            raise NoAnswer(f"the managed identity answers {answer.status} when it is asked for a token")
        try:
            found = json.loads(answer.body)
            return str(found["access_token"]), float(found["expires_on"])
        except (ValueError, LookupError, TypeError) as exc:
            raise NoAnswer("the managed identity has no token in its answer") from exc


class CommandLine(Tokens):
    """Whoever is logged in with Azure's command line."""

    def __init__(self, resource: str) -> None:
        """InvalidSettings when it isn't there."""
        super().__init__(resource)
        program = shutil.which("az")
        if program is None:
            raise InvalidSettings(
                "there are no credentials for Azure Storage: set AZURE_STORAGE_ACCOUNT_NAME and "
                "AZURE_STORAGE_ACCOUNT_KEY, give the machine a managed identity, or install az and run az login"
            )
        self._command = [program, "account", "get-access-token", "--output", "json", "--resource", resource]

    def _fetch(self, deadline: float) -> tuple[str, float]:
        try:
            done = subprocess.run(  # noqa: S603  the program is the user's own, and nothing in the command is theirs
                self._command, capture_output=True, text=True, check=True, timeout=max(deadline - time.monotonic(), 0)
            )
            found: dict[str, Any] = json.loads(done.stdout)
            return str(found["accessToken"]), float(found.get("expires_on") or time.time() + _UNKNOWN_SECONDS)
        except subprocess.CalledProcessError as exc:
            raise NoAnswer(f"az gives no token: {exc.stderr.strip()[:500]}") from exc
        except (subprocess.TimeoutExpired, OSError, ValueError, LookupError, TypeError) as exc:
            raise NoAnswer(f"az gives no token: {type(exc).__name__}") from exc
