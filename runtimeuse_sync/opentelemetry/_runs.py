"""Runs that have a span: `TracedRun` is what clients and sessions make while the instrumentation is on.

The span begins when the run starts (not when `stream` returns it), and ends with the run: when its result or its
exception is there, when it is left early, or, if nobody leaves it, when it is freed. It is the current span while the
client works for the run: as it connects and waits, and in callbacks. It is not in the body of a loop over the run,
which is the caller's own code.

A run keeps what it was made with, so turning the instrumentation off or on changes no run that there is already.

Threads: those of a run; the thread that starts it begins the span, the one that reads its end, or leaves it, ends it.
"""

import functools
import math
import weakref
from types import TracebackType
from typing import Any, Callable, Dict, Generic, Optional, Type

from .._wire.request import Request
from ..messages import StreamedMessage
from ..run import ResultType_co, Run
from . import _attributes as attributes
from ._propagation import with_context
from ._telemetry import CallSpan, Telemetry


class TracedRun(Run[ResultType_co], Generic[ResultType_co]):
    """A run with a span.

    Args:
        telemetry: Where the span goes.
        origin: Where the requests go, without secrets.
        whole: The span of the call that the run is the main part of, and which ends it; `None` if the run is the call.
        request: As for `Run`.
        *arguments: As for `Run`.
        **keywords: As for `Run`.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        origin: str,
        whole: Optional[CallSpan],
        request: Request,
        *arguments: Any,
        **keywords: Any,
    ) -> None:
        super().__init__(request, *arguments, **keywords)
        self._telemetry = telemetry
        self._origin = origin
        self._whole = whole
        self._span: Optional[CallSpan] = None
        self._has_begun = False
        self._left_behind: Optional[weakref.finalize[Any, Any]] = None

    def _start(self, *, until_open: bool) -> None:
        start = functools.partial(super()._start, until_open=until_open)
        source_id = self._call.source_id
        self._span = self._whole or begin_span(self._telemetry, self._origin, self._request, source_id)
        span = self._span
        if span is None:
            start()
            return
        payload = self._request.payload
        payload = span.propagated(lambda context: with_context(payload, context), payload)
        self._request = self._request._replace(payload=payload)
        reader: Any = self._reader
        # It only keeps the request: one that is large should not be kept twice.
        reader._request = self._request
        reader._callbacks = _UntilFirstMessage(reader._callbacks, span)
        try:
            span.during(start)
        except BaseException as error:
            span.show(attributes.of_error(type(error)))
            raise
        self._has_begun = True

    def _enter(self, *, until_open: bool = True) -> "Run[ResultType_co]":
        run = super()._enter(until_open=until_open)
        if self._span is not None:
            self._left_behind = weakref.finalize(self, self._span.leave_behind)
            self._left_behind.atexit = False
        return run

    def _next(self, *, to_the_end: bool = False, pause_at: float = math.inf) -> Optional[StreamedMessage]:
        read = functools.partial(super()._next, to_the_end=to_the_end, pause_at=pause_at)
        span = self._span
        if span is None:
            return read()
        try:
            return span.during(read)
        finally:
            if self._is_over:
                self._end_span(span)

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._span is not None and kind is not None and kind is not GeneratorExit and not self._is_over:
            self._span.show(attributes.of_error(kind))
        super().__exit__(kind, error, trace)

    @property
    def _is_over(self) -> bool:
        return self._reader.result is not None or self._reader.error is not None

    def _release(self) -> None:
        span = self._span
        if span is None:
            super()._release()
            return
        was_over = self._is_over
        if not was_over and self._has_begun:
            span.show({attributes.LEFT_EARLY: True})
        try:
            super()._release()
        finally:
            self._end_span(span, shows_end=was_over)

    def _end_span(self, span: CallSpan, *, shows_end: bool = True) -> None:
        """Ends the span; may be repeated."""
        if shows_end:
            result, error = self._reader.result, self._reader.error
            if self._reader.message_count:
                # Only the message that ended the run has not been noted, if it was the first.
                span.note_message(self._request.result_type if error is None else None)
            span.show(self._telemetry.safely(lambda: attributes.of_end(self._request, result, error), {}))
        if self._left_behind is not None:
            self._left_behind.detach()
        if self._whole is None:
            span.end()
        self._span = None


def begin_span(telemetry: Telemetry, origin: str, request: Request, source_id: Optional[str]) -> Optional[CallSpan]:
    """Returns the span of a request, begun; `None` where that is suppressed or has failed.

    Args:
        telemetry: Where it goes.
        origin: Where the request goes, without secrets.
        request: The request.
        source_id: The user's name for the call, secrets masked; `None` if it has none.
    """
    name = attributes.INVOKE_AGENT if attributes.is_query(request) else attributes.EXECUTE_COMMANDS

    def shown() -> attributes.Attributes:
        return {**attributes.of_request(request, source_id), **attributes.of_server(origin)}

    return telemetry.begin(name, telemetry.safely(shown, {}))


class _UntilFirstMessage:
    """A run's callbacks, which also notes the first message; after that, `deliver` is the callbacks' own."""

    def __init__(self, callbacks: Any, span: CallSpan) -> None:
        self._callbacks = callbacks
        self._span = span

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callbacks, name)

    def deliver(self, message: Any, message_count: int) -> None:
        """As `Callbacks.deliver`."""
        own: Dict[str, Callable[[Any, int], None]] = self.__dict__
        own["deliver"] = self._callbacks.deliver
        self._span.note_message(message.message_type)
        self._callbacks.deliver(message, message_count)

    def upload(self, request: Any, options: Any) -> Any:
        """As `Callbacks.upload`."""
        self._span.note_message(request.message_type)
        return self._callbacks.upload(request, options)
