"""Prometheus remote write to any URL, with no, basic or bearer authentication."""

import base64
import time
from collections.abc import Callable, Mapping, Sequence

from inferry.cloud.http_client import NoAnswer, Poster
from inferry.errors import InvalidSettings
from inferry.observability.registry import Family
from inferry.observability.sinks import wire
from inferry.observability.sinks.series import Batch, SeriesLog
from inferry.observability.sinks.sink import PushFailed
from inferry.settings import Settings

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
# What may be different next time: the rest of 4xx refuses this very batch.
_RETRIED = (408, 429)


class RemoteWrite:
    """Pushes what changed. One batch is kept and sent again where a store is busy or gone; a refused one is dropped."""

    immediate = False

    def __init__(self, settings: Settings, _: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        if not settings.remote_write_url:
            raise InvalidSettings("METRICS_SINKS pushes to a store, so REMOTE_WRITE_URL must name it")
        self._poster = Poster(settings.remote_write_url, "REMOTE_WRITE_URL")
        self._settings = settings
        self._clock = clock
        self._log = SeriesLog(settings.app_name)
        self._kept: Batch | None = None

    def push(self, families: Sequence[Family], deadline: float) -> None:
        """Sends the kept batch, then what the store doesn't know."""
        self._send_all(lambda: self._log.changes(families, self._now()), deadline)

    def close(self, deadline: float) -> None:
        """Sends the kept batch, then the end of every series: the store would show them for five more minutes."""
        try:
            self._send_all(lambda: self._log.farewell(self._now()), deadline)
        finally:
            self._poster.close()

    def renew(self) -> None:
        """A new instance, over a new connection."""
        self._kept = None
        self._log.renew()
        self._poster.close()

    def headers(self, body: bytes, deadline: float) -> Mapping[str, str]:
        """The headers of a request, authentication included."""
        settings = self._settings
        if settings.remote_write_token:
            return {**_HEADERS, "Authorization": f"Bearer {settings.remote_write_token}"}
        if settings.remote_write_username:
            user = f"{settings.remote_write_username}:{settings.remote_write_password}".encode()
            return {**_HEADERS, "Authorization": f"Basic {base64.b64encode(user).decode()}"}
        return _HEADERS

    def _send_all(self, new: Callable[[], Batch | None], deadline: float) -> None:
        kept, self._kept = self._kept, None
        try:
            self._send(kept, deadline)
        finally:
            # A store that refuses the old batch takes the new one: it had the old one already.
            if self._kept is None:
                self._send(new(), deadline)

    def _send(self, batch: Batch | None, deadline: float) -> None:
        if batch is None:
            return
        self._log.doubted(batch)
        try:
            body = wire.snappy(batch.body)
            answer = self._poster.post(body, self.headers(body, deadline), deadline)
        except NoAnswer as exc:
            self._kept = batch
            raise PushFailed(str(exc)) from exc
        if answer.status < 300:
            self._log.taken(batch)
            return
        reason = f"{self._poster.host} answers {answer.status}: {answer.body[:200].decode(errors='replace').strip()}"
        if answer.status >= 500 or answer.status in _RETRIED:
            self._kept = batch
            raise PushFailed(reason)
        raise PushFailed(reason, dropped=batch.size)

    def _now(self) -> int:
        return int(self._clock() * 1000)
