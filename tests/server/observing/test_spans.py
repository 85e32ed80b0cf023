"""Spans of OpenTelemetry, in memory and as a collector gets them."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hobbyhorse.server.app import Fake
from hobbyhorse.server.observing.observed import Observed
from hobbyhorse.server.observing.spans import Spans, check
from tests.server.observing.running import BODY, KEY, TASKS, running

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def spans_of(*paths: tuple[str, str, dict[str, str]]) -> tuple[ReadableSpan, ...]:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    async with running(Observed(Fake(), [lambda stack: spans])) as client:
        for method, path, headers in paths:
            await client.request(method, path, headers=headers, json=BODY if method == "POST" else None)
    return exporter.get_finished_spans()


async def test_a_request_is_a_span_of_the_trace_of_its_client() -> None:
    (span,) = await spans_of(("POST", TASKS, {"traceparent": f"00-{TRACE}-{PARENT}-01"}))
    assert (span.name, span.kind) == ("hiapi submit", SpanKind.SERVER)
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    attributes = dict(span.attributes or {})
    assert len(str(attributes.pop("hobbyhorse.request_id"))) == 16
    assert str(attributes.pop("hobbyhorse.job")).startswith("tk-hiapi-")
    assert attributes.pop("hobbyhorse.world")
    assert attributes == {
        "http.request.method": "POST",
        "url.path": TASKS,
        "http.response.status_code": 200,
        "hobbyhorse.provider": "hiapi",
        "hobbyhorse.operation": "submit",
        "hobbyhorse.situation": "accepted",
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time > span.start_time


async def test_the_armed_scenario_and_its_fault_are_attributes_and_a_500_is_an_error() -> None:
    (span,) = await spans_of(("POST", TASKS, {"x-mock-scenario": "submit_server_error"}))
    attributes = dict(span.attributes or {})
    assert attributes["hobbyhorse.scenario"] == "submit_server_error"
    assert attributes["hobbyhorse.fault"]
    assert span.status.status_code is StatusCode.ERROR


async def test_without_a_valid_traceparent_a_span_begins_a_trace() -> None:
    for value in ("", "nonsense", f"00-{'0' * 32}-{PARENT}-01"):
        (span,) = await spans_of(("GET", f"{TASKS}/{KEY}", {"traceparent": value}))
        assert span.parent is None
        assert dict(span.attributes or {})["url.path"] == f"{TASKS}/[key]"


async def test_the_health_check_has_no_span_and_other_server_routes_have() -> None:
    found = await spans_of(("GET", "/_mock/health", {}), ("GET", "/_mock/jobs", {}))
    assert [(span.name, dict(span.attributes or {})["url.path"]) for span in found] == [("GET", "/_mock/jobs")]


async def test_a_collector_gets_the_spans_before_the_server_has_stopped(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[ExportTraceServiceRequest] = []
    arrived = threading.Event()

    def collect(request: Request) -> Response:
        got.append(ExportTraceServiceRequest.FromString(request.get_data()))
        arrived.set()
        return Response(status=200, content_type="application/x-protobuf")

    httpserver.expect_request("/v1/traces", method="POST").respond_with_handler(collect)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", httpserver.url_for("/").rstrip("/"))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "stand-in")
    async with running(Observed(Fake(), [Spans.setup])) as client:
        await client.post(TASKS, json=BODY)
    assert arrived.is_set()
    (resource,) = got[0].resource_spans
    names = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert names["service.name"] == "stand-in"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["hiapi submit"]


def test_a_collector_that_is_not_there_does_not_fail_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    with ExitStack() as stack:
        assert isinstance(Spans.setup(stack), Spans)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'; allowed: otlp, console, none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; allowed: http/protobuf"),
    ],
)
def test_a_configuration_that_is_not_supported_is_an_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(environment)
    check(dict.fromkeys(environment, ""))
