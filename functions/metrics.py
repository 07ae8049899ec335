"""The metrics and spans of a function: what starts them, and what sends them around each invocation."""

import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from inferry.observability.sinks.pusher import Pusher, open_pusher, process_age
from inferry.service import Service
from inferry.settings import Settings
from snapshot_restore_py import register_after_restore

if TYPE_CHECKING:
    from functions.extension import Extension

log = logging.getLogger("inferry")

_X_RAY = re.compile("Root=1-([0-9a-f]{8})-([0-9a-f]{24});Parent=([0-9a-f]{16});Sampled=1(?:;.*)?")

Handler: TypeAlias = Callable[[Any, Any], Any]


def pushing(handler: Handler, service: Service, env: Mapping[str, str]) -> Handler:
    """`handler`, around whose invocations the metrics go to METRICS_SINKS, and its spans to their collector; called at
    the end of the init.
    """
    pusher = open_pusher(service.settings, service.metrics, env)
    service.metrics.cold_start(process_age())
    register_after_restore(_restored, service, pusher)
    later = _later(service.settings, pusher)
    extension = _extension(later, pusher, env) if later else None
    handler = _below_the_hosts_trace(handler, service.settings, env)
    if pusher is None and extension is None:
        return handler

    def invoked(event: Any, context: Any) -> Any:
        try:
            return handler(event, context)
        finally:
            if pusher is not None:
                pusher.push(immediate=True)
            if extension is not None:
                extension.answered()

    return invoked


def _below_the_hosts_trace(handler: Handler, settings: Settings, env: Mapping[str, str]) -> Handler:
    """`handler`, whose spans are below X-Ray's, where that samples the invocation."""
    if not settings.traces:
        return handler
    from inferry.observability.traces import tracer

    below = tracer(settings).below

    def invoked(event: Any, context: Any) -> Any:
        # The runtime sets it anew for each invocation.
        with below(traceparent(env.get("_X_AMZN_TRACE_ID", ""))):
            return handler(event, context)

    return invoked


def traceparent(header: str) -> str:
    """W3C's form of "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1".

    Empty where X-Ray doesn't sample, as it doesn't where it is off: nobody could find the parent.
    """
    found = _X_RAY.fullmatch(header)
    return f"00-{found[1]}{found[2]}-{found[3]}-01" if found else ""


def _later(settings: Settings, pusher: Pusher | None) -> list[Callable[[], None]]:
    """What waits for the network, and must not wait for the next invocation: Lambda freezes its threads till then."""
    found: list[Callable[[], None]] = []
    if pusher is not None and pusher.waits:
        found.append(pusher.push_what_waits)
    if settings.traces:
        from inferry.observability.traces import tracer

        found.append(tracer(settings).flush)
    return found


def _extension(
    later: Sequence[Callable[[], None]], pusher: Pusher | None, env: Mapping[str, str]
) -> "Extension | None":
    address = env.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        return None
    import signal

    from functions.extension import Extension

    def after() -> None:
        for send in later:
            try:
                send()
            except Exception:
                # Lambda waits for the extension: without it each invocation would last until its time is over.
                log.exception("metrics or spans were not sent after a response")

    try:
        extension = Extension(after, address)
    except OSError as exc:
        log.warning("metrics and spans are not sent after responses: %s", exc)
        return None

    def end(*_: Any) -> None:
        if pusher is not None:
            pusher.close()
        sys.exit(0)

    # Lambda sends it before it ends an environment that has an extension.
    signal.signal(signal.SIGTERM, end)
    return extension


def _restored(service: Service, pusher: Pusher | None) -> None:
    """The environment comes from a snapshot: nothing that is in there happened to it, but that it starts."""
    if pusher is None:
        service.metrics.reset()
    else:
        pusher.renew()
    service.metrics.cold_start(0)
