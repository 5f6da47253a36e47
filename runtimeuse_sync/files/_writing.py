"""Writes a file, or the archive of a tree, into the sandbox: to a temporary file beside the target, then to its place.

The data goes as environment variables, a dozen for each command, as many commands in one request as bound the memory.
How many variables a command can have depends on the sandbox: the first request asks, unless one variable is enough for
all. After each command the size of the temporary file is compared, and before it is moved its checksum.

While one request is on its way, the next one is encoded. The buffer keeps what was not confirmed yet, so requests that
were encoded for nothing are simply encoded again.

Threads: everything runs in the calling thread.
"""

import binascii
import functools
from typing import List, Optional, Sequence, Tuple

from .._wire.request import Request
from ..errors import AgentRuntimeError
from ..messages import CommandInterface
from . import _scripts as scripts
from ._arguments import Progress, RemotePath
from ._checksum import Checksum
from ._operation import Operation

#: The most variables of a command: with Linux's usual limit of 2 MiB they leave half a MiB to the sandbox's own.
_MOST_VARIABLES = 12

#: How many bytes one variable takes of the limit.
_TAKEN = scripts.VARIABLE // 3 * 4 + 64

#: How many bytes to leave free.
_SPARE = 16 * 1024

#: How many commands one request has. It bounds the memory.
_COMMANDS = 4

#: What runtimes say if a command's environment is too large.
_TOO_LARGE = ("e2big", "argument list too long")


class Writer:
    """Writes one file. Call `write` as often as there is data, then `put_file` or `put_tree`.

    Args:
        operation: Makes the requests.
        path: The target.
        directory: Whether the target is a directory, and the data its archive.
        total: The number of bytes that will be written, for `progress`; `None` if it is not known.
        progress: Called with the bytes written so far, and all.
    """

    def __init__(
        self,
        operation: Operation,
        path: RemotePath,
        *,
        directory: bool = False,
        total: Optional[int] = None,
        progress: Optional[Progress] = None,
    ) -> None:
        self._operation = operation
        self._path = path.raw
        self._directory = directory
        self._total = total
        self._progress = progress
        self._checksum = Checksum()
        self._sent = 0
        self._told: Optional[int] = None
        self._buffer = bytearray()
        #: The request that sends the begin of the buffer, and how much that is; `None` if it is not encoded yet.
        self._next: Optional[Tuple[Request, int]] = None
        self._begun = False
        self._variables = 1
        self._decode = ""

    def write(self, data: bytes) -> int:
        """Adds data; sends it once there is enough for a request."""
        self._buffer += data
        self._checksum.add(bytes(data))
        if not self._begun and len(self._buffer) > scripts.VARIABLE:
            self._begin()
        # Enough stays for another full request, to be encoded meanwhile, and something for the last one.
        while self._begun and len(self._buffer) > 2 * self._room:
            self._send()
        return len(data)

    def put_file(self, mode: str) -> None:
        """Sends the rest and moves the file to its place; `mode` is that of the script."""
        self._finish(scripts.put_file(self._path, self._operation.temporary, str(self._checksum), mode))

    def put_tree(self, mode: int, changes: Sequence[Tuple[int, bytes]]) -> None:
        """Sends the rest of the archive and puts the tree to its place; `changes` are those of `change_modes`."""
        put = scripts.put_tree(self._path, self._operation.temporary, str(self._checksum), mode)
        self._finish(put, *scripts.change_modes(self._path, changes))

    def _begin(self) -> None:
        """Makes the temporary file and asks for the limits."""
        reply = self._operation.request(self._prepare())
        self._begun = True
        words = reply.stdout[0].split()
        limit, used = (int(word) if word.isdigit() else 0 for word in [*words, "0", "0", "0"][1:3])
        if words and words[0] in ("-d", "-D"):
            self._decode = words[0]
        # Where the limit cannot be asked for, it is assumed to be the usual one.
        fitting = (limit - used - _SPARE) // _TAKEN if limit else _MOST_VARIABLES
        self._variables = max(1, min(_MOST_VARIABLES, fitting))

    def _prepare(self) -> str:
        operation = self._operation
        operation.clean_up = scripts.remove_beside(self._path, operation.temporary)
        return scripts.prepare(self._path, operation.temporary, directory=self._directory)

    def _finish(self, *after: str) -> None:
        """Sends the rest and puts it in its place."""
        if self._told is None:
            self._tell(0)
        if not self._begun:
            self._send([self._prepare()], after)
        while self._buffer:
            self._send((), after)
        if self._total is None:
            self._tell(self._sent, total=self._sent)

    @property
    def _room(self) -> int:
        return self._variables * scripts.VARIABLE * _COMMANDS

    def _send(self, before: Sequence[str] = (), after: Sequence[str] = ()) -> None:
        """Sends one request with the begin of the buffer; `before` come first, `after` follow the end of the buffer."""
        while True:
            request, size = self._next or self._encoded(0, before, after)
            self._next = None
            try:
                self._operation.perform_request(request, functools.partial(self._encode_next, size, after))
                break
            except AgentRuntimeError as error:
                # Its limit is smaller than it said. Nothing was run: the first command has the most variables.
                if self._variables == 1 or not any(text in str(error).lower() for text in _TOO_LARGE):
                    raise
                self._variables = max(1, self._variables // 2)
                self._next = None
        del self._buffer[:size]
        self._sent += size
        if size:
            self._tell(self._sent)

    def _encode_next(self, start: int, after: Sequence[str]) -> None:
        if start < len(self._buffer):
            self._next = self._encoded(start, (), after)

    def _encoded(self, start: int, before: Sequence[str], after: Sequence[str]) -> Tuple[Request, int]:
        """Returns the request that sends the next part of the buffer, and the size of that part in bytes."""
        end = min(start + self._room, len(self._buffer))
        commands = [
            *map(CommandInterface, before),
            *self._commands(start, end),
            *map(CommandInterface, after if end == len(self._buffer) else ()),
        ]
        return self._operation.encoded(commands), end - start

    def _commands(self, start: int, end: int) -> List[CommandInterface]:
        commands = []
        step = self._variables * scripts.VARIABLE
        with memoryview(self._buffer) as view:
            for first in range(start, end, step):
                last = min(first + step, end)
                texts = [
                    binascii.b2a_base64(view[at : min(at + scripts.VARIABLE, last)], newline=False).decode("ascii")
                    for at in range(first, last, scripts.VARIABLE)
                ]
                script = scripts.append(
                    self._path,
                    self._operation.temporary,
                    len(texts),
                    self._sent + last,
                    self._decode,
                    directory=self._directory,
                )
                environment = {f"{scripts.DATA}{index}": text for index, text in enumerate(texts)}
                commands.append(CommandInterface(script, env=environment))
        return commands

    def _tell(self, done: int, *, total: Optional[int] = None) -> None:
        self._told = done
        if self._progress is not None:
            self._progress(done, self._total if total is None else total)
