"""What a program's exporters get: finished spans and measurements."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, Iterator, List, Optional

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.opentelemetry import RuntimeUseInstrumentor
from runtimeuse_sync.testing import FakeRuntime

AGENT_SECONDS = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"
SECONDS = "runtimeuse.client.operation.duration"


class Recorded:
    """Providers of spans and metrics, and what they have been told.

    Attributes:
        tracers: The provider of tracers.
        meters: The provider of meters.
    """

    def __init__(self, sampler: Optional[Sampler] = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler or ALWAYS_ON, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    @contextlib.contextmanager
    def on(self) -> Iterator[Recorded]:
        """Turns the instrumentation on for a block."""
        instrumentor = RuntimeUseInstrumentor()
        instrumentor.instrument(tracer_provider=self.tracers, meter_provider=self.meters)
        try:
            yield self
        finally:
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()
            self.tracers.shutdown()
            self.meters.shutdown()

    def spans(self) -> List[ReadableSpan]:
        """Returns the finished spans, in the order in which they have ended."""
        return list(self._exporter.get_finished_spans())

    def span(self) -> ReadableSpan:
        """Returns the only finished span."""
        (span,) = self.spans()
        return span

    def forget(self) -> None:
        """Forgets the spans so far."""
        self._exporter.clear()

    def points(self, name: str) -> List[Any]:
        """Returns the points of a metric, one for each set of attributes."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        """Returns all that has been told, as text."""
        data = self._reader.get_metrics_data()
        return "\n".join([span.to_json() for span in self.spans()] + ([data.to_json()] if data is not None else []))


def shown(span: ReadableSpan) -> Dict[str, Any]:
    """Returns the attributes of a span, lists as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dict(span.attributes or {}).items()
    }


def events(span: ReadableSpan) -> List[Any]:
    """Returns the events of a span: the name and the attributes of each."""
    return [(event.name, json.loads(json.dumps(dict(event.attributes or {})))) for event in span.events]


def fake(*replies: Any, **settings: Any) -> RuntimeUseClient:
    """Returns a client of a runtime in memory."""
    return RuntimeUseClient(transport=FakeRuntime(list(replies)), **{"model": "m", **settings})
