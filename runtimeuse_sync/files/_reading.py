"""Reads a file of the sandbox piece by piece.

A short file comes in one request, with a checksum of the text that carries it. A longer one is read at offsets, several
pieces a request, and at the end the sandbox computes the checksum of the file: if the file has changed meanwhile, or if
anything was altered on the way, checksum or size differ.

Threads: everything runs in the calling thread.
"""

import binascii
from typing import Callable, Iterator, List, Optional

from . import _scripts as scripts
from ._arguments import Progress
from ._checksum import Checksum
from ._failures import reason
from ._operation import Operation
from .errors import changed_error, file_error

#: How many pieces one request reads. It bounds the memory: a piece exists as text, streamed and in the result.
_PIECES = 6

#: How often a file is read that changes meanwhile.
ATTEMPTS = 3


class Reader:
    """Reads one file.

    Args:
        operation: Makes the requests.
        path: The file's path for scripts.
        shown: The path for messages.
        progress: Called with the bytes read so far, and all.

    Attributes:
        mode: The first word of what `ls -l` prints, once the first piece has come.
    """

    def __init__(self, operation: Operation, path: bytes, shown: str, progress: Optional[Progress]) -> None:
        self._operation = operation
        self._path = path
        self._shown = shown
        self._progress = progress
        self.mode = ""
        self._problem: Optional[str] = None

    def pieces(self, restart: Callable[[], None]) -> Iterator[bytes]:
        """Yields the file's bytes.

        Args:
            restart: Called if the file has changed: what was yielded so far is void, and it is read again.

        Raises:
            FileChangedError: It has changed each time.
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                restart()
            yield from self._attempt()
            if self._problem is None:
                return
        raise changed_error(self._shown, f"{self._problem} ({ATTEMPTS} attempts)")

    def _attempt(self) -> Iterator[bytes]:
        """Yields the file's bytes, and sets `_problem` if they are not one state of the file."""
        self._problem = None
        reply = self._operation.request(scripts.read_first(self._path))
        self._check(reply.stderr)
        lines = reply.stdout[0].split("\n")
        words = lines[0].split()
        if len(words) != 2 or not words[1].isdigit() or len(lines) < 2:
            raise changed_error(self._shown, "It could not be examined")
        self.mode = words[0]
        size = int(words[1])
        data = self._decoded(lines[1])
        if size <= scripts.PIECE:
            # The size is not compared: some files, such as those of /proc, do not know theirs.
            if str(Checksum(lines[1].encode("ascii", "replace"))) != lines[2].strip():
                self._problem = "What arrived differs from what the sandbox sent"
            elif len(data) > scripts.PIECE:
                self._problem = "It grew while it was read"
            if data and self._problem is None:
                yield data
            self._tell(len(data), len(data))
            return
        yield from self._rest(data, size)

    def _rest(self, data: bytes, size: int) -> Iterator[bytes]:
        checksum = Checksum()
        wanted = list(range(1, (size + scripts.PIECE - 1) // scripts.PIECE))
        pieces = [data]
        said = ""
        while True:
            for index, piece in enumerate(pieces):
                last = not wanted and index == len(pieces) - 1
                if len(piece) != scripts.PIECE and not last:
                    self._problem = "It shrank while it was read"
                    return
                checksum.add(piece)
                yield piece
                self._tell(min(checksum.size, size), size)
            if not wanted:
                break
            batch, wanted = wanted[:_PIECES], wanted[_PIECES:]
            commands = [scripts.read_piece(self._path, index) for index in batch]
            if not wanted:
                commands.append(scripts.read_checksum(self._path))
            reply = self._operation.request(*commands)
            self._check(reply.stderr)
            if not wanted:
                said = reply.stdout.pop().strip()
            pieces = [self._decoded(text) for text in reply.stdout]
            del reply
        if str(checksum) != said:
            self._problem = "It changed while it was read"

    def _decoded(self, text: str) -> bytes:
        try:
            return binascii.a2b_base64(text)
        except (ValueError, binascii.Error):
            raise changed_error(self._shown, "What arrived is not base64 text") from None

    def _check(self, stderr: str) -> None:
        """Raises if reading has failed: in a pipeline, the exit code is that of the last program."""
        said = reason(stderr)
        if said is not None:
            raise file_error(said[0], self._shown, said[1])

    def _tell(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)


def whole(reader: Reader) -> bytes:
    """Returns a file's bytes."""
    pieces: List[bytes] = []
    for piece in reader.pieces(pieces.clear):
        pieces.append(piece)  # noqa: PERF402  # not `extend`: the list is cleared if the file has changed
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def permissions(mode: str) -> Optional[int]:
    """Returns the permissions that the first word of `ls -l` shows, such as `-rw-r--r--`; `None` if it shows none."""
    letters = mode[1:10]
    if len(letters) != 9:
        return None
    return sum(1 << (8 - index) for index, letter in enumerate(letters) if letter not in "-ST")
