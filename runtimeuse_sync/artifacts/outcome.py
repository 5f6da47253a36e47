"""What became of an upload that did not arrive, and the error for all of them.

Threads: plain data and pure functions.
"""

from dataclasses import dataclass
from typing import Iterable, Sequence

from .._wire.redaction import scrub
from ..errors import ArtifactUploadError

#: The most files in the text of an error. Its `filepaths` has all of them.
_MAX_SHOWN = 20


@dataclass(frozen=True)
class UploadFailure:
    """A file that did not arrive.

    Attributes:
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
