"""Turns the exceptions that end a request into `error_message`s.

Threads: no state; any thread may call these functions.
"""

import traceback
from typing import Any, Dict, Optional

from .._wire.fixed_texts import CANCELLED_ERROR
from .masking import Redactor
from .workers import WorkerExit

#: The longest string in an error's metadata, in characters.
METADATA_LIMIT = 4000


class RequestFailedError(Exception):
    """A request failed; agents may raise it as well. `details` is an attribute, too.

    Args:
        error: The text that the client gets.
        details: More about the failure, for `error_details` in the error's metadata. Default: nothing.
    """

    def __init__(self, error: str, details: Optional[str] = None) -> None:
        super().__init__(error)
        self.details = details


def error_message(error: BaseException, redactor: Optional[Redactor] = None) -> Dict[str, Any]:
    """Returns the `error_message` for an exception, even if the exception's own methods fail.

    Strings are masked before they are cut: a part of a secret could not be recognised.
    """
    mask = (redactor or Redactor()).text
    if isinstance(error, WorkerExit) and error.__cause__ is not None:
        error = error.__cause__
    expected = isinstance(error, RequestFailedError)
    name = type(error).__name__
    metadata: Dict[str, Any] = {
        # The real runtime uses this name for the errors that it raises itself.
        "error_name": "Error" if expected else name,
        # The end of the stack, which names the error and where it was raised.
        "stack": mask(_stack(error))[-METADATA_LIMIT:],
    }
    cause = _attribute(error, "__cause__")
    if isinstance(cause, BaseException):
        metadata["cause"] = mask(f"{type(cause).__name__}: {text_of(cause)}")[:METADATA_LIMIT]
    details = _attribute(error, "details") if expected else None
    if details:
        metadata["error_details"] = mask(text_of(details))[-METADATA_LIMIT:]
    text = mask(text_of(error))
    if isinstance(error, KeyError) or not text:
        # The text of a `KeyError` is nothing but the key.
        text = f"{name}: {text}" if text else name
    return {"message_type": "error_message", "error": text, "metadata": metadata}


def text_of(value: object) -> str:
    """Returns `str(value)`; if that fails, the types of the value and of the failure."""
    try:
        text = str(value)
        # A plain `str`: a subclass may override anything.
        return str.__str__(text)
    except Exception as error:  # the value may be an agent's, and raise anything
        return f"{type(value).__name__}, whose text cannot be produced: {type(error).__name__}"


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
        return f"{type(error).__name__}, whose traceback cannot be produced: {type(another).__name__}"
