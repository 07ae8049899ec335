"""A receiver of OpenTelemetry traces and metrics on loopback, which reads OTLP's protobuf as a collector does."""

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import listening
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass
class Receiver:
    """What arrived so far."""

    endpoint: str
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    metrics: list[ResourceMetrics] = field(default_factory=list)
    fate: Callable[[], int] = lambda: 200
    """The status of the answer to metrics."""

    def wait(self, count: int) -> list[Span]:
        """The spans in the order of their starts, when there are as many."""
        deadline = time.monotonic() + 20
        while len(self.spans) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return sorted(self.spans, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.headers["Content-Type"] == "application/x-protobuf"
            status, answer = 200, ExportTraceServiceResponse().SerializeToString()
            if self.path == "/v1/metrics":
                status, answer = receiver.fate(), ExportMetricsServiceResponse().SerializeToString()
                if status == 200:
                    receiver.metrics += ExportMetricsServiceRequest.FromString(body).resource_metrics
            else:
                for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
                    receiver.resources.append(attributes(batch.resource))
                    receiver.spans += [span for scope in batch.scope_spans for span in scope.spans]
            receiver.paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as url:
        receiver = Receiver(url)
        yield receiver


def attributes(owner: Any) -> dict[str, Any]:
    """A span's or a resource's attributes."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in owner.attributes}


def failed(span: Span) -> bool:
    return bool(span.status.code == Status.STATUS_CODE_ERROR)
