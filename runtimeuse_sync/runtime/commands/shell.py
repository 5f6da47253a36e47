"""Starts the shell for a command.

Threads: called on the event loop.
"""

import contextlib
import errno
import os
import subprocess
import tempfile
from typing import IO, Iterator, Mapping

#: The longest command that is passed to the shell as an argument, in bytes. Linux allows 128 KiB per argument.
_LONGEST_ARGUMENT = 96 * 1024
#: A longer command is a script in the shell's stdin, which the shell opens again by its path. The script's first
#: statement replaces stdin by /dev/null.
_READ_FROM_STDIN = ". /dev/fd/0"
_WITHOUT_INPUT = b"exec <>/dev/null; "


def start_shell(command: str, directory: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Starts `/bin/sh` with a command of any length, without input, in a process group of its own.

    However the command is passed, `$0` is `/bin/sh`, there are no arguments, stdin is `/dev/null`, and no other
    descriptors than stdin, stdout and stderr are open.

    Raises:
        OSError: the shell cannot be started.
        ValueError: the command or environment has a value that no process can get, such as a null byte.
    """
    script = os.fsencode(command)
    if len(script) <= _LONGEST_ARGUMENT:
        try:
            return _start(command, subprocess.DEVNULL, directory, environment)
        except OSError as error:
            # With a large environment or a small stack limit, even a shorter command may be too long.
            if error.errno != errno.E2BIG:
                raise
    if b"\0" in script:
        raise ValueError("embedded null byte")
    with _file_with(_WITHOUT_INPUT + script) as file:
        return _start(_READ_FROM_STDIN, file.fileno(), directory, environment)


def _start(command: str, stdin: int, directory: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    # On the loop's thread, as in asyncio: it returns as soon as the shell has started.
    return subprocess.Popen(
        command,
        shell=True,
        cwd=directory,
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@contextlib.contextmanager
def _file_with(content: bytes) -> Iterator[IO[bytes]]:
    """Yields a file without a name, which the system removes when no process has it open."""
    with _new_file() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file


def _new_file() -> "IO[bytes]":
    if hasattr(os, "memfd_create"):
        # The kernels of some sandboxes do not support it.
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("runtimeuse-command"), "w+b")
    return tempfile.TemporaryFile(prefix="runtimeuse-")
