"""The end of a session: announces it, serves late uploads and waits until the runtime confirms.

A caller that does not want to wait so long may come back: `Progress` keeps what has been done.

Nothing that the runtime announced may be lost silently. `session.py` raises an error for what could not be uploaded or
was not confirmed. The session of a one-shot ends with its only run, so the run raises that error; it only logs it if it
has failed itself. An interrupt is always raised: only errors that the call or an upload callback raised are held back
(`Call.is_own`).

A runtime waits for answers for a limited time (PROTOCOL.md, "Artifacts") and then confirms anyway. An answer after the
confirmation has no effect. So received messages are used before and after each callback.

Threads: the caller's thread, which has the turn.
"""

import functools
import math
from collections import deque
from typing import Any, Deque, List, Optional, Sequence, Tuple

from .._call import Call
from .._logs import Logger
from .._wire import codec
from .._wire.redaction import in_any_form, scrub
from ..errors import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    ConnectionLostError,
    RunTimeoutError,
    RuntimeUseError,
    carry,
)
from .callbacks import Callbacks
from .channel import Channel
from .protocol import State

#: The most answers that are remembered until it is known that the runtime waited for them.
_MAX_RECENT_ANSWERS = 10_000

#: The most paths in the text of an error. Its `filepaths` has all of them.
_MAX_SHOWN = 20

_END_SESSION = codec.encode(codec.END_SESSION)


class Progress:
    """What has been done towards the end of one session.

    Attributes:
        announced: Whether the end has been announced.
        answered: The last answers, and how much the inbox had received by then: an answer is late if a confirmation
            came before.
        quiet_until: When to give up if nothing comes; `None` if something has come since that was known.
    """

    def __init__(self) -> None:
        self.announced = False
        self.answered: Deque[Tuple[int, str]] = deque(maxlen=_MAX_RECENT_ANSWERS)
        self.quiet_until: Optional[float] = None


def end_session(
    channel: Channel,
    call: Call,
    until: float,
    callbacks: Callbacks,
    failures: List[BaseException],
    progress: Optional[Progress] = None,
    pause_at: float = math.inf,
) -> Optional[bool]:
    """Announces the end of the session, serves late uploads, and waits until the runtime confirms.

    Args:
        channel: The session's channel.
        call: The call that has the turn and waits.
        until: When to give up, on the call's clock.
        callbacks: Serve late uploads, and are told that the runtime has confirmed.
        failures: Receives the exceptions of upload callbacks (other uploads are still served), and an
            `ArtifactUploadError` for uploads that the runtime did not wait for.
        progress: What earlier calls of this have done, for a wait in several goes.
        pause_at: When to return at the latest, on the call's clock, so that this can be called again.

    Returns:
        Whether the runtime confirmed in time; `None` if that is open at `pause_at`.

    Raises:
        CancelledException: The call was aborted.
        RunTimeoutError: The call's deadline passed.
        ArtifactUploadError: The runtime gave up uploads and reported that instead of confirming.
        ConnectionLostError: The connection was lost before the runtime confirmed.
        ProtocolError: The runtime violated the protocol before it confirmed.
        Exception: Whatever `cancel_when` raises.
    """
    try:
        return _until_confirmed(channel, call, until, callbacks, failures, progress or Progress(), pause_at)
    except ConnectionLostError as lost:
        closed = channel.connection.inbox.closed
        failure = None if closed is None else closed.failure
        if failure is None or not call.is_own(lost):
            raise
        raise call.prepared(_given_up(channel, call, failure)) from lost


def _until_confirmed(
    channel: Channel,
    call: Call,
    until: float,
    callbacks: Callbacks,
    failures: List[BaseException],
    progress: Progress,
    pause_at: float,
) -> Optional[bool]:
    uploads, answered = channel.uploads, progress.answered
    if not progress.announced:
        progress.announced = True
        channel.protocol.end()
        channel.connection.submit(_END_SESSION)
        uploads.retry_failed()
    has_served = False
    while True:
        while uploads.kept:
            are_taken = channel.wait_until_answers_are_taken(call, min(until, pause_at))
            if not _waits_for_answers(channel, call):
                break
            if call.now() >= until:
                return False
            if not are_taken or (has_served and call.now() >= pause_at):
                return None
            has_served = True
            try:
                response = uploads.ask_next(callbacks)
            except Exception as failure:
                if not call.is_own(failure):
                    raise
                # The callback's exception, of any class, unless the call has ended meanwhile.
                call.check()
                failures.append(failure)
                continue
            if _waits_for_answers(channel, call):
                answered.append((channel.connection.inbox.put_bytes, uploads.kept[0].filepath))
                uploads.answer_next(response, call)
        if channel.protocol.state is State.ENDED:
            too_late = [path for put_bytes, path in answered if put_bytes >= channel.confirmed_in]
            if too_late or uploads.kept:
                failures.append(not_waited_for(channel, call, too_late))
            _tell_callbacks(channel, call, callbacks, failures)
            return True
        if progress.quiet_until is None:
            progress.quiet_until = min(until, uploads.worth_waiting_until(call.now()))
        batch = channel.next_batch(call, min(progress.quiet_until, pause_at))
        if batch is None:
            call.ask()
            return False if call.now() >= progress.quiet_until else None
        progress.quiet_until = None
        channel.use_next(batch)


def _tell_callbacks(channel: Channel, call: Call, callbacks: Callbacks, failures: List[BaseException]) -> None:
    """Tells the upload callbacks that ask for it that the runtime is done; adds what they raise to `failures`."""
    for options, requests in channel.uploads.answered.values():
        try:
            callbacks.tell_end(options, list(requests.values()))
        except Exception as failure:
            if not call.is_own(failure):
                raise
            call.check()
            failures.append(failure)


def _waits_for_answers(channel: Channel, call: Call) -> bool:
    """Returns whether the runtime has not confirmed the end yet; raises if the call or the connection has ended."""
    call.check()
    call.ask()
    channel.use_all_queued(as_far_as_there_is_room=True)
    if channel.protocol.state is State.ENDED:
        return False
    channel.check_connection(call)
    return True


def not_waited_for(channel: Channel, call: Call, too_late: Sequence[str] = ()) -> ArtifactUploadError:
    """Gives up the unanswered upload requests; returns the error to raise for them.

    Args:
        channel: The session's channel.
        call: The call that has the turn.
        too_late: The paths of requests that were answered too late.
    """
    paths = [*too_late, *channel.uploads.give_up()]
    shown = listed(paths, call.secrets)
    text = f"the runtime did not wait until {len(paths)} artifact(s) could be uploaded: {shown}"
    return call.prepared(ArtifactUploadError(text, paths))


def listed(paths: List[str], secrets: List[str]) -> str:
    """Returns paths for the text of an error: the first few, without secrets."""
    more = f", and {len(paths) - _MAX_SHOWN} more" if len(paths) > _MAX_SHOWN else ""
    return scrub(", ".join(paths[:_MAX_SHOWN]), secrets) + more


def _given_up(channel: Channel, call: Call, failure: str) -> ArtifactUploadError:
    """Returns the error to raise if the runtime closed the session with an error; `failure` is the runtime's text."""
    paths = channel.uploads.give_up()
    why = scrub(failure, in_any_form(call.secrets)) or "it closed the connection because of an internal error"
    return ArtifactUploadError(f"the runtime did not confirm the end of the session: {why}", paths)


class OneShotEnd:
    """The end of the session of a one-shot run that has received its terminal message.

    Args:
        channel: The run's channel.
        call: The run's call.
        callbacks: Its callbacks.
        seconds: How long to wait for the confirmation, in seconds; `None` is no limit.
        result: The run's result. The errors for a timeout, a lost connection and lost uploads carry it.
        error: The error that the run raises, if it has failed.
        logger: Where to log.
    """

    def __init__(
        self,
        channel: Channel,
        call: Call,
        callbacks: Callbacks,
        seconds: Optional[float],
        result: Any,
        error: Optional[AgentRuntimeError],
        logger: Logger,
    ) -> None:
        self._call = call
        self._seconds = seconds
        self._result = result
        self._has_failed = error is not None
        self._logger = logger
        self._failures: List[BaseException] = []
        until = math.inf if seconds is None else call.now() + seconds
        self._end = functools.partial(end_session, channel, call, until, callbacks, self._failures, Progress())

    def wait(self, pause_at: float = math.inf) -> bool:
        """Returns whether the session has ended; if not at `pause_at` (on the call's clock), this may be called again.

        Raises:
            CancelledException: The run was aborted meanwhile.
            RunTimeoutError: The runtime did not confirm in time.
            ConnectionLostError: The connection was lost before the runtime confirmed.
            ProtocolError: The runtime violated the protocol before it confirmed.
            ArtifactUploadError: The runtime confirmed before all requests were answered, or could not upload all files.
            Exception: Whatever an upload callback or `cancel_when` raised.
        """
        failures = self._failures
        try:
            confirmed = self._end(pause_at)
            if confirmed is None:
                return False
            # After a failed upload the runtime does not confirm: that failure is the reason.
            if not confirmed and not failures:
                failures.append(
                    self._call.prepared(
                        RunTimeoutError(
                            f"the runtime did not confirm the end of the session within {self._seconds:g} s; "
                            "artifacts written late may be missing (end_session_timeout)"
                        )
                    )
                )
        except CancelledException:
            raise
        except RuntimeUseError as failure:
            if not self._call.is_own(failure):
                raise
            # The runtime may have given up because it got no answer: the callback's exception comes first then.
            failures.insert(len(failures) if isinstance(failure, ArtifactUploadError) else 0, failure)
        if not failures:
            return True
        problem = failures[0]
        # Tracebacks reference frames of this object: drop the exceptions to avoid a reference cycle, which keeps the
        # result.
        failures.clear()
        try:
            if self._has_failed:
                kind = type(problem).__name__
                self._logger.warning("late artifacts of a failed run may be missing: %s", kind)
                return True
            if isinstance(problem, (ArtifactUploadError, RunTimeoutError, ConnectionLostError)):
                carry(problem, result=self._result)
            raise problem
        finally:
            del problem
