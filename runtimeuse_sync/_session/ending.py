"""The end of a session: it is announced, late uploads are served, and the runtime confirms.

Runs in the calling thread, which has the turn. Nothing that was announced may be lost without a word: what could not be
uploaded, or was not confirmed, is told to who ends the session (`session.py`); of a one-shot, whose session ends with
its only run, it is raised by the run, unless that has failed by itself: then it is logged. What interrupts the end
comes out in any case: held back is only what the call has raised by itself, or an upload callback (`Call.is_own`).

A runtime waits for answers only so long (PROTOCOL.md, "Artifacts"), then it confirms all the same. So what has come is
looked at before and after each callback: an answer that comes after the confirmation is one for nobody.
"""

import math
from collections import deque
from typing import Any, Deque, List, Optional, Sequence, Tuple

from .._call import Call
from .._connection.base import ConnectionClosed
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

#: How many answers are remembered until it is known that the runtime has waited for them.
_LATELY = 10_000

#: How many paths the text of an error shows; its `filepaths` has all.
_SHOWN = 20

_END_SESSION = codec.encode(codec.END_SESSION)


def end_session(
    channel: Channel, call: Call, until: float, callbacks: Callbacks, failures: List[BaseException]
) -> bool:
    """Announces the end of the session, serves late uploads, and waits until the runtime confirms.

    Args:
        channel: The session.
        call: The call that waits, and has the turn.
        until: When to give up, on the call's clock.
        callbacks: What serves late uploads.
        failures: Gets what their callbacks raise (the others are served all the same), and an `ArtifactUploadError` for
            those that the runtime did not wait for.

    Returns:
        Whether the runtime has confirmed in time.

    Raises:
        CancelledException, RunTimeoutError: the call was aborted, or its deadline passed.
        ArtifactUploadError: the runtime has given up uploads, and says so instead of confirming.
        ConnectionLostError, ProtocolError: the connection is over, and the runtime has not confirmed.
    """
    try:
        return _until_confirmed(channel, call, until, callbacks, failures)
    except ConnectionLostError as lost:
        closed = channel.connection.inbox.closed
        failure = closed.failure if isinstance(closed, ConnectionClosed) else None
        if failure is None or not call.is_own(lost):
            raise
        raise call.told(_given_up(channel, call, failure)) from lost


def _until_confirmed(
    channel: Channel, call: Call, until: float, callbacks: Callbacks, failures: List[BaseException]
) -> bool:
    uploads = channel.uploads
    # What was answered lately, and what the inbox had got by then: an answer may come after a confirmation in there.
    answered: Deque[Tuple[int, str]] = deque(maxlen=_LATELY)
    channel.protocol.end()
    channel.connection.submit(_END_SESSION)
    uploads.retry_failed()
    while True:
        while uploads.kept:
            channel.wait_until_answers_are_taken(call, until)
            if not _waits_for_answers(channel, call):
                break
            if call.now() >= until:
                return False
            try:
                response = uploads.ask_next(callbacks)
            except Exception as failure:
                # The callback's own, which may be of any kind; unless it is the call that has ended meanwhile.
                if not call.is_own(failure):
                    raise
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
            return True
        batch = channel.next_batch(call, min(until, uploads.worth_waiting_until(call.now())))
        if batch is None:
            return False
        channel.use_next(batch)


def _waits_for_answers(channel: Channel, call: Call) -> bool:
    """Returns whether the runtime has not confirmed the end yet; raises as `end_session`."""
    call.check()
    channel.use_all_queued(as_far_as_there_is_room=True)
    if channel.protocol.state is State.ENDED:
        return False
    channel.check_connection(call)
    return True


def not_waited_for(channel: Channel, call: Call, too_late: Sequence[str] = ()) -> ArtifactUploadError:
    """Gives up the upload requests that have not been answered; returns what is to be raised for them.

    Args:
        channel: The session.
        call: The call that has the turn.
        too_late: The paths of those that have been answered too late.
    """
    paths = [*too_late, *channel.uploads.give_up()]
    shown = listed(paths, call.secrets)
    text = f"the runtime did not wait until {len(paths)} artifact(s) could be uploaded: {shown}"
    return call.told(ArtifactUploadError(text, paths))


def listed(paths: List[str], secrets: List[str]) -> str:
    """Returns paths as an error's text shows them: the first few, without secrets."""
    more = f", and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return scrub(", ".join(paths[:_SHOWN]), secrets) + more


def _given_up(channel: Channel, call: Call, failure: str) -> ArtifactUploadError:
    """Returns what is to be raised where the runtime ended the session by an error, with what it said of it."""
    paths = channel.uploads.give_up()
    why = scrub(failure, in_any_form(call.secrets)) or "it closed the connection for an error of its own"
    return ArtifactUploadError(f"the runtime did not confirm the end of the session: {why}", paths)


def end_one_shot(
    channel: Channel,
    call: Call,
    callbacks: Callbacks,
    seconds: Optional[float],
    result: Any,
    error: Optional[AgentRuntimeError],
    logger: Logger,
) -> None:
    """Ends the session of a run whose terminal has come.

    Args:
        channel: The session.
        call: The run's call.
        callbacks: Its callbacks.
        seconds: For how long to wait for the confirmation; `None` is no limit.
        result: The run's result, which a timeout or a loss takes along.
        error: How it has failed, if it has.
        logger: Where to log.

    Raises:
        CancelledException: it was aborted meanwhile.
        RunTimeoutError: the confirmation did not come in time.
        ConnectionLostError, ProtocolError: it will never come.
        ArtifactUploadError: it came before all callbacks had answered, or the runtime could not upload all files.
        Exception: what an upload callback raised.
    """
    failures: List[BaseException] = []
    try:
        until = math.inf if seconds is None else call.now() + seconds
        confirmed = end_session(channel, call, until, callbacks, failures)
        # It does not confirm where an upload has failed.
        if not confirmed and not failures:
            failures.append(
                call.told(
                    RunTimeoutError(
                        f"the runtime did not confirm the end of the session within {seconds:g} s; "
                        "artifacts written late may be missing (end_session_timeout)"
                    )
                )
            )
    except CancelledException:
        raise
    except RuntimeUseError as failure:
        if not call.is_own(failure):
            raise
        # What the runtime has given up may be for want of an answer: what the callback raised comes first then.
        failures.insert(len(failures) if isinstance(failure, ArtifactUploadError) else 0, failure)
    if not failures:
        return
    problem = failures[0]
    if error is not None:
        logger.warning("late artifacts of a failed run may be missing: %s", type(problem).__name__)
        return
    if isinstance(problem, (ArtifactUploadError, RunTimeoutError, ConnectionLostError)):
        carry(problem, result=result)
    try:
        raise problem
    finally:
        # Its traceback knows this frame: they would keep each other, and the result.
        del problem, failures
