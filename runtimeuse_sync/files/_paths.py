"""Paths that users pass in: those in the sandbox, and those on this machine.

Paths in the sandbox are POSIX paths. As in `os`, a str may contain bytes that are not UTF-8 as lone surrogates
(`os.fsdecode`); here always in UTF-8, whatever this machine uses.

Threads: pure functions.
"""

import os
from pathlib import Path, PurePath
from typing import Any, Union

StrPath = Union[str, "os.PathLike[str]"]


class RemotePath:
    """A path in the sandbox.

    Attributes:
        shown: As the caller gave it.
        raw: Its bytes for scripts: it begins with `/` or `./`, and has no slash at its end.
        ends_with_slash: Whether it ended with a slash, as only a directory's path may.
    """

    __slots__ = ("ends_with_slash", "raw", "shown")

    def __init__(self, name: str, value: Any) -> None:
        self.shown = _text(name, value, posix=True)
        try:
            raw = self.shown.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ValueError(f"{name} contains a lone surrogate that stands for no byte") from None
        self.ends_with_slash = raw.endswith(b"/")
        raw = raw.rstrip(b"/") or b"/"
        self.raw = raw if raw.startswith(b"/") else b"./" + raw

    def must_name_a_file(self, name: str) -> None:
        """Raises `ValueError` if only a directory can have this path."""
        if self.ends_with_slash or self.raw == b"/":
            raise ValueError(f"{name} must name a file, not a directory: {self.shown!r}")


def local_path(name: str, value: Any) -> Path:
    """Returns a path on this machine.

    Raises:
        TypeError: It is neither a str nor a path.
        ValueError: It is empty, or contains a NUL character.
    """
    return Path(_text(name, value, posix=False))


def _text(name: str, value: Any, *, posix: bool) -> str:
    text = value
    if isinstance(value, PurePath):
        # A Windows path that was written with slashes.
        text = value.as_posix() if posix else str(value)
    elif not isinstance(value, str) and hasattr(value, "__fspath__"):
        text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str or a path, not {type(text).__name__}")
    if not text:
        raise ValueError(f"{name} must not be empty")
    if "\0" in text:
        raise ValueError(f"{name} contains a NUL character")
    return str(text)
