"""Spans of OpenTelemetry: one for each request, joined to the trace of the client. Needs the extra `otel`.

The variables of OpenTelemetry configure it: `OTEL_EXPORTER_OTLP_ENDPOINT` and its companions, `OTEL_SERVICE_NAME`,
`OTEL_TRACES_SAMPLER`, and `OTEL_TRACES_EXPORTER` (`otlp`, `console` or `none`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hobbyhorse.server.observing.observed import ObservedRequest

# Probes ask for it every few seconds, and no client does.
UNTRACED = "/_mock/health"
# Nanoseconds in a second: the unit of OpenTelemetry.
NANOSECONDS = 1_000_000_000


class Spans:
    """Makes a span of each request."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or "hobbyhorse"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if exporter is not None:
            self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        elif (configured := _exporter(os.environ)) is not None:
            self._provider.add_span_processor(BatchSpanProcessor(configured))
        self._tracer = self._provider.get_tracer("hobbyhorse", version("hobbyhorse"))
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def setup(cls, stack: ExitStack) -> Spans:
        """Begin when the server starts: a thread that sends spans must not be of another process."""
        found = cls()
        stack.callback(found.close)
        return found

    def ended(self, request: ObservedRequest) -> None:
        """Make the span of a request."""
        if request.path == UNTRACED:
            return
        facts = {name: value for name, value in request.facts() if value is not None}
        name = " ".join(str(facts[name]) for name in ("provider", "operation") if name in facts)
        attributes = {
            "http.request.method": request.method,
            "url.path": request.path,
            "hobbyhorse.request_id": request.id,
            **{f"hobbyhorse.{name}": value for name, value in facts.items()},
        }
        if request.status is not None:
            attributes["http.response.status_code"] = request.status
        if request.error is not None:
            attributes["error.type"] = request.error
        carrier = {key.decode("latin-1"): value.decode("latin-1") for key, value in request.headers}
        began = int(request.began * NANOSECONDS)
        span = self._tracer.start_span(
            name or request.method,
            self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=began,
        )
        if request.error is not None or (request.status or 0) >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(began + int(request.seconds * NANOSECONDS))

    def close(self) -> None:
        """Send the spans that have not been sent, and end."""
        self._provider.shutdown()


def check(environment: Mapping[str, str]) -> None:
    """Check the variables that name the exporter and its protocol. Raises ValueError."""
    allowed: dict[str, tuple[str, ...]] = {"OTEL_TRACES_EXPORTER": ("otlp", "console", "none")}
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        allowed[name] = ("http/protobuf",)
    for name, values in allowed.items():
        if environment.get(name) and environment[name] not in values:
            raise ValueError(f"{name} is {environment[name]!r}; allowed: {', '.join(values)}")


def _exporter(environment: Mapping[str, str]) -> SpanExporter | None:
    """Return the exporter that a checked environment names, or None for none."""
    name = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    return OTLPSpanExporter() if name == "otlp" else None
