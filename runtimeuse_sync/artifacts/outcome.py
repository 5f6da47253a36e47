"""What became of an upload that did not arrive, and the error for all of them.

Threads: nothing is shared; `wait_until_arrived` waits in its caller's thread.
"""

import time
from dataclasses import dataclass
from typing import Callable, Iterable, List, Sequence, Tuple, TypeVar

from .._call import monotonic
from .._wire import validation as check
from .._wire.redaction import scrub
from ..errors import ArtifactUploadError

_File = TypeVar("_File")

#: Seconds that files may still take to arrive when it is checked whether all have.
GRACE = 5.0

#: Seconds between two looks at what is not there yet. Also the slice in which an interrupt is noticed.
_LOOK_AGAIN = 0.25

#: The most files in the text of an error. Its `filepaths` has all of them.
_MAX_SHOWN = 20


@dataclass(frozen=True)
class UploadFailure:
    """A file that did not arrive.

    Args:
        name: Its name, as that of a file that arrives: its path below its artifact directory.
        reason: Why it did not arrive, as far as is known.
        filepath: Its path in the sandbox.
    """

    name: str
    reason: str
    filepath: str


def not_arrived(where: str, failures: Sequence[UploadFailure], secrets: Iterable[str]) -> ArtifactUploadError:
    """Returns the error for uploads that did not arrive.

    Args:
        where: Where they should have arrived, for the text.
        failures: The uploads; not empty.
        secrets: What must not appear in the text.
    """
    shown = ", ".join(f"{failure.name} ({failure.reason})" for failure in failures[:_MAX_SHOWN])
    more = f", and {len(failures) - _MAX_SHOWN} more" if len(failures) > _MAX_SHOWN else ""
    text = f"{len(failures)} artifact(s) did not arrive in {where}: {shown}{more}"
    return ArtifactUploadError(scrub(text, secrets), [failure.filepath for failure in failures])


def wait_until_arrived(
    look: Callable[[], Tuple[List[_File], Sequence[UploadFailure]]],
    error: Callable[[Sequence[UploadFailure]], Exception],
    timeout: float,
) -> List[_File]:
    """Looks until all files have arrived, and returns them.

    Args:
        look: Returns what has arrived, and what has not.
        error: Returns the error for what has not arrived in time.
        timeout: Seconds to wait, at most.

    Raises:
        Exception: What `error` made.
        TypeError: `timeout` is no number.
        ValueError: `timeout` is negative.
    """
    check.check_type("timeout", timeout, (int, float), "a number of seconds")
    if not timeout >= 0:
        raise ValueError(f"timeout must be 0 seconds or more, not {timeout!r}")
    until = monotonic() + timeout
    while True:
        files, failures = look()
        left = until - monotonic()
        if not failures:
            return files
        if left <= 0:
            raise error(failures)
        time.sleep(min(left, _LOOK_AGAIN))
