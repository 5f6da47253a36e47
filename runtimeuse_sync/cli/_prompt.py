"""Reads the prompt: the argument, a file, or standard input.

Threads: the calling thread.
"""

import sys
from typing import BinaryIO, Optional

import click

#: The argument, or file name, that stands for standard input.
STDIN = "-"


def prompt_of(argument: Optional[str], file: Optional[str]) -> str:
    """Returns the prompt.

    Args:
        argument: What was given as an argument; `-` reads standard input. `None` reads it as well, if it is no
            terminal.
        file: The file that has the prompt; `-` reads standard input. `None` for none.

    Raises:
        click.UsageError: There is no prompt, or there are two, or it cannot be read.
    """
    if argument is not None and file is not None:
        raise click.UsageError("the prompt is given twice: as an argument, and by --file")
    if argument is not None and argument != STDIN:
        text, source = argument, "the prompt"
    elif file is not None and file != STDIN:
        text, source = read_text(file, "--file"), f"--file {file}"
    elif sys.stdin is None or sys.stdin.closed:
        raise click.UsageError("there is no prompt: no argument, no --file, and no standard input")
    elif argument is None and file is None and sys.stdin.isatty():
        raise click.UsageError("there is no prompt: pass it as an argument, by --file, or on standard input")
    else:
        text, source = _decoded(sys.stdin.buffer, "standard input"), "the prompt on standard input"
    if not text.strip():
        raise click.UsageError(f"{source} is empty")
    return text


def read_text(path: str, option: str) -> str:
    """Returns the text of a file.

    Raises:
        click.UsageError: It cannot be read; the message names the option.
    """
    try:
        with open(path, "rb") as file:
            return _decoded(file, f"{option} {path}")
    except OSError as error:
        raise click.UsageError(f"{option} {path}: {error.strerror or error}") from error


def _decoded(file: BinaryIO, name: str) -> str:
    try:
        # Some editors put a byte order mark before the text.
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{name} is not text in UTF-8") from None
