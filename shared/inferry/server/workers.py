"""The metrics of several processes that serve one port: whichever is scraped asks the others.

Each has a socket in a folder that only their user can enter. Their samples differ in the label `worker`, so that a
worker's end is the end of its series, and no counter goes back.
"""

import contextlib
import json
import os
import socket
import threading
from pathlib import Path

from inferry.observability.registry import Metrics
from inferry.observability.sinks import prometheus
from inferry.observability.sinks.prometheus import Format, Page

# A worker that runs a large model is slow to answer, one that is gone never does.
_SECONDS = 2.0


class Workers:
    """The processes that have a socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def join(self, metrics: Metrics) -> None:
        """Makes this process one of them: others can ask it for its metrics from now on."""
        path = self._folder / str(os.getpid())
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=_answer, args=(listener, metrics), name="inferry-scrape", daemon=True).start()

    def text(self, form: Format) -> str:
        """The metrics of all processes together, in this format."""
        pages = (_ask(path, form) for path in sorted(self._folder.iterdir()))
        return prometheus.joined((page for page in pages if page is not None), form)


def _answer(listener: socket.socket, metrics: Metrics) -> None:
    labels = {"worker": str(os.getpid())}
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_SECONDS)
            with connection.makefile("r") as asked:
                form = prometheus.FORMATS.get(asked.readline().strip(), prometheus.TEXT)
            page = prometheus.page(prometheus.families(metrics), form, labels)
            connection.sendall(json.dumps(page).encode())


def _ask(path: Path, form: Format) -> Page | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(f"{form.name}\n".encode())
            with connection.makefile("rb") as reply:
                page: Page = json.loads(reply.read())
                return page
        except ConnectionRefusedError:
            # Nobody listens: the worker is gone, and did not take its socket along.
            path.unlink(missing_ok=True)
            return None
        except (OSError, ValueError):
            return None
