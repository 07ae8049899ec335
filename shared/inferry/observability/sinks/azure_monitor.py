"""A workspace of Azure Monitor: remote write with the token of the app's managed identity."""

from collections.abc import Mapping

from inferry.cloud.entra import ManagedIdentity
from inferry.observability.sinks.remote_write import RemoteWrite
from inferry.settings import Settings

_RESOURCE = "https://monitor.azure.com"


class AzureMonitor(RemoteWrite):
    """REMOTE_WRITE_URL is the data collection rule's; the identity must be a Monitoring Metrics Publisher of it."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        super().__init__(settings, env)
        self._identity = ManagedIdentity(env, _RESOURCE)

    def headers(self, body: bytes, deadline: float) -> Mapping[str, str]:
        """The headers of a push, with a token of the managed identity that is good for some minutes."""
        return {**super().headers(body, deadline), "Authorization": f"Bearer {self._identity.token(deadline)}"}
