"""Calling the user's callbacks: in the calling thread, or, where a callback has a timeout, in a helper thread.

Threads: everything here runs in the calling thread. A callback with a timeout runs in a thread of its own, named
`runtimeuse-callback-N`, with the caller's context variables copied; the caller waits for it, and can be aborted and
timed out meanwhile. A callback that outlives its time cannot be ended: its (daemon) thread goes on until it returns,
and what it returns or raises then is dropped.
"""

import contextvars
import inspect
import itertools
import threading
from typing import Any, Callable, Dict, Generic, Optional, TypeVar

from . import _codec
from ._call import Call
from ._cleanup import new_thread, start_thread
from ._interrupts import raised_by_a_signal_handler
from ._redaction import scrub_value
from ._turn import Ticket
from .errors import AgentRuntimeError, ArtifactUploadError
from .messages import ArtifactUploadRequestMessageInterface, AssistantMessageInterface, CommandOutputMessageInterface
from .options import Options
from .results import ArtifactUploadResult

_numbers = itertools.count(1)

_T = TypeVar("_T")


class Callbacks:
    """The callbacks of one call."""

    def __init__(self, options: Options, call: Call, ticket: Ticket) -> None:
        self._options = options
        self._call = call
        self._ticket = ticket

    def deliver(self, message: Any, message_count: int) -> None:
        """Calls the callback for a streamed message, if there is one; its exceptions come out unchanged.

        Args:
            message: The message.
            message_count: How many the call has got, this one included.

        Raises:
            AgentRuntimeError: it did not return within its own timeout, or there is no thread for it.
            CancelledException: the call was aborted meanwhile (only noticed where the callback has a timeout).
            RunTimeoutError: the call's deadline passed meanwhile (likewise).
            TypeError: it returned a coroutine.
        """
        options = self._options
        if type(message) is CommandOutputMessageInterface:
            if options.on_command_output is not None:
                _check_nothing_to_await("on_command_output", options.on_command_output(message))
        elif type(message) is AssistantMessageInterface:
            callback = options.on_assistant_message
            if callback is None:
                return
            returned = self._within(
                "on_assistant_message",
                "assistant_callback_timeout",
                options.assistant_callback_timeout,
                lambda: callback(message),
                {
                    "last_message_type": message.message_type,
                    "message_count": message_count,
                    "phase": "assistant_callback",
                },
            )
            _check_nothing_to_await("on_assistant_message", returned)
        elif options.on_heartbeat is not None:
            _check_nothing_to_await("on_heartbeat", options.on_heartbeat(message))

    def upload(self, request: ArtifactUploadRequestMessageInterface, options: Optional[Options]) -> bytes:
        """Asks the upload callback of `options` where a file shall go; returns the answer for the runtime.

        Raises: as `deliver`, and:
            ArtifactUploadError: there are no `options`, as no call has had an upload callback.
            TypeError: it returned something else than an `ArtifactUploadResult`.
        """
        if options is None:
            raise self._call.owned(ArtifactUploadError("there is no on_artifact_upload_request", [request.filepath]))
        callback = options.on_artifact_upload_request
        assert callback is not None

        def ask() -> ArtifactUploadResult:
            try:
                result = callback(request)
                _check_upload_result(result)
                return result
            except BaseException as error:
                # What interrupts it is not its own. Of an exception that another thread sets, nothing can tell.
                if not raised_by_a_signal_handler(error):
                    self._call.owned(error)
                raise

        result = self._within(
            "on_artifact_upload_request",
            "artifact_upload_callback_timeout",
            options.artifact_upload_callback_timeout,
            ask,
            {"filename": request.filename, "filepath": request.filepath},
        )
        # The runtime may repeat the URL in an error.
        self._call.secrets = self._call.secrets + result.secret_values()
        return _codec.encode(_codec.encode_artifact_response(request, result.presigned_url, result.content_type))

    def _within(
        self, name: str, option: str, seconds: Optional[float], callback: Callable[[], _T], metadata: Dict[str, Any]
    ) -> _T:
        if seconds is None:
            return callback()
        until = self._call.now() + seconds
        helper = _Helper(name, callback, self._call, self._ticket)
        while not helper.done:
            if self._call.now() >= until:
                shown = scrub_value(metadata, self._call.secrets)
                text = f"{name} callback timed out"
                raise self._call.owned(AgentRuntimeError(text, {"timeout_type": option, "timeout": seconds, **shown}))
            self._call.wait(until)
        return helper.result()


class _Helper(Generic[_T]):
    """A callback that runs in a thread of its own."""

    def __init__(self, name: str, callback: Callable[[], _T], call: Call, ticket: Ticket) -> None:
        self.done = False
        self._returned: _T
        self._error: Optional[BaseException] = None
        context = contextvars.copy_context()

        def failure(why: str) -> AgentRuntimeError:
            return call.owned(AgentRuntimeError(f"{name} could not be called with a timeout: {why}"))

        thread = new_thread(context.run, f"runtimeuse-callback-{next(_numbers)}", self._run, callback, call, ticket)
        start_thread(thread, failure)

    def _run(self, callback: Callable[[], _T], call: Call, ticket: Ticket) -> None:
        ident = threading.get_ident()
        ticket.threads.add(ident)
        try:
            self._returned = callback()
        except BaseException as error:
            self._error = error  # Raised again in the calling thread.
        finally:
            ticket.threads.discard(ident)
            self.done = True
            call.wakeup.wake()

    def result(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._returned


def _check_upload_result(result: Any) -> None:
    _check_nothing_to_await("on_artifact_upload_request", result)
    if not isinstance(result, ArtifactUploadResult):
        raise TypeError(
            f"on_artifact_upload_request returned {type(result).__name__}; it must return an ArtifactUploadResult"
        )
    for name in ("presigned_url", "content_type"):
        if not isinstance(getattr(result, name), str):
            raise TypeError(f"on_artifact_upload_request returned a result whose {name} is not a str")


def _check_nothing_to_await(name: str, returned: Any) -> None:
    if returned is not None and inspect.iscoroutine(returned):
        returned.close()
        raise TypeError(f"{name} returned a coroutine; runtimeuse_sync calls plain functions")
