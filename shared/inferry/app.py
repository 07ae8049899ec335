"""The ASGI application over a service: the data plane, who looks on, and what pages of other origins may."""

import logging
from typing import TYPE_CHECKING

# First: imported from deep below other modules, NumPy makes Python 3.11 map and unmap a piece of its stack 400 times,
# which is 4 ms of `bench cold`.
import numpy  # noqa: F401

from inferry.http.asgi import ASGIApp
from inferry.http.data_plane import App
from inferry.http.host import Host
from inferry.protocol import types
from inferry.service import Service

if TYPE_CHECKING:
    from inferry.http.observer import Observer
    from inferry.observability.record import RequestSink

log = logging.getLogger("inferry")

# What a browser's script may send and read (Fetch standard, CORS protocol).
_HEADER_LENGTH = types.HEADER_LENGTH.decode()
CORS_REQUEST_HEADERS = (
    "authorization",
    "content-encoding",
    "content-type",
    _HEADER_LENGTH,
    "prefer",
    "traceparent",
    "x-api-key",
    "x-request-id",
)
CORS_RESPONSE_HEADERS = ("content-encoding", _HEADER_LENGTH, "location", "retry-after", "x-request-id")


def create_app(service: Service, host: Host | None = None, keys: tuple[str, ...] | None = None) -> ASGIApp:
    """The application over a service; `host`: what its server gives. No lifespan: `service` is ready as it is.

    `keys`: the digests of those that requests must bring one of, instead of API_KEYS; (): none is asked for.
    """
    settings = service.settings
    requests = host.requests if host else None
    app = App(service, settings.api_keys if keys is None else keys, observer(service, requests), host)
    origins = settings.cors_origins
    if not origins:
        return app
    from inferry.http.management import cors

    return cors(app, origins, CORS_REQUEST_HEADERS, CORS_RESPONSE_HEADERS)


def observer(service: Service, requests: "RequestSink | None" = None) -> "Observer | None":
    """What keeps a record of each request, where the log has a line of it, `requests` takes it or traces are sent."""
    settings = service.settings
    if (settings.request_log_url or settings.capture) and requests is None:
        log.warning("REQUEST_LOG_URL and CAPTURE are for `inferry serve`: requests of this platform are not written")
    if settings.log_format != "json" and not settings.traces and requests is None:
        return None
    from inferry.http.observer import Observer

    tracer = sampler = None
    if settings.traces:
        from inferry.observability import traces

        tracer = traces.tracer(settings)
    if settings.capture and requests is not None:
        from inferry.capture import open_capture

        sampler = open_capture(settings)
    return Observer(settings, service.metrics, tracer, requests, sampler)
