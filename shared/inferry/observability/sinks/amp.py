"""Amazon Managed Service for Prometheus: remote write, signed with the credentials of the process."""

import re
from collections.abc import Mapping

from inferry.cloud import sigv4
from inferry.errors import InvalidSettings
from inferry.observability.sinks.remote_write import RemoteWrite
from inferry.settings import Settings

_HOST = re.compile(r"://aps-workspaces(?:-fips)?\.([a-z0-9-]+)\.")


class ManagedPrometheus(RemoteWrite):
    """REMOTE_WRITE_URL is the workspace's, and names the region; for other addresses AWS_REGION does."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        super().__init__(settings, env)
        found = _HOST.search(settings.remote_write_url)
        region = found[1] if found else env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
        if not region:
            raise InvalidSettings("REMOTE_WRITE_URL names no region of AWS, so AWS_REGION must")
        self._signer = sigv4.Signer(region, "aps")
        self._credentials = sigv4.Environment(env)

    def headers(self, body: bytes, deadline: float) -> Mapping[str, str]:
        """The headers of a push, with a signature (SigV4) of this moment."""
        credentials = self._credentials.get(deadline)
        url = self._settings.remote_write_url
        return self._signer.headers("POST", url, super().headers(body, deadline), body, credentials, sigv4.now())
