"""Calling the user's callbacks: in the calling thread, or, where a callback has a timeout, in a helper thread.

Threads: everything here runs in the calling thread. A callback with a timeout runs in a thread of its own, named
`runtimeuse-callback-N`, with the caller's context variables copied; the caller waits for it, and can be aborted and
timed out meanwhile. A callback that outlives its time cannot be ended: its (daemon) thread goes on until it returns,
and what it returns or raises then is dropped.
"""

import contextvars
import functools
import inspect
import itertools
import threading
from typing import Any, Callable, Dict, Generic, List, Optional, Tuple, TypeVar

from .._call import Call
from .._interrupts import raised_by_a_signal_handler
from .._threads import Start, new_thread
from .._wire import codec
from .._wire.redaction import scrub_value
from .._wire.urls import url_secrets
from ..errors import AgentRuntimeError, ArtifactUploadError
from ..messages import ArtifactUploadRequestMessageInterface, AssistantMessageInterface, CommandOutputMessageInterface
from ..options import Options
from .turns import Ticket

_numbers = itertools.count(1)

#: How many secrets of a call's upload URLs are masked. A runtime may announce files without end.
MAX_URL_SECRETS = 10_000

_T = TypeVar("_T")


class Callbacks:
    """The callbacks of one call."""

    def __init__(self, options: Options, call: Call, ticket: Ticket) -> None:
        self._options = options
        self._call = call
        self._ticket = ticket
        # The secrets of upload URLs, the oldest first; and those of the call itself, before the first of these.
        self._of_urls: Dict[str, None] = {}
        self._of_the_call: Optional[List[str]] = None

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
            TypeError: it returned something else than an `ArtifactUploadResult`, or an object like one.
        """
        if options is None:
            raise self._call.told(ArtifactUploadError("there is no on_artifact_upload_request", [request.filepath]))
        callback = options.on_artifact_upload_request
        assert callback is not None

        def ask() -> Tuple[str, str]:
            try:
                return _checked_upload_result(callback(request))
            except BaseException as error:
                # What interrupts it is not its own. Of an exception that another thread sets, nothing can tell.
                if not raised_by_a_signal_handler(error):
                    self._call.owned(error)
                raise

        url, content_type = self._within(
            "on_artifact_upload_request",
            "artifact_upload_callback_timeout",
            options.artifact_upload_callback_timeout,
            ask,
            {"filename": request.filename, "filepath": request.filepath},
        )
        # The runtime may repeat the URL in an error.
        self._remember(url_secrets(url))
        return codec.encode(codec.encode_artifact_response(request, url, content_type))

    def _remember(self, secrets: List[str]) -> None:
        """Has secrets of upload URLs masked from now on; of very many, the latest."""
        known = self._of_urls
        new = [secret for secret in dict.fromkeys(secrets) if secret not in known]
        if not new:
            return
        if self._of_the_call is None:
            self._of_the_call = self._call.secrets
        known.update(dict.fromkeys(new))
        for secret in list(itertools.islice(known, max(0, len(known) - MAX_URL_SECRETS))):
            del known[secret]
        self._call.secrets = [*self._of_the_call, *known]

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
                raise self._call.told(AgentRuntimeError(text, {"timeout_type": option, "timeout": seconds, **shown}))
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
            return call.told(AgentRuntimeError(f"{name} could not be called with a timeout: {why}"))

        thread = new_thread(context.run, f"runtimeuse-callback-{next(_numbers)}", self._run, callback, call, ticket)
        Start(thread, functools.partial(self._end, call), failure).begin()

    def _run(self, callback: Callable[[], _T], call: Call, ticket: Ticket) -> None:
        ident = threading.get_ident()
        ticket.threads.add(ident)
        try:
            self._returned = callback()
        except BaseException as error:
            self._error = error  # Raised again in the calling thread.
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


def _checked_upload_result(result: Any) -> Tuple[str, str]:
    """Returns URL and content type of what an upload callback returned: whatever looks like an `ArtifactUploadResult`.

    Raises:
        TypeError: it does not.
    """
    _check_nothing_to_await("on_artifact_upload_request", result)
    # Each is read once: it may be a property.
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
    if returned is not None and inspect.iscoroutine(returned):
        returned.close()
        raise TypeError(f"{name} returned a coroutine; runtimeuse_sync calls plain functions")
