"""Whose child a call's span is, and which span is the current one while its callbacks run."""

from __future__ import annotations

from typing import Any, List

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan

from runtimeuse_sync import (
    ArtifactUploadResult,
    RuntimeUseClient,
)
from runtimeuse_sync.batch import Job, run_many
from runtimeuse_sync.testing import (
    FakeRuntime,
    assistant_message,
    command_results,
    text_result,
    upload_request,
)

from ...support.builders import BOTH, caller_of
from ...support.servers import PATIENCE
from .recorded import Recorded, events, fake

FIRST = "runtimeuse.first_message"


def parent_of(span: ReadableSpan) -> Any:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> Any:
    assert span.context is not None
    return span.context.span_id


@BOTH
def test_the_current_span_is_the_parent(recorded: Recorded, tracer: Any, in_session: bool) -> None:
    with caller_of(fake(text_result("4")), in_session) as caller, tracer.start_as_current_span("user's"):
        caller.query("p")
    child, parent = recorded.spans()
    assert parent_of(child) == id_of(parent)


def test_a_submitted_run_is_a_child_of_where_it_was_submitted(recorded: Recorded, tracer: Any) -> None:
    with tracer.start_as_current_span("user's"):
        futures: List[Any] = [
            fake(text_result("4")).submit("p"),
            fake(command_results(0)).submit_commands(["true"]),
        ]
    for future in futures:
        future.result(PATIENCE)
    spans = {span.name: span for span in recorded.spans()}
    parent = id_of(spans.pop("user's"))
    assert {name: parent_of(span) for name, span in spans.items()} == {
        "execute_commands": parent,
        "invoke_agent": parent,
    }


def test_many_runs_are_children_of_where_they_are_run(recorded: Recorded, tracer: Any) -> None:
    client = fake(text_result("4"), text_result("4"))
    with tracer.start_as_current_span("user's"):
        list(run_many([Job("p"), Job("q")], client=client))
    *children, parent = recorded.spans()
    assert [parent_of(child) for child in children] == [id_of(parent)] * 2


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_callbacks_run_in_the_span(recorded: Recorded, tracer: Any, timeout: Any) -> None:
    seen = []

    def note(_: Any) -> None:
        with tracer.start_as_current_span("callback"):
            seen.append(trace.get_current_span())

    before = trace.get_current_span()
    fake([assistant_message("a"), assistant_message("b"), *text_result("4")]).query(
        "p", on_assistant_message=note, assistant_callback_timeout=timeout
    )
    assert trace.get_current_span() is before
    first, second, call = recorded.spans()
    assert parent_of(first) == parent_of(second) == id_of(call)


def test_upload_callbacks_run_in_the_span(recorded: Recorded, tracer: Any) -> None:
    def put(_: Any) -> ArtifactUploadResult:
        with tracer.start_as_current_span("callback"):
            return ArtifactUploadResult("http://storage/x", "text/plain")

    fake([upload_request("/x"), *text_result("4")]).query(
        "p", artifacts_dirs=["/"], on_artifact_upload_request=put, cancel_when=lambda: False
    )
    upload, call = recorded.spans()
    assert parent_of(upload) == id_of(call)
    assert events(call) == [(FIRST, {"runtimeuse.message.type": "artifact_upload_request_message"})]


def test_the_body_of_a_loop_is_not_in_the_span(recorded: Recorded, tracer: Any) -> None:
    with fake([assistant_message("a"), *text_result("4")]).stream("p") as run:
        for _ in run:
            tracer.start_span("user's").end()
    assert [parent_of(span) for span in recorded.spans()] == [None, None]


def test_a_call_in_a_callback_is_a_child(recorded: Recorded) -> None:
    other = fake(text_result("5"))

    def ask(_: Any) -> None:
        other.query("q")

    fake([assistant_message("a"), *text_result("4")]).query("p", on_assistant_message=ask)
    inner, outer = recorded.spans()
    assert parent_of(inner) == id_of(outer)


def test_suppressed(recorded: Recorded) -> None:
    fakes = FakeRuntime([text_result("4"), text_result("4")])
    client = RuntimeUseClient(transport=fakes, model="m")
    with suppress_instrumentation():
        client.query("p")
    assert recorded.spans() == recorded.points("gen_ai.client.operation.duration") == []
    assert "agent_env" not in fakes.requests[0]
    client.query("p")
    assert len(recorded.spans()) == 1
