"""How a run is concluded once its terminal message has come: by its result or error, after the end of its session.

Only a one-shot that asked for artifacts has a session to end (`ending.py`). That takes seconds, so a caller that does
not want to wait so long may ask again for the result.

Threads: only the thread that reads the run.
"""

import math
from typing import Any, Optional

from .._call import Call
from .._logs import Logger
from .._wire import validation as check
from .._wire.request import Request
from ..errors import AgentRuntimeError, SessionStateError
from .callbacks import Callbacks
from .channel import Channel
from .ending import OneShotEnd
from .outcome import outcome
from .output import Output


class Conclusion:
    """The conclusion of one run.

    Args:
        request: What the run asked for.
        terminal: Its terminal message; an exception in place of a malformed one.
        channel: The run's channel.
        call: Its call.
        callbacks: Its callbacks.
        output: What it has received.
        logger: Where to log.
    """

    def __init__(
        self,
        request: Request,
        terminal: Any,
        channel: Channel,
        call: Call,
        callbacks: Callbacks,
        output: Output,
        logger: Logger,
    ) -> None:
        self._call = call
        self._result: Any = None
        self._error: Optional[AgentRuntimeError] = None
        try:
            self._result = outcome(request, terminal, call.secrets, output)
        except AgentRuntimeError as error:
            self._error = call.prepared(error)
        options = request.options
        self._end: Optional[OneShotEnd] = None
        if not channel.persistent and options.on_artifact_upload_request is not None:
            seconds = check.seconds(options.end_session_timeout)
            self._end = OneShotEnd(channel, call, callbacks, seconds, self._result, self._error, logger)
        self._ending = False

    def result(self, pause_at: float = math.inf) -> Any:
        """Returns the run's result, once its session has ended; `None` if that takes longer than until `pause_at`.

        Args:
            pause_at: When to return, on the call's clock. This may be called again then.

        Raises:
            AgentRuntimeError: The run has failed.
            SessionStateError: A callback of the session's end asks.
            Exception: The end of the session raised it (`OneShotEnd.wait`).
        """
        if self._end is not None:
            if self._ending:
                text = "a run cannot be read from inside an upload callback once its session is ending"
                raise SessionStateError(text, self._call.source_id)
            self._ending = True
            try:
                if not self._end.wait(pause_at):
                    return None
            finally:
                self._ending = False
            self._end = None
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # Its traceback references this frame: drop it to avoid a reference cycle.
        return self._result
