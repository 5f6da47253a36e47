"""How a connection ends, and the public error for that.

`Ending` lists the ways in which a connection ends. Its thread leaves a `ConnectionClosed` in the inbox, which says why
it ended; `connection_error` makes the error of it that users see.

Threads: the connection's thread makes the `ConnectionClosed`; the thread that takes from the inbox makes the error.
"""

import enum
from typing import List, Optional

from .._wire.redaction import in_any_form, scrub
from ..errors import ConnectionLostError, ProtocolError, RuntimeConnectionError, RuntimeUseError


class Ending(enum.Enum):
    """The ways in which a connection ends."""

    NEVER_OPENED = "it could not be opened, or was closed before it was open"
    CLOSED = "either side closed it as the rules say"
    LOST = "it broke, the peer vanished or fell silent, or the connection's thread failed"
    PROTOCOL_ERROR = "the peer broke the rules"


class ConnectionClosed(Exception):
    """Why a connection is closed. Never raised to callers: they get the `connection_error` for it.

    Attributes:
        ending: How it ended.
        status: The HTTP status of a refused handshake.
        retry_after: The seconds that the server asks to be left alone for (`Retry-After`).
        failure: What the runtime said when it closed the connection for an error of its own; `None` if it did not.
        cause: The exception behind it, such as one that a custom transport raised.
    """

    def __init__(
        self,
        reason: str,
        ending: Ending,
        *,
        status: Optional[int] = None,
        retry_after: Optional[float] = None,
        failure: Optional[str] = None,
        cause: Optional[BaseException] = None,
    ) -> None:
        super().__init__(reason)
        self.ending = ending
        self.status = status
        self.retry_after = retry_after
        self.failure = failure
        self.cause = cause


class NotATransport(TypeError):
    """A custom transport did not return a connection. Callers get its text as a plain `TypeError`."""


def connection_error(
    closed: ConnectionClosed, origin: str, kind: str, secrets: List[str], *, unsent: bool = False, note: str = ""
) -> Exception:
    """Returns the public error for a closed connection.

    Args:
        closed: Why it is closed.
        origin: Where it led to, without secrets.
        kind: What the caller needed it for, such as "query".
        secrets: What must not appear in the error.
        unsent: Whether it is certain that nothing of the caller's request was sent. The error says so.
        note: What else the text says at its end.

    Returns:
        A `RuntimeConnectionError`, `ProtocolError` or `ConnectionLostError`; a `TypeError` for `NotATransport`.
    """
    if isinstance(closed.cause, NotATransport):
        return TypeError(str(closed.cause))
    reason = scrub(str(closed), in_any_form(secrets))
    details = {"in_flight": kind, "sent": False} if unsent else {"in_flight": kind}
    end = f"{'; nothing was sent' if unsent else ''}{note}"
    error: RuntimeUseError
    if closed.ending is Ending.NEVER_OPENED:
        error = RuntimeConnectionError(f"could not connect to {origin}: {reason}", status=closed.status)
    elif closed.ending is Ending.PROTOCOL_ERROR:
        error = ProtocolError(f"{reason}{end}", details)
    else:
        error = ConnectionLostError(f"the connection to {origin} was lost ({kind}): {reason}{end}", details)
    error.__cause__ = _without_secrets(closed.cause, secrets)
    return error


def _without_secrets(cause: Optional[BaseException], secrets: List[str]) -> Optional[BaseException]:
    """Returns the cause of an error; `None` if its traceback, or that of an exception chained to it, shows a secret."""
    forms = in_any_form(secrets)
    seen: List[BaseException] = []
    waiting = [cause]
    while waiting:
        error = waiting.pop()
        if error is None or any(error is known for known in seen):
            continue
        seen.append(error)
        try:
            texts = [str(error), repr(error), *getattr(error, "__notes__", ())]
            inner = [each for each in getattr(error, "exceptions", ()) if isinstance(each, BaseException)]
        except Exception:
            return None  # Its text is unknown, so it may hold a secret.
        if any(scrub(str(text), forms) != text for text in texts):
            return None
        waiting += [error.__cause__, error.__context__, *inner]
    return cause
