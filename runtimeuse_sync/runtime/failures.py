"""Failures of a request, and how they are told to the client. Pure functions; no threads or tasks run here."""

import traceback
from typing import Any, Dict, Optional

from .redaction import Redactor
from .workers import WorkerExit

#: Where the strings of an error's metadata are cut, in characters.
METADATA_LIMIT = 4000

CANCELLED = "Request cancelled"
BUSY = "Received request while another is in flight!"


class RequestFailedError(Exception):
    """The runtime cannot do what a request asks; the text is what the client is told.

    Attributes:
        details: What else is known, for the error's metadata.
    """

    def __init__(self, error: str, details: Optional[str] = None) -> None:
        super().__init__(error)
        self.details = details


def error_message(error: BaseException, redactor: Optional[Redactor] = None) -> Dict[str, Any]:
    """Returns the `error_message` that tells of an exception.

    What is cut is masked first: the part of a secret that a cut leaves could not be recognised any more.
    """
    mask = (redactor or Redactor()).text
    if isinstance(error, WorkerExit) and error.__cause__ is not None:
        error = error.__cause__
    expected = isinstance(error, RequestFailedError)
    metadata: Dict[str, Any] = {
        # The reference's name for all that goes wrong by the runtime's own rules.
        "error_name": "Error" if expected else type(error).__name__,
        # From the end, which names the error and the place.
        "stack": mask(_stack(error))[-METADATA_LIMIT:],
    }
    cause = error.__cause__
    if cause is not None:
        metadata["cause"] = mask(f"{type(cause).__name__}: {cause}")[:METADATA_LIMIT]
    details = getattr(error, "details", None)
    if isinstance(error, RequestFailedError) and details:
        metadata["error_details"] = mask(details)[-METADATA_LIMIT:]
    return {"message_type": "error_message", "error": mask(str(error)) or type(error).__name__, "metadata": metadata}


def cancelled_message() -> Dict[str, Any]:
    """Returns the terminal message of a cancelled request."""
    return {"message_type": "error_message", "error": CANCELLED, "metadata": {}}


def _stack(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
