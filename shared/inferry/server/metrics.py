"""What a scrape of the local server gets: the metrics of this process, or of all that serve its port."""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import TypeAlias

from inferry.http import content
from inferry.http.asgi import Headers
from inferry.observability.sinks import sink
from inferry.observability.sinks.prometheus import Format, Scrape
from inferry.service import Service
from inferry.settings import Settings

# Behind each page there is none for this many times as long as it took, or so many seconds: it is Python.
_TIMES, _MOST = 10, 1.0

_Page: TypeAlias = tuple[bytes, Headers]


class Pages:
    """Pages of metrics: one is made now and then, for all who wait for it. Belongs to one event loop."""

    def __init__(self, text: Scrape) -> None:
        self._text = text
        self._one = asyncio.Lock()
        self._pause_ends = 0.0
        # Those that nobody has begun, by format and encoding.
        self._next: dict[tuple[Format, str], asyncio.Task[_Page]] = {}

    async def __call__(self, form: Format, accept: str) -> _Page:
        """One that tells what has happened until now, as an Accept-Encoding header asks for it, and its headers."""
        asked = form, content.choose(accept)
        page = self._next.get(asked)
        if page is None:
            page = self._next[asked] = asyncio.create_task(self._make(*asked))
        return await asyncio.shield(page)  # others wait for it

    async def _make(self, form: Format, encoding: str) -> _Page:
        async with self._one:
            await asyncio.sleep(self._pause_ends - time.perf_counter())
            del self._next[form, encoding]
            start = time.perf_counter()
            try:
                return await asyncio.get_running_loop().run_in_executor(None, self._page, form, encoding)
            finally:
                now = time.perf_counter()
                self._pause_ends = now + min(_TIMES * (now - start), _MOST)

    def _page(self, form: Format, encoding: str) -> _Page:
        return content.encoded(self._text(form).encode(), encoding)


def share(service: Service, workers: Path | None) -> Pages | None:
    """Lets one process be scraped on METRICS_PORT, or several of the folder `workers` find each other's metrics.

    What makes the pages of all of those; None where there are none.
    """
    if not sink.is_served(service.settings):
        return None
    if workers is None:
        from inferry.observability.sinks import prometheus

        text = partial(prometheus.text, service.metrics)
        listen(service.settings, text)
        return Pages(text)
    from inferry.server.workers import Workers

    known = Workers(workers)
    known.join(service.metrics)
    return Pages(known.text)


def listen(settings: Settings, text: Scrape) -> None:
    """Serves `text` on METRICS_PORT, where there is one. InvalidSettings when it can't be listened on."""
    if settings.metrics_port and sink.is_served(settings):
        from inferry.server import metrics_port

        metrics_port.listen(settings.host, settings.metrics_port, text)
