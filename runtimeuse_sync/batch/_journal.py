"""The journal of many runs: a file of JSON lines that a later call resumes from.

The first line says that it is a journal. Each further one is the outcome of a job: the job's key (`_jobs.Keys`), a hash
of its content, and its result or error, but neither prompt nor options nor their secrets.

Each line is written by one `write`, in full before its outcome is yielded, and then synced to the disk (`fsync`): a
killed process loses at most what was in flight, and so does a machine that loses its power. Whatever was killed in the
middle of a line has left a last line without its end: that line is cut off. Anything else that is no line of a journal
is an error, and the file stays as it is. A file is locked while it is in use (`flock`; on Windows `msvcrt.locking`).

Of the results, only their places in the file are kept in memory.

Threads: only the thread that drives `run_many` uses it.
"""

import contextlib
import json
import os
import sys
from typing import IO, Any, Dict, NamedTuple, Optional, Union

from ..errors import RuntimeUseError
from . import _inherited
from ._jobs import Job, digest_of
from ._outcomes import Done, done_to_dict

#: The first line of a journal.
HEADER = {"journal": "runtimeuse_sync.batch", "version": 1}

#: Where Windows locks: far behind the end, as others could not even read what it locks.
_LOCKED_AT = 1 << 40


class JournalError(RuntimeUseError, ValueError):
    """The journal cannot be used. Also a `ValueError`.

    It is no journal, is damaged, belongs to other jobs, or is in use.
    """


class _Place(NamedTuple):
    """Where a record is in the file, and the hash of its job's content."""

    start: int
    length: int
    digest: str


class Journal:
    """An open journal, locked until `close`.

    Args:
        path: The file. It is created if it does not exist.

    Raises:
        JournalError: Another process or call uses it, it is no journal, or it is damaged.
        OSError: It cannot be opened, read or written.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"]) -> None:
        self.path = os.fspath(path)
        self._file: IO[bytes] = open(self.path, "a+b", buffering=0)  # noqa: SIM115  # closed by `close`
        self._end = 0
        #: The places of results by the keys of their jobs; failed jobs have the length 0, as they are run again.
        self._places: Dict[str, _Place] = {}
        _inherited.keep(self, self._file.close)
        try:
            self._lock()
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unlocks and closes the file; may be repeated."""
        _inherited.let_go(self)
        if not self._file.closed:
            # A child that is being forked might still have a copy, and with it the lock.
            with contextlib.suppress(OSError):
                _unlock(self._file)
            self._file.close()

    @property
    def is_empty(self) -> bool:
        """Whether it has no outcomes."""
        return not self._places

    def knows(self, key: str) -> bool:
        """Returns whether it has an outcome of the job, a result or an error."""
        return key in self._places

    def result_of(self, key: str, job: Job) -> Optional[Done]:
        """Returns the result of a job; `None` if there is none, or the job failed.

        Raises:
            JournalError: The job that had this id was another one, or the record is damaged.
        """
        place = self._places.get(key)
        if place is None:
            return None
        if place.digest != digest_of(job):
            raise JournalError(
                f"{self._name}: the job with the id {job.id!r} had another content when it was recorded; the journal "
                "belongs to other jobs: use another file, or other ids"
            )
        if not place.length:
            return None
        with self._reader(place.start) as reader:
            line = reader.read(place.length)
        try:
            return Done.from_dict(json.loads(line))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(f"{self._name}: the result of {job!r} is damaged: {error}") from error

    def record(self, key: str, job: Job, done: Done) -> None:
        """Writes an outcome, and returns once the disk has it.

        Raises:
            OSError: It could not be written. The file ends with the last whole line, if it can be cut.
        """
        fields = done_to_dict(done.result, done.error, done.seconds, job.secret_values())
        digest = digest_of(job)
        start = self._end
        length = self._write({"job": key, "digest": digest, **fields})
        self._places[key] = _Place(start, length if done.error is None else 0, digest)

    @property
    def _name(self) -> str:
        return f"journal {self.path!r}"

    def _reader(self, start: int) -> IO[bytes]:
        """Returns the file, buffered, to be read from a position on; closing that does not close the file."""
        reader = open(self._file.fileno(), "rb", closefd=False)  # noqa: SIM115  # by the caller
        reader.seek(start)
        return reader

    def _write(self, fields: Dict[str, Any]) -> int:
        line = json.dumps(fields).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                # The file is open for appending: each `write` goes to its end.
                written += self._file.write(line[written:]) or 0
            os.fsync(self._file.fileno())
        except BaseException:
            # Such as a full disk, or an interrupt. What comes next must not be glued to half a line.
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise
        self._end += len(line)
        return len(line)

    def _lock(self) -> None:
        try:
            _lock(self._file)
        except BlockingIOError:
            said = f"{self._name} is in use by another call of run_many, perhaps in another process"
            raise JournalError(said) from None

    def _read(self) -> None:
        number = 0
        with self._reader(0) as reader:
            for line in reader:
                number += 1
                if not line.endswith(b"\n"):
                    self._end_half_line(line, number)
                    break
                self._take(line, number)
        if not self._end:
            self._write(HEADER)
            _sync_directory(self.path)

    def _end_half_line(self, line: bytes, number: int) -> None:
        """Completes or cuts off the last line of a process that was killed."""
        if number == 1 and not (json.dumps(HEADER).encode() + b"\n").startswith(line):
            raise self._no_journal()
        try:
            json.loads(line)
        except ValueError:
            self._file.truncate(self._end)
            return
        # All of it but its end: an object is JSON only once it is whole.
        self._take(line + b"\n", number)
        self._file.write(b"\n")

    def _take(self, line: bytes, number: int) -> None:
        if number == 1:
            self._check_header(line)
        else:
            try:
                fields = json.loads(line)
                place = _Place(self._end, len(line) if fields["error"] is None else 0, fields["digest"])
                if not (isinstance(fields["job"], str) and isinstance(fields["digest"], str)):
                    raise TypeError("its job or digest is no text")
                if (fields["result"] is None) == (fields["error"] is None):
                    raise ValueError("it has not either a result or an error")
                self._places[fields["job"]] = place
            except (KeyError, TypeError, ValueError) as error:
                raise JournalError(
                    f"{self._name} is damaged: line {number} is not the record of a job ({type(error).__name__}: "
                    f"{error}); repair or remove that line, or use another file"
                ) from error
        self._end += len(line)

    def _check_header(self, line: bytes) -> None:
        try:
            header = json.loads(line)
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("journal") != HEADER["journal"]:
            raise self._no_journal()
        if header != HEADER:
            raise JournalError(
                f"{self._name} has the version {header.get('version')!r}; this version of runtimeuse_sync knows "
                f"{HEADER['version']}"
            )

    def _no_journal(self) -> JournalError:
        return JournalError(f"{self.path!r} is no journal of run_many; it is left as it is: use another file")


def _sync_directory(path: str) -> None:
    """Has the disk know the name of a new file, where directories can be synced."""
    if sys.platform != "win32":
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(_LOCKED_AT)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error

    def _unlock(file: IO[bytes]) -> None:
        file.seek(_LOCKED_AT)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
