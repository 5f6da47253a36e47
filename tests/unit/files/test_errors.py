"""The errors of file operations: their classes, texts, pickles and copies, and what they are made from."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, Type

import pytest

from runtimeuse_sync import RuntimeUseError
from runtimeuse_sync.files import (
    FileAlreadyExistsError,
    FileChangedError,
    FileError,
    FileIsADirectoryError,
    FileMissingError,
    FileNotADirectoryError,
    FilePermissionError,
    UnsafeArchiveError,
    _failures,
)
from runtimeuse_sync.files._failures import failure, local_errors
from runtimeuse_sync.files.errors import changed_error, file_error

from ...support.builders import on_alarm, ring
from ...support.duplicates import duplicates

CLASSES = [
    (errno.ENOENT, FileMissingError, FileNotFoundError),
    (errno.EACCES, FilePermissionError, PermissionError),
    (errno.EPERM, FilePermissionError, PermissionError),
    (errno.EISDIR, FileIsADirectoryError, IsADirectoryError),
    (errno.ENOTDIR, FileNotADirectoryError, NotADirectoryError),
    (errno.EEXIST, FileAlreadyExistsError, FileExistsError),
    (errno.ENOSPC, FileError, OSError),
    (None, FileError, OSError),
]


@pytest.mark.parametrize(("number", "kind", "builtin"), CLASSES)
def test_each_is_ours_and_the_built_in_one(number: Any, kind: Type[FileError], builtin: Type[OSError]) -> None:
    error = file_error(number, "a\nb", "why")
    assert type(error) is kind
    assert isinstance(error, builtin)
    assert isinstance(error, RuntimeUseError)
    assert (error.errno, error.filename, error.strerror) == (number, "a\nb", "why")
    assert (error.path, error.reason, error.side, error.source_id) == ("a\nb", "why", "sandbox", None)
    assert str(error) == r"'a\nb': why"
    assert repr(error) == f"{kind.__name__}({str(error)!r})"


@pytest.mark.parametrize(
    "error",
    [
        *(file_error(number, "p", "why", side=side) for number, _, _ in CLASSES for side in ("sandbox", "local")),
        changed_error("p", "it grew"),
        UnsafeArchiveError("refused", "p", "why"),
        FileError(),
        FileError("text"),
        file_error(2, os.fsdecode(b"\xff"), "why"),
    ],
    ids=repr,
)
def test_they_can_be_made_again(error: FileError) -> None:
    assert json.loads(json.dumps(error.args)) == list(error.args)
    for made in [*duplicates(error), type(error)(*json.loads(json.dumps(error.args)))]:
        assert type(made) is type(error)
        assert (str(made), made.args) == (str(error), error.args)
        for name in ("path", "reason", "errno", "side", "filename", "strerror", "source_id"):
            assert getattr(made, name) == getattr(error, name), name


@pytest.mark.parametrize(
    ("code", "stderr", "kind", "number"),
    [
        (1, "ls: cannot access './a': No such file or directory\n", FileMissingError, errno.ENOENT),
        (2, "/bin/sh: 1: cannot create ./a/b: Directory nonexistent\n", FileMissingError, errno.ENOENT),
        (1, "sh: can't create a/b: nonexistent directory\n", FileMissingError, errno.ENOENT),
        (1, "warning: locale\nmv: cannot move 'a' to 'b': Permission denied\n", FilePermissionError, errno.EACCES),
        (1, "base64: write error: No space left on device\n", FileError, errno.ENOSPC),
        (1, "sh: write error: Disk quota exceeded\n", FileError, errno.EDQUOT),
        (2, "tar: ./a: Wrote only 512 of 10240 bytes\n", FileError, errno.ENOSPC),
        (153, "File size limit exceeded (core dumped)\n", FileError, errno.EFBIG),
        (153, "", FileError, errno.EFBIG),
        (1, "tar: ./x: file changed as we read it\n", FileChangedError, None),
        (_failures.MISSING, "", FileMissingError, errno.ENOENT),
        (_failures.DIFFERS, "", FileChangedError, None),
        (_failures.TOOL_MISSING, "runtimeuse needs: base64\n", FileError, None),
        (-1, "", FileError, None),
        (7, "odd\n", FileError, None),
        (7, "", FileError, None),
    ],
)
def test_why_a_script_failed(code: int, stderr: str, kind: Type[FileError], number: Any) -> None:
    error = failure("a", code, stderr)
    assert type(error) is kind
    assert error.errno == number
    assert error.path == "a"
    assert error.reason
    assert stderr.strip().split("\n")[-1].replace("runtimeuse needs: ", "") in str(error) or number == errno.EFBIG


def test_local_errors_are_converted_and_others_are_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, local_errors("shown"):
        (tmp_path / "none").read_bytes()
    error = raised.value
    assert isinstance(error, FileError)
    assert (error.side, error.path, error.errno) == ("local", str(tmp_path / "none"), errno.ENOENT)
    assert str(error) == f"local {str(tmp_path / 'none')!r}: {os.strerror(errno.ENOENT)}"
    assert isinstance(error.__cause__, FileNotFoundError)
    for other in (TimeoutError("no number"), ValueError("x"), file_error(2, "p", "why")):
        with pytest.raises(type(other)) as unchanged, local_errors("shown"):
            raise other
        assert unchanged.value is other


def test_an_error_of_a_signal_handler_is_not_taken_for_a_local_one() -> None:
    raised = TimeoutError(errno.ETIMEDOUT, "time is up")

    def handle() -> None:
        raise raised

    with on_alarm(handle), pytest.raises(TimeoutError) as caught, local_errors("shown"):
        ring()
    assert caught.value is raised
