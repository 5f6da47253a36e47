"""Files in the sandbox: read, write, list, remove, and copy files and trees, over nothing but commands.

For example::

    data = client.files.read("report.txt")
    client.files.write("notes/today.txt", "buy milk")
    client.files.upload("src", "/work/src")
    client.files.download("/work/out", "out")

`Files` is what `client.files` and `session.files` return; `errors` draws the tree of its exceptions. `_operation` has
the deadline, abort and requests of an operation, `_copying` what each does, `_scripts` all that runs in the sandbox,
`_reading` and `_writing` the transfer in pieces, `_packing`, `_unpacking` and `_local` what happens on this machine.

Threads: importing the package starts none.
"""

from ._arguments import BinaryReader
from ._files import Files
from ._listing import FileInfo, FileKind
from .errors import (
    FileAlreadyExistsError,
    FileChangedError,
    FileError,
    FileIsADirectoryError,
    FileMissingError,
    FileNotADirectoryError,
    FilePermissionError,
    UnsafeArchiveError,
)

__all__ = [
    "BinaryReader",
    "FileAlreadyExistsError",
    "FileChangedError",
    "FileError",
    "FileInfo",
    "FileIsADirectoryError",
    "FileKind",
    "FileMissingError",
    "FileNotADirectoryError",
    "FilePermissionError",
    "Files",
    "UnsafeArchiveError",
]
