"""Starts a shell for a command. Plain functions; no threads or tasks run here."""

import contextlib
import errno
import os
import subprocess
import tempfile
from typing import IO, Iterator, Mapping

#: What is handed to the shell as an argument, in bytes. Linux allows 128 KiB for each.
_LONGEST_ARGUMENT = 96 * 1024
#: What a longer one is read from: the shell's own stdin, opened anew. The script's first act is to close it.
_READ_FROM_STDIN = ". /dev/fd/0"
_WITHOUT_INPUT = b"exec <>/dev/null; "


def start_shell(command: str, directory: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Starts `/bin/sh` with a command of any length, without input, in a process group of its own.

    To the command it is all the same how it gets there: `$0` is `/bin/sh`, no arguments, stdin `/dev/null`, no
    descriptor beside the usual three.

    Raises:
        OSError: the shell cannot be started.
        ValueError: command or environment hold what no process can be given.
    """
    script = os.fsencode(command)
    if len(script) <= _LONGEST_ARGUMENT:
        try:
            return _start(command, subprocess.DEVNULL, directory, environment)
        except OSError as error:
            # With a large environment, or under a small limit for the stack, less may be too much already.
            if error.errno != errno.E2BIG:
                raise
    if b"\0" in script:
        raise ValueError("embedded null byte")
    with _file_with(_WITHOUT_INPUT + script) as file:
        return _start(_READ_FROM_STDIN, file.fileno(), directory, environment)


def _start(command: str, stdin: int, directory: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    # In the loop's own thread, as asyncio does it: it returns as soon as the shell has started.
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
    """Yields a file that has no name, and is gone when nobody reads it any more."""
    with _new_file() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file


def _new_file() -> "IO[bytes]":
    if hasattr(os, "memfd_create"):
        # Some sandboxes' kernels have none.
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("runtimeuse-command"), "w+b")
    return tempfile.TemporaryFile(prefix="runtimeuse-")
