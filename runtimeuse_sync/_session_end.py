"""The end of a session: it is announced, late uploads are served, and the runtime confirms.

Runs in the calling thread, which has the turn. Nothing that was announced may be lost without a word: what could not be
uploaded, or was not confirmed, is told to who ends the session (`session.py`); of a one-shot, whose session ends with
its only run, it is raised by the run, unless that has failed by itself: then it is logged. What interrupts the end
comes out in any case: held back is only what the call has raised by itself, or an upload callback (`Call.is_own`).

A runtime waits for answers only so long (PROTOCOL.md, "Artifacts"), then it confirms all the same. So what has come is
looked at before and after each callback: an answer that comes after the confirmation is one for nobody.
"""

import math
from typing import Any, List, Optional

from . import _codec
from ._call import Call
from ._callbacks import Callbacks
from ._exchange import Exchange
from ._logs import Logger
from ._protocol import State
from ._redaction import scrub
from .errors import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    ConnectionLostError,
    RunTimeoutError,
    RuntimeUseError,
)

_END_SESSION = _codec.encode(_codec.END_SESSION)


def end_session(
    exchange: Exchange, call: Call, until: float, callbacks: Callbacks, failures: List[BaseException]
) -> bool:
    """Announces the end of the session, serves late uploads, and waits until the runtime confirms.

    Args:
        exchange: The session.
        call: The call that waits, and has the turn.
        until: When to give up, on the call's clock.
        callbacks: What serves late uploads.
        failures: Gets what their callbacks raise (the others are served all the same), and an `ArtifactUploadError` for
            those that the runtime did not wait for.

    Returns:
        Whether the runtime has confirmed in time.

    Raises:
        CancelledException, RunTimeoutError: the call was aborted, or its deadline passed.
        ConnectionLostError, ProtocolError: the connection is over, and the runtime has not confirmed.
    """
    uploads = exchange.uploads
    exchange.protocol.end()
    exchange.connection.submit(_END_SESSION)
    uploads.retry_failed()
    while True:
        while uploads.kept:
            if not _waits_for_answers(exchange, call):
                failures.append(not_waited_for(exchange, call))
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
            if _waits_for_answers(exchange, call):
                uploads.answer_next(response, call)
        if exchange.protocol.state is State.ENDED:
            return True
        batch = exchange.next_batch(call, min(until, uploads.worth_waiting_until(call.now())))
        if batch is None:
            return False
        exchange.use_next(batch)


def _waits_for_answers(exchange: Exchange, call: Call) -> bool:
    """Returns whether the runtime has not confirmed the end yet; raises as `end_session`."""
    call.check()
    exchange.use_all_queued()
    if exchange.protocol.state is State.ENDED:
        return False
    exchange.check_connection(call)
    return True


def not_waited_for(exchange: Exchange, call: Call) -> ArtifactUploadError:
    """Gives up the upload requests that have not been answered; returns what is to be raised for them."""
    paths = exchange.uploads.give_up()
    shown = scrub(", ".join(paths), call.secrets)
    return ArtifactUploadError(
        f"the runtime did not wait until {len(paths)} artifact(s) could be uploaded: {shown}", paths
    )


def end_one_shot(
    exchange: Exchange,
    call: Call,
    callbacks: Callbacks,
    seconds: Optional[float],
    result: Any,
    error: Optional[AgentRuntimeError],
    logger: Logger,
) -> None:
    """Ends the session of a run whose terminal has come.

    Args:
        exchange: The session.
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
        ArtifactUploadError: it came before all callbacks had answered.
        Exception: what an upload callback raised.
    """
    failures: List[BaseException] = []
    try:
        until = math.inf if seconds is None else call.now() + seconds
        confirmed = end_session(exchange, call, until, callbacks, failures)
        # It does not confirm where an upload has failed.
        if not confirmed and not failures:
            failures.append(
                RunTimeoutError(
                    f"the runtime did not confirm the end of the session within {seconds:g} s; "
                    "artifacts written late may be missing"
                )
            )
    except CancelledException:
        raise
    except RuntimeUseError as failure:
        if not call.is_own(failure):
            raise
        failures.insert(0, failure)
    if not failures:
        return
    problem = failures[0]
    if error is not None:
        logger.warning("late artifacts of a failed run may be missing: %s", type(problem).__name__)
        return
    if isinstance(problem, (ArtifactUploadError, RunTimeoutError, ConnectionLostError)):
        problem.result = result
    try:
        raise problem
    finally:
        # Its traceback knows this frame: they would keep each other, and the result.
        del problem, failures
