"""A port of its own for `GET /metrics`, which the world that calls the models need not reach."""

import socket
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from inferry.errors import InvalidSettings
from inferry.http import content
from inferry.observability.sinks import prometheus
from inferry.observability.sinks.prometheus import Scrape

# That a connection may take, and how many there may be.
_SECONDS = 10.0
_CONNECTIONS = 16


def listen(host: str, port: int, text: Scrape) -> int:
    """Serves what `text` is at that moment from a thread, until the process ends; the port. InvalidSettings."""
    handler = type("Handler", (_Handler,), {"text": staticmethod(text)})
    server = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
    try:
        listening = server((host, port), handler)
    except OSError as exc:
        raise InvalidSettings(f"can't listen on {host}:{port} (METRICS_PORT): {exc.strerror}") from exc
    threading.Thread(target=listening.serve_forever, name="inferry-metrics-port", daemon=True).start()
    bound: int = listening.server_address[1]
    return bound


class _Server(ThreadingHTTPServer):
    """Its clients are few, and have little to say: what takes long is ended, and the oldest for one too many."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._open: dict[socket.socket, float] = {}
        self.asked: set[socket.socket] = set()
        super().__init__(*arguments)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        while len(opened := [*self._open]) >= _CONNECTIONS:
            # Those that have asked come last: who only holds a connection shuts nobody out.
            self._end(next((one for one in opened if one not in self.asked), opened[0]))
        self._open[request] = time.monotonic() + _SECONDS
        return True

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(request, None)
        self.asked.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Closes connections that take too long; it is called twice a second."""
        now = time.monotonic()
        for request, until in [*self._open.items()]:
            if until <= now:
                self._end(request)

    def _end(self, request: socket.socket) -> None:
        self._open.pop(request, None)
        with suppress(OSError):  # it has ended meanwhile
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing: a client that left, or was made to, is no event."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    text: Scrape

    def do_GET(self) -> None:
        self.server.asked.add(self.connection)
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        form = prometheus.accepted(self.headers.get("Accept", ""))
        body, encoded = content.encoded(self.text(form).encode(), self.headers.get("Accept-Encoding", ""))
        self.send_response(200)
        self.send_header("Content-Type", form.content_type)
        for name, value in encoded:
            self.send_header(name.decode(), value.decode())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "inferry"

    def log_message(self, *_: Any) -> None:
        """Logs nothing: scrapes are no events."""
