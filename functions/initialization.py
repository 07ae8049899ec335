"""What happens before the first event: the defaults that Lambda's size implies, and models that are ready in time."""

import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from inferry.errors import ModelUnavailable
from inferry.service import Service

log = logging.getLogger("inferry")

# Lambda ends an init after 10 s, and does it again within the first invocation, whose time it then takes.
LIMIT = 10.0
NEAR = 8.0
# Lambda gives a CPU for each 1,769 MB.
MEGABYTES_PER_CPU = 1769


def threads(env: Mapping[str, str]) -> dict[str, str]:
    """As many threads as the function's memory buys CPUs; what `env` says itself comes before them."""
    memory = int(env.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 0))
    return {"INTRA_OP_THREADS": str(math.ceil(memory / MEGABYTES_PER_CPU))} if memory else {}


def preload(service: Service) -> None:
    """Loads the model that requests mean by default; without one, all that fit in the cache."""
    name = service.settings.default_model
    if not name:
        service.preload()
        return
    with suppress(ModelUnavailable):
        service.repository.get(name)
    service.prepare_response_cache()


def requests_will_wait(service: Service, env: Mapping[str, str]) -> bool:
    """Whether the first prediction may need an event loop: then asyncio is imported during the init, not during it.

    Always where an init takes nobody's time: for snapshots, and for provisioned environments.
    """
    return env.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") != "on-demand" or service.predictions_wait()


@contextmanager
def watched() -> Iterator[None]:
    """Says what to do when what is inside takes nearly as long as Lambda allows, before it is ended for that."""
    timer = threading.Timer(NEAR, _warn)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _warn() -> None:
    log.warning(
        "the models have been loading for %g s, and Lambda ends an init after %g s: give the function more memory, for "
        "its CPUs; turn on SnapStart; put the models into the image instead of a bucket; or set DEFAULT_MODEL, so that "
        "only that model is loaded now",
        NEAR,
        LIMIT,
    )
