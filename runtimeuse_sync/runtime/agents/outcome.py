"""Encodes how an agent's run ended: its result, or the error message for its exception.

Results and exceptions are the agent's objects. The agent's code produces their text, fields and JSON; it may block,
raise anything, or change them in the meantime. So they are encoded once, here, in the thread of a user's agent, where
only agents are affected. The rest of the runtime gets bytes.

Threads: runs in the agent's thread, or on the agents' event loop; for built-in agents, on the runtime's event loop.
"""

from typing import Any, Dict

from ..failures import RequestFailedError, error_message
from ..masking import RedactingLogger, Redactor
from ..outbox import ClientGoneError, encode
from .cancellation import Cancelled


class AgentFailedError(Exception):
    """An agent ended without a result.

    Attributes:
        message: The encoded `error_message`.
    """

    def __init__(self, message: bytes) -> None:
        super().__init__("an agent failed")
        self.message = message


class OutcomeEncoder:
    """Encodes the outcome of one agent's run.

    Args:
        cancelled: The run's cancel flag.
        redactor: Masks the request's secrets.
        log: Logs failures.
    """

    def __init__(self, cancelled: Cancelled, redactor: Redactor, log: RedactingLogger) -> None:
        self._cancelled = cancelled
        self._redactor = redactor
        self._log = log

    def result(self, message: Dict[str, Any]) -> bytes:
        """Masks and encodes a message.

        Raises:
            Exception: the message cannot be encoded, for example because JSON cannot hold a value of it.
        """
        return encode(self._redactor.message(message))

    def failure(self, error: BaseException) -> AgentFailedError:
        """Returns the failure that reports an agent's exception; never raises."""
        try:
            self._log_failure(error)
        except BaseException:  # raised by the agent's exception, as logging handlers do not raise
            self._log.debug("An agent's failure could not be logged")
        try:
            return AgentFailedError(self.result(error_message(error, self._redactor)))
        except BaseException as another:  # raised by the agent's exception as well
            # Only the types can be trusted now.
            text = f"{type(error).__name__}, which cannot be reported: {type(another).__name__}"
            return AgentFailedError(self.result(error_message(RequestFailedError(text), self._redactor)))

    def _log_failure(self, error: BaseException) -> None:
        if self._cancelled.is_set():
            self._log.debug("A cancelled request ended with an exception", exc_info=error)
        elif not isinstance(error, (RequestFailedError, ClientGoneError)):
            self._log.info("A request failed", exc_info=error)
