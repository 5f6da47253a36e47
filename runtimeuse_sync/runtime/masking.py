"""Masks the secrets of a request in everything that leaves the runtime: messages, streamed output, and log records.

A text gives the same result whether it is masked at once or in pieces, as both use `StreamRedactor`. Overlapping
secrets get one mask.

Threads: no I/O but logging. Any thread may use a `Redactor`, which is immutable, and a `RedactingLogger`.
"""

import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Iterable, Optional, Tuple

from .._wire.redaction import MASK
from .._wire.stream_redaction import StreamRedactor

#: Fields whose values the protocol fixes. They are not masked.
_STRUCTURAL: FrozenSet[str] = frozenset(("message_type", "type", "stream"))
#: Fields whose content the agent defines. There, names and numbers are masked as well.
_FREE_FORM: FrozenSet[str] = frozenset(("metadata", "structured_output"))
#: Names in `metadata` that are the runtime's own.
_METADATA_NAMES: FrozenSet[str] = frozenset(("error_name", "stack", "cause", "error_details"))
#: The size of the pieces in which a long text is masked, in characters.
_PIECE = 64 * 1024
#: The most characters of a number. Python converts no more digits, and a long text that is none takes its time.
_LONGEST_NUMBER = 4300
#: The stack frames between a log call and `logging`; from Python 3.11 on, `logging` skips its own frames.
_OWN_FRAMES = 1 if sys.version_info >= (3, 11) else 2


class Redactor:
    """Masks a fixed set of secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets: Tuple[str, ...] = tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True))
        # A secret that is written as a number is also masked where it occurs as a JSON number.
        self._numbers = frozenset(number for number in map(_number, self.secrets) if number is not None)

    def text(self, text: str) -> str:
        """Returns the text with every secret masked."""
        if not self.secrets:
            return text
        stream = StreamRedactor(self.secrets)
        # In pieces, to bound memory: a long text may contain a short secret very often.
        masked = [stream.feed(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)]
        return "".join([*masked, stream.flush()])

    def number(self, number: float) -> Any:
        """Returns a number, or the mask if the number is or contains a secret.

        `True` and `False` are never masked: they are JSON keywords.
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
        # JSON turns a number that is a name into a string.
        return self.number(name) if isinstance(name, (int, float)) else name


def _number(text: str) -> Optional[float]:
    if len(text) > _LONGEST_NUMBER:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


if TYPE_CHECKING:
    _LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:
    # Before Python 3.11 it is generic for type checkers only.
    _LoggerAdapter = logging.LoggerAdapter


class RedactingLogger(_LoggerAdapter):
    """A logger that masks the secrets of the current request in its records, tracebacks included.

    Attributes:
        redactor: Masks the secrets; replaced with each request.
    """

    def __init__(self, logger: logging.Logger, redactor: Optional[Redactor] = None) -> None:
        super().__init__(logger, {})
        self.redactor: Redactor = redactor or Redactor()

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Logs as `logging.Logger.log` does. Text, arguments and traceback are formatted first, then masked.

        A text that cannot be formatted is logged without its arguments: a log record must not end a run.
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
        # By the rules of `logging`, for example for a dict as the only argument.
        return logging.LogRecord("", logging.INFO, "", 0, msg, args, None).getMessage()
    except Exception as error:  # the `__str__` of a message or argument may raise anything
        # Without the arguments' `repr`, where a secret may be escaped and would not be recognised.
        template = msg if isinstance(msg, str) else type(msg).__name__
        return f"{template} (its arguments cannot be formatted: {type(error).__name__})"
