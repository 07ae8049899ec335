"""The metrics of a function: what starts them, and what brings them to their sinks around each invocation."""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from inferry.pushing import Pusher, open_pusher, process_age
from inferry.service import Service
from snapshot_restore_py import register_after_restore

if TYPE_CHECKING:
    from functions.extension import Extension

log = logging.getLogger("inferry")

Handler: TypeAlias = Callable[[Any, Any], Any]


def pushing(handler: Handler, service: Service, env: Mapping[str, str]) -> Handler:
    """`handler`, around whose invocations the metrics go to METRICS_SINKS; called at the end of the init."""
    pusher = open_pusher(service.settings, service.metrics, env)
    service.metrics.cold_start(process_age())
    register_after_restore(_restored, service, pusher)
    if pusher is None:
        return handler
    extension = _extension(pusher, env)

    def invoked(event: Any, context: Any) -> Any:
        try:
            return handler(event, context)
        finally:
            pusher.push(immediate=True)
            if extension is not None:
                extension.answered()

    return invoked


def _extension(pusher: Pusher, env: Mapping[str, str]) -> "Extension | None":
    address = env.get("AWS_LAMBDA_RUNTIME_API")
    if not address or not pusher.waits:
        return None
    import signal

    from functions.extension import Extension

    try:
        extension = Extension(pusher, address)
    except OSError as exc:
        log.warning("metrics are not pushed: %s", exc)
        return None

    def end(*_: Any) -> None:
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
