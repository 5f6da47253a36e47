"""What users pass in: paths in the sandbox and on this machine, contents, permissions, a progress callback.

Paths in the sandbox are POSIX paths. As in `os`, a str may contain bytes that are not UTF-8 as lone surrogates
(`os.fsdecode`); here always in UTF-8, whatever this machine uses.

Threads: pure functions.
"""

import io
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol, Tuple, Union

from .._wire import validation as check

if TYPE_CHECKING:
    StrPath = Union[str, os.PathLike[str]]
else:
    # Before Python 3.9, `os.PathLike` takes no type; with this, `typing.get_type_hints` works everywhere.
    StrPath = Union[str, os.PathLike]

#: Called with the bytes done, and all; `None` where that cannot be known.
Progress = Callable[[int, Optional[int]], None]


class BinaryReader(Protocol):
    """A binary file object, or anything else with a `read` that returns bytes."""

    def read(self, size: int, /) -> bytes:
        """Returns the next bytes; `b""` at the end.

        Args:
            size: The most bytes to return.
        """


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


def source_of(data: Any, encoding: str) -> Tuple[BinaryReader, Optional[int]]:
    """Returns contents as a file object, and their size; `None` if it cannot be known.

    Args:
        data: Bytes, a str or a binary file object.
        encoding: The encoding of a str.

    Raises:
        TypeError: It is something else.
        ValueError: It cannot be encoded.
        LookupError: There is no such encoding.
    """
    if isinstance(data, str):
        data = data.encode(encoding)
    if type(data) is bytes:
        # Not copied, however large it is.
        return io.BytesIO(data), len(data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        view = memoryview(data).cast("B")
        return io.BytesIO(view), len(view)
    if callable(getattr(data, "read", None)):
        return data, _size_of(data)
    raise TypeError(f"data must be bytes, a str or a binary file object, not {type(data).__name__}")


def checked_mode(mode: Any) -> str:
    """Returns permissions as octal digits; "" for `None`.

    Raises:
        TypeError: It is not an int.
        ValueError: It has other bits than permissions.
    """
    if mode is None:
        return ""
    check.check_type("mode", mode, int, "permissions as an int, such as 0o644, or None")
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"mode must be permissions such as 0o644, not {mode}")
    return f"{mode:o}"


def check_progress(progress: Any) -> None:
    """Raises `TypeError` unless `progress` is `None` or a plain function."""
    if progress is not None:
        check.check_callback("progress", progress)


def _size_of(file: Any) -> Optional[int]:
    """Returns how many bytes a file object has left; `None` if it cannot tell."""
    if not callable(getattr(file, "seekable", None)) or not file.seekable():
        return None
    at = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(at)
    return end - at if isinstance(at, int) and isinstance(end, int) else None
