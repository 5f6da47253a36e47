"""Calls the user's callbacks: in the caller's thread or, if a callback has a timeout, in a helper thread.

Threads: the caller's. A callback with a timeout runs in a helper thread of its own, named `runtimeuse-callback-N`, with
a copy of the caller's context variables. The caller waits for it; meanwhile the call may be aborted or pass its
deadline. A callback that exceeds its timeout cannot be stopped: its daemon thread goes on until the callback returns,
and its result or exception is dropped.
"""

import contextvars
import functools
import inspect
import itertools
import threading
from typing import Any, Callable, Dict, Generic, List, Optional, Sequence, Tuple, TypeVar

from .._call import Call
from .._interrupts import raised_by_a_signal_handler
from .._threads import Start, new_thread
from .._wire import codec
from .._wire import validation as check
from .._wire.redaction import scrub_value
from .._wire.urls import url_secrets
from ..errors import AgentRuntimeError, ArtifactUploadError
from ..messages import ArtifactUploadRequestMessageInterface, AssistantMessageInterface, CommandOutputMessageInterface
from ..options import Options
from .turns import Ticket

_numbers = itertools.count(1)

#: The most secrets of a call's upload URLs that are masked. A runtime may announce any number of files.
MAX_URL_SECRETS = 10_000

_T = TypeVar("_T")


class Callbacks:
    """The callbacks of one call."""

    def __init__(self, options: Options, call: Call, ticket: Ticket) -> None:
        self._call = call
        self._ticket = ticket
        # Looked up once: `deliver` is called for every message.
        self._on_output = options.on_command_output
        self._on_heartbeat = options.on_heartbeat
        self._on_assistant = options.on_assistant_message
        self._assistant_seconds = check.seconds(options.assistant_callback_timeout)
        # The secrets of upload URLs, oldest first, and the call's own secrets, noted before the first of these.
        self._url_secrets: Dict[str, None] = {}
        self._call_secrets: Optional[List[str]] = None

    def deliver(self, message: Any, message_count: int) -> None:
        """Calls the callback for a streamed message, if there is one.

        Args:
            message: The message.
            message_count: The number of messages that the call has received, including this one.

        Raises:
            AgentRuntimeError: The callback did not return within its timeout, or its thread could not be started.
            CancelledException: The call was aborted meanwhile. Only noticed if the callback has a timeout.
            RunTimeoutError: The call's deadline passed meanwhile. Only noticed if the callback has a timeout.
            TypeError: The callback returned a coroutine.
            BaseException: Whatever the callback raises, unchanged.
        """
        callback: Optional[Callable[[Any], object]]
        if type(message) is CommandOutputMessageInterface:
            name, callback = "on_command_output", self._on_output
        elif type(message) is AssistantMessageInterface:
            name, callback = "on_assistant_message", self._on_assistant
            if callback is not None and self._assistant_seconds is not None:
                callback = self._with_timeout(callback, self._assistant_seconds, message_count)
        else:
            name, callback = "on_heartbeat", self._on_heartbeat
        if callback is not None:
            returned = callback(message)
            if returned is not None:
                _check_nothing_to_await(name, returned)

    def _with_timeout(
        self, callback: Callable[[Any], object], seconds: float, message_count: int
    ) -> Callable[[Any], object]:
        metadata = {
            "last_message_type": "assistant_message",
            "message_count": message_count,
            "phase": "assistant_callback",
        }
        return lambda message: self._within(
            "on_assistant_message", "assistant_callback_timeout", seconds, lambda: callback(message), metadata
        )

    def upload(self, request: ArtifactUploadRequestMessageInterface, options: Optional[Options]) -> bytes:
        """Asks an upload callback where to upload a file; returns the encoded answer for the runtime.

        Args:
            request: The runtime's upload request.
            options: The options that have the upload callback; `None` if no call had one.

        Raises:
            ArtifactUploadError: There is no upload callback.
            AgentRuntimeError: The callback did not return within its timeout, or its thread could not be started.
            CancelledException: The call was aborted meanwhile. Only noticed if the callback has a timeout.
            RunTimeoutError: The call's deadline passed meanwhile. Only noticed if the callback has a timeout.
            TypeError: The callback returned neither an `ArtifactUploadResult` nor an object like one.
            BaseException: Whatever the callback raises, unchanged.
        """
        if options is None:
            raise self._call.prepared(ArtifactUploadError("there is no on_artifact_upload_request", [request.filepath]))
        callback = options.on_artifact_upload_request
        assert callback is not None

        def ask() -> Tuple[str, str]:
            try:
                return _checked_upload_result(callback(request))
            except BaseException as error:
                # An interrupt is not the callback's own. An exception that another thread sets cannot be recognized.
                if not raised_by_a_signal_handler(error):
                    self._call.noted(error)
                raise

        url, content_type = self._within(
            "on_artifact_upload_request",
            "artifact_upload_callback_timeout",
            check.seconds(options.artifact_upload_callback_timeout),
            ask,
            {"filename": request.filename, "filepath": request.filepath},
        )
        # The runtime may repeat the URL in an error.
        self._mask(url_secrets(url))
        return codec.encode(codec.encode_artifact_response(request, url, content_type))

    def tell_end(self, options: Options, requests: Sequence[ArtifactUploadRequestMessageInterface]) -> None:
        """Tells an upload callback that the runtime is done with the uploads that it has answered for.

        Args:
            options: The options that have the callback, which has a method `session_ended`.
            requests: The requests that it has answered, without older ones for the same file.

        Raises:
            AgentRuntimeError: The method did not return within its timeout, or its thread could not be started.
            CancelledException: The call was aborted meanwhile. Only noticed if the callback has a timeout.
            RunTimeoutError: The call's deadline passed meanwhile. Only noticed if the callback has a timeout.
            BaseException: Whatever the method raises, unchanged.
        """
        told = session_ended(options)
        assert told is not None

        def tell() -> None:
            try:
                told(requests)
            except BaseException as error:
                if not raised_by_a_signal_handler(error):
                    self._call.noted(error)
                raise

        seconds = check.seconds(options.artifact_upload_callback_timeout)
        self._within("session_ended", "artifact_upload_callback_timeout", seconds, tell, {})

    def _mask(self, secrets: List[str]) -> None:
        """Masks secrets of upload URLs from now on; if there are too many, only the latest."""
        known = self._url_secrets
        new = [secret for secret in dict.fromkeys(secrets) if secret not in known]
        if not new:
            return
        if self._call_secrets is None:
            self._call_secrets = self._call.secrets
        known.update(dict.fromkeys(new))
        for secret in list(itertools.islice(known, max(0, len(known) - MAX_URL_SECRETS))):
            del known[secret]
        self._call.secrets = [*self._call_secrets, *known]

    def _within(
        self, name: str, option: str, seconds: Optional[float], callback: Callable[[], _T], metadata: Dict[str, Any]
    ) -> _T:
        """Returns what a callback returns.

        Args:
            name: The callback's name, for errors.
            option: The name of the option that sets its timeout, for errors.
            seconds: The timeout in seconds; `None` calls it in this thread.
            callback: The callback.
            metadata: The metadata of the error for a timeout.
        """
        if seconds is None:
            return callback()
        until = self._call.now() + seconds
        helper = _Helper(name, callback, self._call, self._ticket)
        while not helper.done:
            if self._call.now() >= until:
                shown = scrub_value(metadata, self._call.secrets)
                text = f"{name} callback timed out"
                raise self._call.prepared(
                    AgentRuntimeError(text, {"timeout_type": option, "timeout": seconds, **shown})
                )
            self._call.wait(until)
        return helper.result()


class _Helper(Generic[_T]):
    """A callback that runs in a helper thread."""

    def __init__(self, name: str, callback: Callable[[], _T], call: Call, ticket: Ticket) -> None:
        self.done = False
        self._returned: _T
        self._error: Optional[BaseException] = None
        context = contextvars.copy_context()

        def failure(why: str) -> AgentRuntimeError:
            return call.prepared(AgentRuntimeError(f"{name} could not be called with a timeout: {why}"))

        thread = new_thread(context.run, f"runtimeuse-callback-{next(_numbers)}", self._run, callback, call, ticket)
        Start(thread, functools.partial(self._end, call), failure).begin()

    def _run(self, callback: Callable[[], _T], call: Call, ticket: Ticket) -> None:
        ident = threading.get_ident()
        ticket.threads.add(ident)
        try:
            self._returned = callback()
        except BaseException as error:
            self._error = error  # Raised again in the caller's thread.
        finally:
            ticket.threads.discard(ident)
            self._end(call, self._error)

    def _end(self, call: Call, error: Optional[BaseException]) -> None:
        self._error = error
        self.done = True
        call.wakeup.wake()

    def result(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._returned


def session_ended(options: Options) -> Optional[Callable[[Sequence[ArtifactUploadRequestMessageInterface]], None]]:
    """Returns the method `session_ended` of the upload callback; `None` if it has none, as a plain function."""
    method: Any = getattr(options.on_artifact_upload_request, "session_ended", None)
    return method if callable(method) else None


def _checked_upload_result(result: Any) -> Tuple[str, str]:
    """Returns the URL and the content type that an upload callback returned.

    Raises:
        TypeError: The result is neither an `ArtifactUploadResult` nor an object with its attributes.
    """
    _check_nothing_to_await("on_artifact_upload_request", result)
    # Read each only once: it may be a property.
    url: Any = getattr(result, "presigned_url", None)
    content_type: Any = getattr(result, "content_type", None)
    if url is None and content_type is None:
        raise TypeError(
            f"on_artifact_upload_request returned {type(result).__name__}; it must return an ArtifactUploadResult"
        )
    for name, value in (("presigned_url", url), ("content_type", content_type)):
        if not isinstance(value, str):
            raise TypeError(f"on_artifact_upload_request returned a result whose {name} is not a str")
    return url, content_type


def _check_nothing_to_await(name: str, returned: Any) -> None:
    if inspect.iscoroutine(returned):
        returned.close()
        raise TypeError(f"{name} returned a coroutine; runtimeuse_sync calls plain functions")
