"""See calls as spans and measurements of OpenTelemetry, also in what runs in the sandbox.

It needs: pip install "runtimeuse-sync[runtime,otel]" opentelemetry-sdk
"""

import tempfile
from typing import Sequence

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from runtimeuse_sync import AssistantMessageInterface, CommandFailedError, RuntimeUseClient
from runtimeuse_sync.opentelemetry import RuntimeUseInstrumentor
from runtimeuse_sync.runtime import LocalRuntime

SHOWN = ("gen_ai.usage.output_tokens", "runtimeuse.command.exit_codes", "error.type")


class Printer(SpanExporter):
    """Prints spans. A program would have an OTLPSpanExporter here, below a BatchSpanProcessor."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            attributes = span.attributes or {}
            details = [f"{name.rsplit('.', 1)[1]}={attributes[name]!r}" for name in SHOWN if name in attributes]
            print(f"  {'  ' if span.parent else ''}{span.name}:", ", ".join(details) or "ok")
        return SpanExportResult.SUCCESS


def agent(invocation: object, sender: object) -> object:
    """Says how many tokens it has used, as the runtime's own agents do."""
    del invocation, sender
    return "Four.", {"usage": {"inputTokens": 9, "outputTokens": 2}}


def main() -> None:
    tracers, reader = TracerProvider(), InMemoryMetricReader()
    tracers.add_span_processor(SimpleSpanProcessor(Printer()))
    RuntimeUseInstrumentor().instrument(tracer_provider=tracers, meter_provider=MeterProvider([reader]))
    tracer = tracers.get_tracer("example")

    with LocalRuntime(agent=agent) as runtime:
        print("tokens")
        RuntimeUseClient(runtime.ws_url, model="any").query("What is 2 + 2?")

    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")

        print("below a span of our own")
        with tracer.start_as_current_span("job"), client.session() as session:
            session.files.write("note.txt", "buy milk")
            session.run("cat note.txt")

        print("a failure")
        try:
            client.execute_commands(["true", "exit 3"])
        except CommandFailedError:
            pass

        print("callbacks run in the span of their call")

        def look(_: AssistantMessageInterface) -> None:
            with tracer.start_as_current_span("callback"):
                pass

        client.query("echo hello", on_assistant_message=look)

        print("the sandbox knows the trace")
        with tracer.start_as_current_span("job"):
            trace_id = f"{trace.get_current_span().get_span_context().trace_id:032x}"
            print("  the same trace:", trace_id in (client.run("echo $TRACEPARENT").stdout or ""))

    RuntimeUseInstrumentor().uninstrument()
    data = reader.get_metrics_data()
    assert data is not None
    print("metrics")
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        print(f"  {metric.name} in {metric.unit}")


if __name__ == "__main__":
    main()
