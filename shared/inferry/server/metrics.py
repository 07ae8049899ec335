"""What a scrape of the local server gets: the metrics of this process, or of all that serve its port."""

from functools import partial
from pathlib import Path

from inferry.observability.sinks import sink
from inferry.observability.sinks.prometheus import Scrape
from inferry.service import Service
from inferry.settings import Settings


def share(service: Service, workers: Path | None) -> Scrape | None:
    """Lets one process be scraped on METRICS_PORT, or several of the folder `workers` find each other's metrics.

    What says the metrics of all of those; None where there is one.
    """
    if not sink.is_served(service.settings):
        return None
    if workers is None:
        from inferry.observability.sinks import prometheus

        listen(service.settings, partial(prometheus.text, service.metrics))
        return None
    from inferry.server.workers import Workers

    known = Workers(workers)
    known.join(service.metrics)
    return known.text


def listen(settings: Settings, text: Scrape) -> None:
    """Serves `text` on METRICS_PORT, where there is one. InvalidSettings when it can't be listened on."""
    if settings.metrics_port and sink.is_served(settings):
        from inferry.server import metrics_port

        metrics_port.listen(settings.host, settings.metrics_port, text)
