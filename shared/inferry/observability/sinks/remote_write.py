"""Prometheus remote write to any URL, with no, basic or bearer authentication."""

import base64
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from inferry.cloud.http_client import NoResponse, Poster, Response
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
# Name and value of a header (RFC 9110), the name none of those that a push needs for itself.
_HEADER = re.compile(
    r"(?!(?:content-|x-prometheus-|x-amz-)|(?:host|authorization|transfer-encoding|connection)=)"
    r"([!#$%&'*+.^_`|~0-9a-z-]+)=(.+)",
    re.IGNORECASE,
)
# Nothing was taken, and that may be different next time.
_BUSY = (408, 429, 503)
# The store read the samples and didn't want some of them: Mimir, Cortex and Thanos take the others all the same. What
# else is 3xx or 4xx refuses a request before anybody looks into it.
_READ = (400, 409, 422)
# What is older is refused by most stores: Prometheus' head, Mimir's and Amazon's look back by an hour.
_STALE_MS = 3_600_000
# As long a store may ask for silence.
_MAX_QUIET = 300.0


class RemoteWrite:
    """Pushes what changed. One batch is kept and sent again where a store is busy or gone; one that it refuses is made
    anew."""

    immediate = False

    def __init__(self, settings: Settings, env: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        if not settings.remote_write_url:
            raise InvalidSettings("METRICS_SINKS pushes to a store, so REMOTE_WRITE_URL must name it")
        self._poster = Poster(settings.remote_write_url, "REMOTE_WRITE_URL", env)
        self._settings = settings
        self._headers = {**_HEADERS, **_more_headers(settings.remote_write_headers)}
        self._clock = clock
        self._log = SeriesLog(settings.app_name)
        self._quiet_until = 0.0
        self._keep(None)

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
        """Begins anew after a snapshot is restored: a new instance, over a new connection."""
        self._quiet_until = 0.0
        self._keep(None)
        self._log.renew()
        self._poster.close()

    def headers(self, body: bytes, deadline: float) -> Mapping[str, str]:
        """The headers of a request, authentication included."""
        settings = self._settings
        if settings.remote_write_token:
            return {**self._headers, "Authorization": f"Bearer {settings.remote_write_token}"}
        if settings.remote_write_username:
            user = f"{settings.remote_write_username}:{settings.remote_write_password}".encode()
            return {**self._headers, "Authorization": f"Basic {base64.b64encode(user).decode()}"}
        return self._headers

    def _keep(self, batch: Batch | None) -> None:
        """The batch that is to be sent, and nobody can have yet."""
        self._kept = batch
        self._doubted = False

    def _send_all(self, new: Callable[[], Iterator[Batch]], deadline: float) -> None:
        left = self._quiet_until - time.monotonic()
        if left > 0:
            raise PushFailed(f"{self._poster.host} wants no request for {left:.0f} s")
        if self._kept and not self._doubted and self._now() - self._kept.at > _STALE_MS:
            self._keep(None)  # what is new says the same
        try:
            self._send(deadline)
        finally:
            # A store that refuses the old batch takes the new one: it had the old one already, or finds it too old.
            if self._kept is None:
                for batch in new():
                    self._keep(batch)
                    self._send(deadline)

    def _send(self, deadline: float) -> None:
        batch = self._kept
        if batch is None:
            return
        try:
            body = wire.snappy(batch.body)
            response = self._poster.post(body, self.headers(body, deadline), deadline)
        except NoResponse as exc:
            if exc.sent:
                self._doubt(batch)
            raise PushFailed(str(exc)) from exc
        self._judge(batch, response)

    def _judge(self, batch: Batch, response: Response) -> None:
        if response.status < 300:
            self._log.taken(batch)
            self._keep(None)
            return
        reason = _reason(self._poster.host, response)
        if response.status in _BUSY or response.status >= 500:
            self._quiet_until = time.monotonic() + _retry_after(response)
            if response.status not in _BUSY:
                self._doubt(batch)
            raise PushFailed(reason)
        if response.status in _READ:
            self._doubt(batch)
        self._keep(None)
        raise PushFailed(reason, dropped=batch.size)

    def _doubt(self, batch: Batch) -> None:
        self._doubted = True
        self._log.doubted(batch)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _more_headers(pairs: Sequence[str]) -> dict[str, str]:
    """InvalidSettings doesn't repeat what it refuses: it may be a key."""
    found = [_HEADER.fullmatch(pair) for pair in pairs]
    headers = {match[1]: unquote(match[2]) for match in found if match}
    if not all(found) or not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise InvalidSettings(
            "REMOTE_WRITE_HEADERS must be NAME=VALUE, separated by commas, and a comma in a value %2C; no headers of "
            "the content, the connection or signature, and no Authorization, which has settings of its own"
        )
    return headers


def _reason(host: str, response: Response) -> str:
    if response.status < 400:
        return f"{host} answers {response.status} and points to {response.headers.get('Location', '')[:200]}"
    return f"{host} answers {response.status}: {response.body[:200].decode(errors='replace').strip()}"


def _retry_after(response: Response) -> float:
    """The seconds of silence that the store asks for: a number of them, or a date."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _MAX_QUIET)
