"""How an agent's end is told to the client. Used in the agent's thread; for built-in agents, on the event loop.

Results and exceptions are the agent's objects: their texts, their fields and their JSON are made by code that may
block, raise anything, or change meanwhile. So all of it is done here, once, where it holds up or ends nothing but the
agent's run; the runtime gets bytes.
"""

from typing import Any, Dict

from ..failures import RequestFailedError, error_message
from ..masking import RedactingLogger, Redactor
from ..outbox import ClientGoneError, encode
from .cancellation import Cancelled


class AgentFailedError(Exception):
    """An agent did not come to a result.

    Attributes:
        told: The text of the `error_message` that says so.
    """

    def __init__(self, told: bytes) -> None:
        super().__init__("an agent failed")
        self.told = told


class Telling:
    """Makes the terminal message of one agent's run.

    Args:
        cancelled: Whether the run was cancelled.
        redactor: Masks what is told.
        log: Takes note of failures.
    """

    def __init__(self, cancelled: Cancelled, redactor: Redactor, log: RedactingLogger) -> None:
        self._cancelled = cancelled
        self._redactor = redactor
        self._log = log

    def result(self, message: Dict[str, Any]) -> bytes:
        """Returns a message as it is sent: masked, as JSON.

        Raises:
            Exception: whatever stands in the way, such as what JSON cannot hold.
        """
        return encode(self._redactor.message(message))

    def failure(self, error: BaseException) -> AgentFailedError:
        """Returns what tells of an agent's exception; never raises one."""
        try:
            self._note(error)
        except BaseException:  # as a log's handlers do not raise, it is the agent's
            self._log.debug("An agent's failure could not be logged")
        try:
            return AgentFailedError(self.result(error_message(error, self._redactor)))
        except BaseException as another:  # so is this
            # Nothing but types, which are all that can still be trusted.
            name = type(error).__name__
            said = f"{name}, which cannot be told: {type(another).__name__}"
            return AgentFailedError(self.result(error_message(RequestFailedError(said), self._redactor)))

    def _note(self, error: BaseException) -> None:
        if self._cancelled.is_set():
            self._log.debug("A cancelled request ended with an exception", exc_info=error)
        elif not isinstance(error, (RequestFailedError, ClientGoneError)):
            self._log.info("A request failed", exc_info=error)
