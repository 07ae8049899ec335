"""Tokens of Microsoft Entra ID for an app's managed identity.

By hand, as an app needs one GET for it: azure.identity takes 112 ms to import, this 15 ms with its HTTP client (AMD
EPYC, Python 3.11). On a laptop azure.identity does it: `jobs.runs.storage_queue`.
"""

import json
import time
from collections.abc import Mapping
from urllib.parse import urlencode

from inferry.cloud.http_client import NoResponse, Poster
from inferry.errors import InvalidSettings

_API_VERSION = "2019-08-01"
_REFRESH_SECONDS = 300.0


class ManagedIdentity:
    """The identity of a Functions app, an App Service or a Container App; AZURE_CLIENT_ID chooses one of several.

    Its token for one resource is kept until some minutes before it ends.
    """

    def __init__(self, env: Mapping[str, str], resource: str) -> None:
        """InvalidSettings where the platform offers none."""
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
        self._token = ""
        self._until = 0.0

    def token(self, deadline: float) -> str:
        """NoResponse when there is none until `deadline`."""
        if time.time() > self._until - _REFRESH_SECONDS:
            self._token, self._until = self._fetch(deadline)
        return self._token

    def _fetch(self, deadline: float) -> tuple[str, float]:
        response = self._poster.get({"X-IDENTITY-HEADER": self._secret, "Metadata": "true"}, deadline)
        if response.status != 200:
            raise NoResponse(f"the managed identity answers {response.status} when it is asked for a token")
        try:
            found = json.loads(response.body)
            return str(found["access_token"]), float(found["expires_on"])
        except (ValueError, LookupError, TypeError) as exc:
            raise NoResponse("the managed identity has no token in its response") from exc
