"""Interrupts between any two steps of what the instrumentation does in the caller's thread."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.opentelemetry import _operations, _telemetry
from runtimeuse_sync.opentelemetry._runs import TracedRun
from runtimeuse_sync.testing import FakeRuntime, assistant_message, command_results, text_result

from ...support.doubles import Interrupt, at_every_step, interrupt
from .recorded import Recorded


class Open(SpanProcessor):
    """Knows the spans that have begun."""

    def __init__(self) -> None:
        self.begun: List[Any] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun.append(span)

    def count(self) -> int:
        return sum(span.end_time is None for span in self.begun)


def query(client: RuntimeUseClient) -> None:
    assert client.query("p").text == "4"


def stream(client: RuntimeUseClient) -> None:
    with client.stream("p") as run:
        assert [message.message_type for message in run] == ["assistant_message"]


def file_operation(client: RuntimeUseClient) -> None:
    assert client.files.exists("x")


SAID = [assistant_message("a"), *text_result("4")]


@pytest.mark.parametrize(
    ("function", "call", "reply"),
    [
        (TracedRun._start, query, SAID),
        (TracedRun._start, stream, SAID),
        (TracedRun._next, query, SAID),
        (TracedRun._next, stream, SAID),
        (TracedRun._release, query, SAID),
        (TracedRun._release, stream, SAID),
        (TracedRun._end_span, query, SAID),
        (_telemetry.CallSpan.during, query, SAID),
        (_telemetry.CallSpan.end, query, SAID),
        (_telemetry.CallSpan._measure, query, SAID),
        (_telemetry.CallSpan._end_span, query, SAID),
        (_telemetry.Telemetry.safely, query, SAID),
        (_operations._within, file_operation, command_results("yes")),
    ],
)
def test_an_interrupt_at_any_step(
    recorded: Recorded, function: Any, call: Callable[[RuntimeUseClient], None], reply: Any
) -> None:
    opened = Open()
    recorded.tracers.add_span_processor(opened)
    lost = 0
    for run in at_every_step(function, interrupt):
        client = RuntimeUseClient(transport=FakeRuntime([reply]), model="m")

        def body(client: RuntimeUseClient = client) -> None:
            before = trace.get_current_span()
            try:
                call(client)
            finally:
                assert trace.get_current_span() is before

        try:
            run(body)
        except Interrupt:
            assert run.reached
        else:
            assert not run.reached, "the interrupt was lost"
        assert client._calls == set()
        lost += opened.count()
        opened.begun.clear()
    # Only one that comes between the return from a span's begin and the note of it, a few steps, loses the span.
    assert lost <= 4
