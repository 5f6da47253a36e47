"""What a program has configured may fail: calls go on, and interrupts come through."""

from __future__ import annotations

import logging
import signal
from typing import Any, Iterator, List

import pytest
from opentelemetry import propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler

from runtimeuse_sync.opentelemetry import RuntimeUseInstrumentor, _telemetry
from runtimeuse_sync.testing import assistant_message, command_results, text_result

from ...support.threads import when
from .recorded import AGENT_SECONDS, Recorded, fake


class Failing(SpanProcessor):
    """Raises at the begin of each span, or at its end."""

    def __init__(self, moment: str) -> None:
        self._moment = moment

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._moment == "begin":
            raise ValueError("marker-1")

    def on_end(self, span: Any) -> None:
        if self._moment == "end":
            raise ValueError("marker-1")


class FailingPropagator(TextMapPropagator):
    """Raises always."""

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        raise ValueError("marker-1")

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        raise ValueError("marker-1")

    @property
    def fields(self) -> Any:
        return set()


class FailingSampler(Sampler):
    """Raises always."""

    def should_sample(self, *arguments: Any, **keywords: Any) -> Any:
        raise ValueError("marker-1")

    def get_description(self) -> str:
        return "failing"


@pytest.fixture
def failing_propagator() -> Iterator[None]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(FailingPropagator())
    yield
    propagate.set_global_textmap(before)


def all_calls_work() -> None:
    reply = [assistant_message("a"), *text_result("4")]
    client = fake(reply, reply, command_results(0), command_results("yes"))
    assert client.query("p").text == "4"
    with client.stream("p") as run:
        assert [message.message_type for message in run] == ["assistant_message"]
    assert client.run("true").exit_code == 0
    assert client.files.exists("x")


@pytest.mark.parametrize("moment", ["begin", "end"])
def test_a_processor(recorded: Recorded, moment: str, caplog: pytest.LogCaptureFixture) -> None:
    recorded.tracers.add_span_processor(Failing(moment))
    with caplog.at_level(logging.WARNING, "runtimeuse_sync"):
        all_calls_work()
        messages = when(lambda: [record.getMessage() for record in caplog.records])
    assert messages == ["OpenTelemetry failed: ValueError"]


@pytest.mark.usefixtures("failing_propagator")
def test_a_propagator(recorded: Recorded) -> None:
    all_calls_work()
    assert len(recorded.spans()) == 4


def test_a_sampler() -> None:
    with Recorded(FailingSampler()).on() as recorded:
        all_calls_work()
        assert recorded.spans() == []


def test_spans_that_are_not_sampled() -> None:
    with Recorded(ALWAYS_OFF).on() as recorded:
        all_calls_work()
        assert recorded.spans() == []
        assert [point.count for point in recorded.points(AGENT_SECONDS)] == [2]


def test_a_histogram(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("marker-1")

    monkeypatch.setattr(_telemetry.CallSpan, "_measure", fail)
    all_calls_work()
    assert len(recorded.spans()) == 4


def test_providers_that_have_been_shut_down() -> None:
    recorded = Recorded()
    with recorded.on():
        recorded.tracers.shutdown()
        recorded.meters.shutdown()
        all_calls_work()
        RuntimeUseInstrumentor().uninstrument()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_what_a_signal_handler_raises_in_a_processor_comes_out(recorded: Recorded, kind: Any) -> None:
    def handler(*_: Any) -> None:
        raise kind("from the handler")

    class Interrupted(SpanProcessor):
        ends: List[Any] = []  # noqa: RUF012  # for one test

        def on_end(self, span: Any) -> None:
            if not self.ends:
                self.ends.append(span)
                signal.raise_signal(signal.SIGUSR1)

    recorded.tracers.add_span_processor(Interrupted())
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        client = fake(text_result("4"), text_result("5"))
        with pytest.raises(kind, match="from the handler"):
            client.query("p")
        assert client.query("p").text == "5"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(recorded.spans()) == 2
