"""What each operation does that moves contents: writing, downloading, uploading, listing.

Threads: everything runs in the calling thread.
"""

import binascii
import errno
import itertools
import os
import stat
from pathlib import Path
from typing import IO, Callable, List, Optional

from . import _scripts as scripts
from ._arguments import BinaryReader, Progress, RemotePath
from ._failures import local_errors
from ._listing import FileInfo, parsed
from ._local import resolved, with_staging, write_file
from ._operation import Operation
from ._packing import CHUNK, Tree, find_tree, pack, unchanged
from ._reading import Reader, permissions, whole
from ._unpacking import Unpacker
from ._writing import Writer
from .errors import FileIsADirectoryError, changed_error, file_error


def write(
    operation: Operation,
    target: RemotePath,
    source: BinaryReader,
    mode: str,
    total: Optional[int],
    progress: Optional[Progress],
) -> None:
    """Writes what a file object has left to a file in the sandbox; `mode` is that of `put_file`.

    Raises:
        TypeError: The file object returned something other than bytes.
    """
    writer = Writer(operation, target, total=total, progress=progress)
    while True:
        piece = source.read(CHUNK)
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be a binary file object: its read returned {type(piece).__name__}")
        if not piece:
            break
        writer.write(bytes(piece))
    writer.put_file(mode)


# From the sandbox.


def download(operation: Operation, source: RemotePath, target: Path, progress: Optional[Progress]) -> None:
    """Copies a file or a tree from the sandbox to this machine."""
    try:
        _download_file(operation, source, target, progress)
    except FileIsADirectoryError as error:
        if error.side == "local":
            raise
        _download_tree(operation, source, target, progress)


def _download_file(operation: Operation, source: RemotePath, target: Path, progress: Optional[Progress]) -> None:
    reader = Reader(operation, source.raw, source.shown, progress)
    filled: List[IO[bytes]] = []

    def restart() -> None:
        for file in filled:
            file.seek(0)
            file.truncate()

    pieces = reader.pieces(restart)
    # Before anything is done on this machine: whether it is a file at all.
    first = next(pieces, b"")

    def fill(file: "IO[bytes]") -> Optional[int]:
        filled.append(file)
        for piece in itertools.chain([first], pieces):
            with local_errors(target):
                file.write(piece)
        return permissions(reader.mode)

    write_file(target, operation.temporary, fill)


def _download_tree(operation: Operation, source: RemotePath, target: Path, progress: Optional[Progress]) -> None:
    place = resolved(target)
    if place.exists() and not place.is_dir():
        raise file_error(errno.ENOTDIR, str(target), os.strerror(errno.ENOTDIR), side="local")

    def restart() -> None:
        raise changed_error(source.shown, "The archive of it changed while it was read")

    def fill(staging: Path) -> None:
        operation.clean_up = scripts.remove_temporary(operation.temporary)
        mode, _, archive = operation.request(scripts.pack(source.raw, operation.temporary)).stdout[0].partition("\n")
        try:
            packed = binascii.a2b_base64(archive)
        except ValueError:
            raise changed_error(
                source.shown, "The sandbox sent something that is not the place of an archive"
            ) from None
        reader = Reader(operation, packed, source.shown, progress)
        unpacker = Unpacker(staging, source.shown)
        unpacker.unpack(reader.pieces(restart))
        operation.request(operation.clean_up)
        operation.check()
        unpacker.put(place, permissions(mode))

    with_staging(place, operation.temporary, fill)


def listed(operation: Operation, directory: RemotePath) -> List[FileInfo]:
    """Returns what is in a directory."""
    operation.clean_up = scripts.remove_temporary(operation.temporary)
    reply = operation.request(scripts.entries(directory.raw, operation.temporary))
    where, _, text = reply.stdout[0].partition(" ")
    try:
        if where == "there":
            place = binascii.a2b_base64(text)
            text = whole(Reader(operation, place, directory.shown, None)).decode("ascii")
            operation.request(operation.clean_up)
        return parsed(binascii.a2b_base64(text))
    except ValueError:
        raise changed_error(directory.shown, "The sandbox sent something that is not a list of files") from None


# To the sandbox.


def uploader(source: Path, target: RemotePath, progress: Optional[Progress]) -> Callable[[Operation], None]:
    """Looks at what will be uploaded, and returns the function that does it.

    Raises:
        FileError: It cannot be uploaded.
        ValueError: It is a file, and the target can only be a directory.
    """
    with local_errors(source):
        status = os.stat(source)
    if stat.S_ISDIR(status.st_mode):
        tree = find_tree(source)
        return lambda operation: _upload_tree(operation, tree, target, progress)
    if not stat.S_ISREG(status.st_mode):
        raise file_error(errno.EINVAL, str(source), "Neither a file nor a directory", side="local")
    target.must_name_a_file("remote")
    return lambda operation: _upload_file(operation, source, status, target, progress)


def _upload_file(
    operation: Operation, source: Path, status: os.stat_result, target: RemotePath, progress: Optional[Progress]
) -> None:
    writer = Writer(operation, target, total=status.st_size, progress=progress)
    for piece in unchanged(source, status):
        writer.write(piece)
    writer.put_file(f"{stat.S_IMODE(status.st_mode):o}")


def _upload_tree(operation: Operation, tree: Tree, target: RemotePath, progress: Optional[Progress]) -> None:
    writer = Writer(operation, target, directory=True, total=tree.size, progress=progress)
    for piece in pack(tree):
        writer.write(piece)
    writer.put_tree(tree.mode, tree.unwritable)
