"""What arrives at a collector: the SDK's exporter sends to an HTTP server, which reads the protocol's own messages."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from runtimeuse_sync import CommandFailedError
from runtimeuse_sync.opentelemetry import RuntimeUseInstrumentor
from runtimeuse_sync.testing import assistant_message, command_results, text_result

from ...support.packages import needs
from ...support.servers import PATIENCE
from .recorded import AGENT_SECONDS, SECONDS, TOKENS, fake

pytestmark = needs("opentelemetry.exporter.otlp.proto.http")


class Collector(HTTPServer):
    """Takes what exporters send.

    Attributes:
        bodies: What was sent: the path and the body of each request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: List[Tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers as a collector does."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.bodies.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.01,), name="runtimeuse-test-collector")
        thread.start()
        yield collector
        collector.shutdown()
        thread.join(PATIENCE)


def values(attributes: Any) -> Dict[str, Any]:
    """Returns attributes, each as the text of its value's message."""
    return {each.key: str(each.value).strip() for each in attributes}


def test_what_arrives_at_a_collector(collector: Collector) -> None:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector.url}/v1/metrics"))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    RuntimeUseInstrumentor().instrument(tracer_provider=tracers, meter_provider=meters)
    try:
        usage = {"usage": {"inputTokens": 12, "outputTokens": 3}}
        client = fake([assistant_message("marker-1"), *text_result("marker-2", usage)], command_results(0, 3))
        client.query("marker-3")
        with pytest.raises(CommandFailedError):
            client.execute_commands(["ls marker-4", "exit 3"])
    finally:
        RuntimeUseInstrumentor().uninstrument()
        tracers.shutdown()
        meters.shutdown()

    spans = {}
    metrics = set()
    for path, body in collector.bodies:
        assert b"marker" not in body
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            for resource in traces.resource_spans:
                for scope in resource.scope_spans:
                    assert scope.scope.name == "runtimeuse_sync.opentelemetry"
                    spans.update({span.name: span for span in scope.spans})
        else:
            assert path == "/v1/metrics"
            told = ExportMetricsServiceRequest.FromString(body)
            metrics |= {
                metric.name
                for each in told.resource_metrics
                for scope in each.scope_metrics
                for metric in scope.metrics
            }
    assert set(spans) == {"invoke_agent", "execute_commands"}
    assert {span.kind for span in spans.values()} == {3}, "clients"
    query, commands = spans["invoke_agent"], spans["execute_commands"]
    assert values(query.attributes)["gen_ai.usage.input_tokens"] == "int_value: 12"
    assert [event.name for event in query.events] == ["runtimeuse.first_message"]
    assert (query.status.code, commands.status.code, commands.status.message) == (0, 2, "")
    assert values(commands.attributes)["error.type"] == 'string_value: "CommandFailedError"'
    assert metrics >= {AGENT_SECONDS, TOKENS, SECONDS}
