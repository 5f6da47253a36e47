"""`runtimeuse-sync cp`: copies files and trees between this machine and the sandbox, as `cp` and `scp` do.

A target that is a directory, or that ends with a slash, gets the copy inside of it, under the source's name. Any other
target is the copy itself.

Threads: the main thread.
"""

import os
import posixpath
import sys
from typing import Any, BinaryIO, List, NamedTuple, Optional, Tuple

import click

from .._call import monotonic
from ..client import RuntimeUseClient
from ..errors import RunTimeoutError
from ._options import Settings, runtime_options, settings_of
from ._output import JsonLines, json_text
from ._run import Stage
from ._screen import Pieces
from ._status import duration, one_line
from ._target import connected

#: What a path in the sandbox begins with.
_SANDBOX = "sandbox:"

#: Standard input as a source, standard output as a target.
_STREAM = "-"

_HELP = """Copy files and directories to or from the sandbox.

Paths in the sandbox begin with sandbox: and relative ones start at the runtime's working directory. A single - is
standard input or output. If TARGET is a directory, or ends with a slash, the copies are put into it.

\b
  runtimeuse-sync cp report.txt sandbox:in/
  runtimeuse-sync cp sandbox:out/report.txt ."""

#: The width of the bar, in characters.
_WIDTH = 24


class Place(NamedTuple):
    """A path on one of the two sides.

    Attributes:
        path: The path.
        in_sandbox: Whether it is in the sandbox.
    """

    path: str
    in_sandbox: bool

    @property
    def is_stream(self) -> bool:
        """Whether it is standard input or output."""
        return self.path == _STREAM and not self.in_sandbox

    @property
    def name(self) -> str:
        """The last part of the path; empty if that names no file, as in `..`."""
        if self.is_stream:
            return ""
        if self.in_sandbox:
            name = posixpath.basename(self.path.rstrip("/"))
        else:
            name = os.path.basename(self.path.rstrip(os.sep + (os.altsep or "")))
        return "" if name in (".", "..") else name

    def below(self, name: str) -> "Place":
        """Returns the place of that name in this directory."""
        if not name:
            return self
        join = posixpath.join if self.in_sandbox else os.path.join
        return self._replace(path=join(self.path, name))

    def __str__(self) -> str:
        return f"{_SANDBOX if self.in_sandbox else ''}{self.path}"


class _UntilItsEnd:
    """A stream that is not read again after its end: on a terminal, that would wait for a second Ctrl-D."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ended = False

    def read(self, size: int) -> bytes:
        data = b"" if self._ended else self._stream.read(size)
        self._ended = len(data) < size
        return data


class Progress:
    """The progress of one copy; its `pieces` are the status line.

    Args:
        name: What is copied.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = 0
        self.total: Optional[int] = None
        self._begun = monotonic()

    def __call__(self, done: int, total: Optional[int]) -> None:
        self.done, self.total = done, total

    @property
    def seconds(self) -> float:
        """The seconds since the begin."""
        return monotonic() - self._begun

    def pieces(self) -> Pieces:
        """Returns the bar, the bytes, the speed, the name."""
        done, total = self.done, self.total
        pieces: Pieces = []
        if total:
            filled = min(_WIDTH, _WIDTH * done // total)
            pieces.append((f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {min(100, 100 * done // total):3}%", "bold"))
            pieces.append((f"{size(done)} of {size(total)}", ""))
        else:
            pieces += [(duration(self.seconds), "bold"), (size(done), "")]
        if done and self.seconds >= 1:
            pieces.append((f"{size(int(done / self.seconds))}/s", "green"))
        pieces.append((one_line(self.name), ""))
        return pieces


@click.command("cp", short_help="Copy files and directories to or from the sandbox.", help=_HELP)
@click.argument("paths", metavar="SOURCE... TARGET", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("-T", "--no-target-directory", is_flag=True, help="TARGET is the copy itself, even if it is a directory.")
@click.option("-r", "-R", "--recursive", is_flag=True, hidden=True, help="Needless.")
@runtime_options
def copy(paths: Tuple[str, ...], no_target_directory: bool, recursive: bool, **options: Any) -> int:  # noqa: ARG001
    """Copies each source, one after the other."""
    sources, target = _places(paths, no_target_directory)
    settings = settings_of(options)
    progress = Progress("")
    # Of the current one, which is replaced by the next.
    with Stage(settings, pieces=lambda: progress.pieces()) as stage:  # noqa: PLW0108
        try:
            with connected(settings) as client:
                # An abort would not end a read that waits for somebody to type.
                stage.interrupts.cancels(None if sources[0].is_stream else client.abort)
                try:
                    until = None if settings.timeout is None else monotonic() + settings.timeout
                    into = not no_target_directory and _is_directory(client, target, len(sources), until)
                    for source in sources:
                        if stage.interrupts.hit:
                            raise KeyboardInterrupt
                        place = target.below(source.name) if into else target
                        progress = Progress(source.name or str(source))
                        _copy_one(client, source, place, progress, until, stage)
                        _report(stage, settings, source, place, progress)
                finally:
                    stage.interrupts.cancels(None)
        except (Exception, KeyboardInterrupt) as error:
            output = JsonLines(stage.screen, stage.masking) if settings.json else None
            raise stage.ended_by(error, output) from error
    return 0


def _places(paths: Tuple[str, ...], no_target_directory: bool) -> Tuple[List[Place], Place]:
    places = [
        Place(path[len(_SANDBOX) :] or ".", True) if path.startswith(_SANDBOX) else Place(path, False) for path in paths
    ]
    if len(places) < 2:
        raise click.UsageError("cp needs a source and a target")
    *sources, target = places
    if any(not place.path for place in places):
        raise click.UsageError("a path is empty")
    if any(source.in_sandbox == target.in_sandbox for source in sources):
        side = "in the sandbox" if target.in_sandbox else "on this machine"
        raise click.UsageError(
            f"source and target are both {side}: one of the two sides must begin with {_SANDBOX} (for a local file of "
            f"such a name, write ./{_SANDBOX}…)"
        )
    if len(sources) > 1 and (no_target_directory or target.is_stream):
        raise click.UsageError("several sources need a directory as their target")
    if sources[0].is_stream and target.path.endswith("/"):
        raise click.UsageError("what standard input has needs a name: the target must not be a directory")
    if len(sources) > 1 and any(source.is_stream for source in sources):
        raise click.UsageError("standard input can only be the one source")
    return sources, target


def _is_directory(client: RuntimeUseClient, target: Place, count: int, until: Optional[float]) -> bool:
    """Returns whether the copies go into the target, rather than become it."""
    if target.is_stream:
        return False
    if count > 1 or target.path.endswith("/") or target.path in (".", ".."):
        return True
    if not target.in_sandbox:
        return os.path.isdir(target.path)
    return client.files.exists(target.path + "/", timeout=_left(until))


def _copy_one(
    client: RuntimeUseClient, source: Place, target: Place, progress: Progress, until: Optional[float], stage: Stage
) -> None:
    files = client.files
    if source.is_stream:
        if sys.stdin is None:
            raise click.UsageError("there is no standard input")
        files.write(target.path, _UntilItsEnd(sys.stdin.buffer), progress=progress, timeout=_left(until))
    elif target.is_stream:
        stage.screen.out_bytes(files.read(source.path, progress=progress, timeout=_left(until)))
    elif target.in_sandbox:
        files.upload(source.path, target.path, progress=progress, timeout=_left(until))
    else:
        files.download(source.path, target.path, progress=progress, timeout=_left(until))


def _left(until: Optional[float]) -> Optional[float]:
    if until is None:
        return None
    left = until - monotonic()
    if left <= 0:
        raise RunTimeoutError("Copying did not end within --timeout")
    return left


def _report(stage: Stage, settings: Settings, source: Place, target: Place, progress: Progress) -> None:
    if settings.json:
        said = {"message_type": "copied", "source": str(source), "target": str(target), "bytes": progress.done}
        stage.screen.out(json_text(said, stage.screen) + "\n")
    elif stage.screen.has_status:
        stage.screen.line(f"{source} -> {target}: {size(progress.done)}, {duration(progress.seconds)}")


def size(count: int) -> str:
    """Returns a number of bytes for people: `532 bytes`, `1.4 MB`."""
    from rich.filesize import decimal

    return decimal(count)
