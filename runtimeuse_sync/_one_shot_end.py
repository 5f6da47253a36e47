"""The end of a one-shot's session where artifacts were asked for: late uploads, and the runtime's confirmation.

Runs in the calling thread. Nothing that was announced may be lost without a word: what could not be uploaded, or was
not confirmed, is raised; only a run that has failed raises its own error, and the rest is logged.
"""

import logging
import math
from typing import Any, List, Optional

from ._call import Call
from ._callbacks import Callbacks
from ._exchange import Exchange
from .errors import AgentRuntimeError, CancelledException, ConnectionLostError, RunTimeoutError, RuntimeUseError


def end_one_shot(
    exchange: Exchange,
    call: Call,
    callbacks: Callbacks,
    seconds: Optional[float],
    result: Any,
    error: Optional[AgentRuntimeError],
    logger: logging.Logger,
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
        Exception: what an upload callback raised.
    """
    failures: List[BaseException] = []
    try:
        confirmed = exchange.end(call, math.inf if seconds is None else call.now() + seconds, callbacks, failures)
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
        failures.insert(0, failure)
    if not failures:
        return
    problem = failures[0]
    if error is not None:
        logger.warning("late artifacts of a failed run may be missing: %s", type(problem).__name__)
        return
    if isinstance(problem, (RunTimeoutError, ConnectionLostError)):
        problem.result = result
    raise problem
