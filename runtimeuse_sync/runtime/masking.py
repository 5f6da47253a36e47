"""Masks the secrets of a request in everything that leaves the runtime: messages, streams of output, and its own logs.

Pure objects without threads or tasks. Everything is defined by `StreamRedactor`, so a text masked whole and the same
text masked in pieces give the same: every place where a secret stands is masked, places that overlap as one.
"""

import json
import logging
import sys
import traceback
from typing import Any, Dict, FrozenSet, Iterable, Optional, Tuple

from .._wire.redaction import MASK, mask_secrets

#: Fields whose values are the protocol's own words.
_STRUCTURAL: FrozenSet[str] = frozenset(("message_type", "type", "stream"))
#: Fields below which agents choose the names: there the names are masked too.
_FREE_FORM: FrozenSet[str] = frozenset(("metadata", "structured_output"))
#: Names that the runtime itself puts into `metadata`.
_METADATA_NAMES: FrozenSet[str] = frozenset(("error_name", "stack", "cause", "error_details"))
#: How much of a text is masked at a time, in characters.
_PIECE = 64 * 1024
#: What stands between a call and `logging` in the call stack; from Python 3.11 on, `logging` does not count its own.
_OWN_FRAMES = 1 if sys.version_info >= (3, 11) else 2


class Redactor:
    """Masks a fixed set of secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets: Tuple[str, ...] = tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True))
        # What is a secret as a text is one as a number, too, however either is written.
        self._numbers = frozenset(number for number in map(_number, self.secrets) if number is not None)

    def text(self, text: str) -> str:
        """Returns the text with every secret masked."""
        if not self.secrets:
            return text
        stream = StreamRedactor(self)
        # In pieces, as every occurrence is noted down: a long text may hold a short secret very often.
        masked = [stream.feed(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)]
        return "".join([*masked, stream.flush()])

    def number(self, number: float) -> Any:
        """Returns a number that is not the protocol's own as it is, or the mask where it is or holds a secret.

        `True`, `False` and `None` never do: JSON has them as words of its own.
        """
        if not self.secrets or isinstance(number, bool):
            return number
        text = json.dumps(number)
        return MASK if number in self._numbers or self.text(text) != text else number

    def message(self, message: Dict[str, Any]) -> Dict[str, Any]:
        """Returns a copy of an outgoing message with every secret masked in every string that is not structural."""
        if not self.secrets:
            return message
        masked: Dict[str, Any] = self._value(message, free_form=False)
        return masked

    def _value(self, value: Any, free_form: bool) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return [self._value(item, free_form) for item in value]
        if free_form and isinstance(value, (int, float)):
            return self.number(value)
        if not isinstance(value, dict):
            return value
        masked = {}
        for name, item in value.items():
            if not free_form and name in _STRUCTURAL:
                masked[name] = item
                continue
            hide_name = free_form and name not in _METADATA_NAMES
            masked[self._name(name) if hide_name else name] = self._value(item, free_form or name in _FREE_FORM)
        return masked

    def _name(self, name: Any) -> Any:
        if isinstance(name, str):
            return self.text(name)
        # JSON makes a text of it.
        return self.number(name) if isinstance(name, (int, float)) else name


def _number(text: str) -> Optional[float]:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


class StreamRedactor:
    """Masks secrets in a text that comes in pieces, also where a secret is split over several of them.

    What could be the beginning of a secret is held back until the next piece, or `flush`, decides; that is always less
    than the longest secret.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._secrets = redactor.secrets
        self._held = ""
        # The first so many characters held are the end of a secret that has already been masked; they are kept only
        # because another secret may begin among them.
        self._covered = 0

    def feed(self, text: str) -> str:
        """Takes the next piece; returns what is now sure, masked."""
        if not self._secrets:
            return text
        self._held += text
        return self._take(self._undecided_from())

    def flush(self) -> str:
        """Returns the rest, masked: the text has ended."""
        return self._take(len(self._held))

    def _undecided_from(self) -> int:
        """Returns where the longest suffix that is the beginning of a secret starts."""
        held = self._held
        start = len(held)
        for secret in self._secrets:
            at = max(0, len(held) - len(secret) + 1)
            while True:
                at = held.find(secret[0], at, start)
                if at < 0:
                    break
                if secret.startswith(held[at:]):
                    start = at
                    break
                at += 1
        return start

    def _take(self, end: int) -> str:
        masked, covered = mask_secrets(self._held, self._secrets, self._covered, end)
        self._held = self._held[end:]
        self._covered = covered - end
        return masked


class RedactingLogger(logging.LoggerAdapter):  # type: ignore[type-arg]  # generic in stubs only before Python 3.11
    """A logger that masks the secrets of the request at hand in all that it logs, tracebacks included.

    Attributes:
        redactor: Whose secrets to mask; changed as requests come and go.
    """

    def __init__(self, logger: logging.Logger, redactor: Optional[Redactor] = None) -> None:
        super().__init__(logger, {})
        self.redactor = redactor or Redactor()

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Logs as `logging.Logger.log` does; text, arguments and traceback are put together first, then masked.

        What cannot be put together is said without its arguments: no log record is a reason to end a run.
        """
        if not self.isEnabledFor(level):
            return
        text = _text_of(msg, args)
        error = kwargs.pop("exc_info", None)
        if error:
            if not isinstance(error, BaseException):
                text += "\n" + traceback.format_exc().rstrip()
            else:
                text += "\n" + "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + _OWN_FRAMES
        self.logger.log(level, "%s", self.redactor.text(text), **kwargs)


def _text_of(msg: object, args: Tuple[object, ...]) -> str:
    try:
        # By logging's own rules, such as that for a dict as the only argument.
        return logging.LogRecord("", logging.INFO, "", 0, msg, args, None).getMessage()
    except Exception as error:  # what the `__str__` of a message or an argument raises may be anything
        # Not the arguments' `repr`: a secret may look different there, and would not be known again.
        said = msg if isinstance(msg, str) else type(msg).__name__
        return f"{said} (its arguments cannot be put into it: {type(error).__name__})"
