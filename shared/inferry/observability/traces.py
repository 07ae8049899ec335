"""OpenTelemetry spans of requests, messages and jobs, sent by OTLP over HTTP; the SDK reads its OTEL_* variables."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from inferry import __version__
from inferry.errors import InvalidSettings, extra
from inferry.observability.catalogue import known_method
from inferry.observability.record import RequestRecord
from inferry.observability.registry import Metrics
from inferry.observability.stats import reason_of
from inferry.settings import Settings

try:
    from opentelemetry import propagate, trace
    from opentelemetry.context import attach, detach
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as exc:
    raise InvalidSettings(f"TRACES needs OpenTelemetry: {extra('otel')}") from exc

_METHOD_LENGTH = 20


class Tracer:
    """Makes the spans of requests, with the platform's provider when it has set one up, else with one of our own."""

    def __init__(self, settings: Settings) -> None:
        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            # It is not made the process's own: libraries would add spans of their insides to ours.
            provider = _provider(settings)
        self._provider = provider
        self._tracer = provider.get_tracer("inferry", __version__)

    def start(self, scope: Mapping[str, Any], request_id: str, metrics: Metrics) -> "RequestSpan":
        """The span of a request, below the platform's own, if there is one, or the one that its traceparent names.

        Names and attributes are those of OpenTelemetry's semantic conventions for HTTP, 1.23 and later.
        """
        method = scope["method"]
        attributes = {
            "http.request.method": (known := known_method(method)),
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
            "inferry.request_id": request_id,
        }
        if known != method:
            attributes["http.request.method_original"] = method[:_METHOD_LENGTH]
        parent = None
        if not trace.get_current_span().get_span_context().is_valid:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            parent = propagate.extract(headers)
        now = time.time_ns()
        name = method if known == method else "HTTP"
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=now)
        return RequestSpan(self._tracer, span, now, name, metrics)

    @contextmanager
    def below(self, traceparent: str) -> Iterator[None]:
        """The spans of the block are below the one that `traceparent` names; an empty one changes nothing."""
        token = attach(propagate.extract({"traceparent": traceparent})) if traceparent else None
        try:
            yield
        finally:
            if token is not None:
                detach(token)

    @contextmanager
    def message(self, name: str, traceparent: str) -> Iterator[None]:
        """The span of a message that the block is about, below the one that `traceparent` names."""
        parent = propagate.extract({"traceparent": traceparent})
        span = self._tracer.start_span("message", parent, SpanKind.CONSUMER, {"messaging.message.id": name})
        with _lasting(span):
            yield

    @contextmanager
    def job(self, file: str, model: str, version: str) -> Iterator[Callable[[str, int, int], None]]:
        """The span of a batch job's file, below the one of its message; the block says what came of it."""
        attributes = {"inferry.input": file, "inferry.model": model, "inferry.version": version}
        span = self._tracer.start_span("job", attributes=attributes)

        def ended(state: str, rows: int, errors: int) -> None:
            span.set_attribute("inferry.outcome", state)
            span.set_attributes({"inferry.rows": rows, "inferry.row_errors": errors})

        with _lasting(span):
            yield ended

    def flush(self) -> None:
        """Sends what waits to be sent; the exporter's own time limit is its end."""
        self._provider.force_flush()


@contextmanager
def _lasting(span: Span) -> Iterator[None]:
    """The span lasts as long as the block, whose spans are below it."""
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except Exception as exc:
            span.set_attribute("error.type", reason_of(exc))
            span.set_status(Status(StatusCode.ERROR))
            raise


@lru_cache(1)
def tracer(settings: Settings) -> Tracer:
    """The one for all that this process does: each would have a thread, and connections, of its own."""
    return Tracer(settings)


class RequestSpan:
    """A request's span; the spans below it are made from the request's record when it ends."""

    def __init__(self, tracer: trace.Tracer, span: Span, start: int, name: str, metrics: Metrics) -> None:
        self._tracer = tracer
        self._span = span
        self._start = start
        self._name = name
        self._metrics = metrics
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response's traceparent, by which a client finds the trace."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(self._span))
        return [(name.encode(), value.encode()) for name, value in carrier.items() if name == "traceparent"]

    def end(self, record: RequestRecord) -> None:
        """Ends the span once the response is sent, with the attributes and the child spans that `record` tells."""
        offset = self._start - record.started
        self._span.set_attribute("http.response.status_code", record.status)
        if record.route:
            # Known now: a path is no name, there are as many as models.
            self._span.update_name(f"{self._name} {record.route}")
            self._span.set_attribute("http.route", record.route)
        if record.loaded:
            self._child("load", record.loading + offset, record.loaded - record.loading, {})
        if record.taken:
            self._span.set_attributes({"inferry.model": record.model, "inferry.version": record.version})
            self._predicted(record, record.taken + offset)
            here = self._span.get_span_context()
            if record.status == 200 and here.trace_flags.sampled:
                took = record.decode + record.queue + record.infer + record.cache + record.encode
                self._metrics.model(record.model, record.version).traced(took, self.trace_id, f"{here.span_id:016x}")
        if record.reason:
            self._span.set_attribute("error.type", record.reason)
        if record.status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(record.ended + offset)

    def _predicted(self, record: RequestRecord, taken: int) -> None:
        attributes: dict[str, Any] = {"inferry.rows": record.rows, "inferry.queue_ms": record.queue / 1e6}
        if record.cache:
            self._span.set_attributes({"inferry.cache_ms": record.cache / 1e6, "inferry.cached": record.cached})
        ready = taken + record.decode
        parent = self._span
        if record.batch:
            # From the moment that a request waits for its batch to the end of the run that it shares.
            rows = {"inferry.batch_rows": record.batch}
            parent = self._child("batch", ready, record.queue + record.infer, rows)
        elif record.reason and record.queue:
            # Its time was over here, or soon after.
            self._child("queue", ready, record.queue, {})
        if record.infer:
            self._child("infer", ready + record.queue, record.infer, attributes, parent)

    def _child(self, name: str, start: int, took: int, attributes: dict[str, Any], parent: Span | None = None) -> Span:
        context = trace.set_span_in_context(parent or self._span)
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=start)
        span.end(start + took)
        return span


def _provider(settings: Settings) -> TracerProvider:
    resource = Resource.create(
        {
            "service.name": settings.app_name,
            "service.version": settings.app_version,
            "deployment.environment.name": settings.environment,
        }
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
