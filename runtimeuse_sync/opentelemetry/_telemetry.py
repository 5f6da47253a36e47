"""The span and the metrics of one call.

A `CallSpan` begins where the call begins, and may be ended repeatedly: only the first end counts. Whatever goes wrong
in here, or in what the application has configured (samplers, processors, exporters, readers), must not harm the call:
`safely` logs it, once for each class of exception, and the call goes on without. Interrupts of signal handlers are let
through. What another thread raises in this one while a processor runs looks like an exception of the processor.

Threads: the thread that makes the call; a span that was left behind ends in a thread of its own, since a processor or a
reader may hold a lock in the thread in which the garbage collector runs.
"""

from typing import Callable, Optional, Set, Tuple, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from .._call import monotonic
from .._interrupts import cleaned_up, raised_by_a_signal_handler
from .._logs import PACKAGE_LOGGER, Records
from .._threads import new_thread, start_directly
from ..errors import RuntimeUseError
from . import _attributes as attributes
from ._attributes import Attributes

_T = TypeVar("_T")

#: The limits of the histograms' buckets, as the GenAI conventions advise.
_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]


class Telemetry:
    """Where spans and metrics go.

    Args:
        tracer: Makes the spans.
        meter: Makes the instruments.
    """

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self.tracer = tracer
        self.agent_seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self.seconds = meter.create_histogram(
            "runtimeuse.client.operation.duration",
            "s",
            "Duration of commands and of operations on files.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._reported: Set[str] = set()

    def safely(self, step: Callable[[], _T], otherwise: _T) -> _T:
        """Returns what `step` returns; if it fails, logs that and returns `otherwise`."""
        try:
            return step()
        except Exception as error:
            if raised_by_a_signal_handler(error):
                raise
            kind = type(error).__qualname__
            if kind not in self._reported:
                self._reported.add(kind)
                Records(PACKAGE_LOGGER).write(PACKAGE_LOGGER.warning, "OpenTelemetry failed: %s", kind)
            return otherwise

    def begin(self, name: str, shown: Attributes) -> "Optional[CallSpan]":
        """Begins the span of a call, as a child of the current one; returns `None` where that is suppressed.

        Args:
            name: The span's name.
            shown: Its attributes.
        """

        def begin() -> Optional[CallSpan]:
            if not is_instrumentation_enabled():
                return None
            return CallSpan(self, self.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=shown), shown)

        return self.safely(begin, None)


class CallSpan:
    """The span of one call, and the measurements at its end. Knows nothing of the call, so it keeps nothing alive.

    Args:
        telemetry: Where they go.
        span: The span, begun.
        shown: Its attributes.
    """

    def __init__(self, telemetry: Telemetry, span: Span, shown: Attributes) -> None:
        self._telemetry = telemetry
        self._span = span
        self._shown = dict(shown)
        self._began = monotonic()
        self._measured = False
        self._has_message = False
        #: The latest context in which `during` was called, and the one that has the span in its place.
        self._contexts: Optional[Tuple[Context, Context]] = None

    def during(self, body: Callable[[], _T], key: Optional[str] = None, value: object = None) -> _T:
        """Returns what `body` returns; meanwhile this is the current span.

        Args:
            body: What to run.
            key: A key of the context under which `body` finds `value`. Default: none.
            value: The value.
        """
        before = otel_context.get_current()
        contexts = self._contexts
        if contexts is None or contexts[0] is not before:
            # Reading a stream comes here for each message, as a rule from the same context.
            contexts = self._contexts = (before, set_span_in_context(self._span, before))
        current = contexts[1] if key is None else otel_context.set_value(key, value, contexts[1])

        def inside() -> _T:
            otel_context.attach(current)
            return body()

        def restore() -> None:
            # Not by a token: an interrupt may come before that is in a variable.
            if otel_context.get_current() is not before:
                otel_context.attach(before)

        return cleaned_up(inside, restore)

    def propagated(self, put: Callable[[Context], _T], otherwise: _T) -> _T:
        """Returns what `put` returns for the context of this span; `otherwise` if it fails."""
        return self._telemetry.safely(lambda: put(set_span_in_context(self._span)), otherwise)

    def show(self, shown: Attributes) -> None:
        """Adds attributes; those of an error mark the span as failed. Has no effect once the span has ended."""
        if self._measured:
            return
        self._shown.update(shown)

        def show() -> None:
            self._span.set_attributes(shown)

        self._telemetry.safely(show, None)

    def note_message(self, message_type: Optional[str]) -> None:
        """Adds an event if the message is the first one; its type is `None` if that is not known."""
        if self._has_message or self._measured:
            return
        self._has_message = True
        shown = None if message_type is None else {attributes.MESSAGE_TYPE: message_type}

        def note() -> None:
            self._span.add_event(attributes.FIRST_MESSAGE, shown)

        self._telemetry.safely(note, None)

    def end(self) -> None:
        """Ends the span, and measures the call; may be repeated."""
        self._telemetry.safely(self._measure, None)
        self._telemetry.safely(self._end_span, None)

    def _measure(self) -> None:
        if self._measured:
            return
        self._measured = True
        telemetry, context = self._telemetry, set_span_in_context(self._span)
        seconds = max(monotonic() - self._began, 0.0)
        known = {name: self._shown[name] for name in attributes.OF_METRICS if name in self._shown}
        is_query = attributes.OPERATION in known
        (telemetry.agent_seconds if is_query else telemetry.seconds).record(seconds, known, context)
        for name, kind in ((attributes.INPUT_TOKENS, "input"), (attributes.OUTPUT_TOKENS, "output")):
            count = self._shown.get(name)
            if isinstance(count, int):
                telemetry.tokens.record(count, {**known, attributes.TOKEN_TYPE: kind}, context)

    def _end_span(self) -> None:
        # False once the span has ended, too.
        if self._span.is_recording():
            if attributes.ERROR_TYPE in self._shown:
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end()

    def leave_behind(self) -> None:
        """Ends the span of a run that nobody has left, in a thread of its own; for the run's finalizer."""

        def end() -> None:
            self.show({attributes.LEFT_EARLY: True})
            self.end()

        try:
            start_directly(new_thread(end, "runtimeuse-span"))
        except RuntimeUseError:
            return  # No thread can be started: better to lose the span than to wait for a lock.
