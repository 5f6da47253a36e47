"""Failures of a request, and how they are told to the client. Pure functions; no threads or tasks run here."""

import traceback
from typing import Any, Dict, Optional

from .._wire.fixed_texts import CANCELLED_ERROR
from .masking import Redactor
from .workers import WorkerExit

#: Where the strings of an error's metadata are cut, in characters.
METADATA_LIMIT = 4000


class RequestFailedError(Exception):
    """The runtime cannot do what a request asks; the text is what the client is told.

    Attributes:
        details: What else is known, for the error's metadata.
    """

    def __init__(self, error: str, details: Optional[str] = None) -> None:
        super().__init__(error)
        self.details = details


def error_message(error: BaseException, redactor: Optional[Redactor] = None) -> Dict[str, Any]:
    """Returns the `error_message` that tells of an exception, whatever that does when it is asked for its text.

    What is cut is masked first: the part of a secret that a cut leaves could not be recognised any more.
    """
    mask = (redactor or Redactor()).text
    if isinstance(error, WorkerExit) and error.__cause__ is not None:
        error = error.__cause__
    expected = isinstance(error, RequestFailedError)
    name = type(error).__name__
    metadata: Dict[str, Any] = {
        # The reference's name for all that goes wrong by the runtime's own rules.
        "error_name": "Error" if expected else name,
        # From the end, which names the error and the place.
        "stack": mask(_stack(error))[-METADATA_LIMIT:],
    }
    cause = _attribute(error, "__cause__")
    if isinstance(cause, BaseException):
        metadata["cause"] = mask(f"{type(cause).__name__}: {text_of(cause)}")[:METADATA_LIMIT]
    details = _attribute(error, "details") if expected else None
    if details:
        metadata["error_details"] = mask(text_of(details))[-METADATA_LIMIT:]
    return {"message_type": "error_message", "error": mask(text_of(error)) or name, "metadata": metadata}


def text_of(value: object) -> str:
    """Returns `str(value)`, or what kind of thing it is whose text cannot be made."""
    try:
        text = str(value)
        # Not one of a class that has its own idea of what a string is.
        return str.__str__(text)
    except Exception as error:  # it may be an agent's, and do anything
        return f"{type(value).__name__}, whose text cannot be made: {type(error).__name__}"


def cancelled_message() -> Dict[str, Any]:
    """Returns the terminal message of a cancelled request."""
    return {"message_type": "error_message", "error": CANCELLED_ERROR, "metadata": {}}


def _attribute(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:
        return None


def _stack(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
    except Exception as another:
        return f"{type(error).__name__}, whose traceback cannot be made: {type(another).__name__}"
