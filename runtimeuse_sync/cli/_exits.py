"""The exit codes, and which code and which line on stderr an exception becomes.

| code | what has happened |
| --- | --- |
| the command's own | a command ran in the sandbox |
| 1 | any failure that has no other code |
| 2 | wrong usage: an argument, the environment, a missing extra |
| 124 | `--timeout` passed |
| 130 | Ctrl-C |
| 141 | the reader of the output has gone, as in `| head -1` |

Threads: pure functions.
"""

from typing import Optional, Tuple

import click

from ..errors import RuntimeUseError
from ..errors import said as plain_text
from ._screen import OutputClosed

#: The command's name, before each line on stderr.
NAME = "runtimeuse-sync"

FAILED = 1
WRONG_USAGE = 2
TIMED_OUT = 124
INTERRUPTED = 130
OUTPUT_CLOSED = 141

#: The most characters of the line on stderr.
_LONGEST = 2000


class Failed(Exception):
    """The command has failed, and everything else is done.

    Attributes:
        code: The exit code.
        line: What to say about it on stderr, secrets masked; `None` for nothing.
    """

    def __init__(self, code: int, line: Optional[str]) -> None:
        super().__init__(code, line)
        self.code = code
        self.line = line


def exit_of(error: BaseException) -> Tuple[int, Optional[str]]:
    """Returns the exit code for an exception, and what to say about it; `None` for nothing."""
    if isinstance(error, Failed):
        return error.code, error.line
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code, None
    if isinstance(error, click.UsageError):
        return WRONG_USAGE, _usage(error)
    if isinstance(error, click.ClickException):
        return WRONG_USAGE, one_line_of(error.format_message())
    if isinstance(error, OutputClosed):
        return OUTPUT_CLOSED, None
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED, None
    if isinstance(error, TimeoutError):
        return TIMED_OUT, said(error)
    return FAILED, said(error)


def exit_code_of_command(code: Optional[int]) -> int:
    """Returns the exit code for that of a command in the sandbox.

    A command that a signal has ended has the code -1, which is 255 to a shell.
    """
    if code is None:
        return FAILED
    return code if 0 <= code <= 255 else (code & 255 or FAILED)


def said(error: BaseException) -> str:
    """Returns the text of an exception in one line; that of a fault of this package has its class."""
    # Without what to do about it, which speaks to those who call the client from Python.
    text = one_line_of(plain_text(error))
    if isinstance(error, (RuntimeUseError, OSError)) or type(error).__module__.startswith(__package__):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (--verbose shows where)"


def one_line_of(text: str) -> str:
    """Returns a text in one line: its first line, and after a colon the others."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    joined = lines[0] if lines else ""
    if len(lines) > 1:
        joined = f"{joined.rstrip(':')}: {'; '.join(lines[1:])}"
    plain = "".join(character for character in joined if character.isprintable())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"


def _usage(error: click.UsageError) -> str:
    text = one_line_of(error.format_message()).rstrip(".")
    if error.ctx is None:
        return text
    return f"{text[:1].lower()}{text[1:]} (see {error.ctx.command_path} --help)"
