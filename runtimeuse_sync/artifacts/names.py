"""What an uploaded file is called: its path below its artifact directory, and no two files the same.

A file keeps its name, so a file that changes replaces its older version. If another file has the name already, the file
is called by its artifact directory and its path below it; if that is taken as well, it gets a number.

Threads: callbacks may run in any thread, so a lock guards the names.
"""

import itertools
import mimetypes
import os
import posixpath
import threading
from pathlib import PurePath
from typing import Dict, Iterator, Optional, Union

from .._wire import validation as check
from .._wire.artifact_paths import relative_path
from ..messages import ArtifactUploadRequestMessageInterface, announced_as, directories_of

#: A path, as text or as an object.
PathText = Union[str, PurePath]


def content_type(filename: str) -> str:
    """Returns the MIME type for a file's name; `application/octet-stream` if it is unknown.

    Args:
        filename: The name, with or without directories.
    """
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


class Names:
    """The names of the files that one callback has been asked for.

    Args:
        working_dir: The runtime's working directory, where relative artifact directories start; `None` if unknown.

    Raises:
        TypeError: `working_dir` is no path.
        ValueError: `working_dir` is not absolute.
    """

    def __init__(self, working_dir: Optional[PathText] = None) -> None:
        if working_dir is not None:
            working_dir = os.fspath(working_dir) if isinstance(working_dir, os.PathLike) else working_dir
            check.check_text("working_dir", working_dir)
            if not working_dir.startswith("/"):
                raise ValueError(f"working_dir must be an absolute path in the sandbox, not {working_dir!r}")
        self._working_dir = working_dir
        # By the path that the runtime announced, and the other way round.
        self._names: Dict[str, str] = {}
        self._taken: Dict[str, str] = {}
        self._numbers: Dict[str, itertools.count[int]] = {}
        self._lock = threading.RLock()

    def name_of(self, request: ArtifactUploadRequestMessageInterface, filepath: str) -> str:
        """Returns the name of the announced file.

        Args:
            request: The upload request.
            filepath: The path to make the name of: the announced one, or that one as proper text.

        Raises:
            ValueError: The path names no file.
        """
        announced = announced_as(request)[1]
        with self._lock:
            name = self._names.get(announced)
            if name is None:
                candidates = self._candidates(request, filepath)
                name = next(each for each in candidates if self._taken.setdefault(each, announced) == announced)
                self._names[announced] = name
            return name

    def _candidates(self, request: ArtifactUploadRequestMessageInterface, filepath: str) -> Iterator[str]:
        place = directories_of(request).place(filepath, self._working_dir)
        if place is None:
            name = relative_path(filepath)
            yield name
        else:
            yield relative_path("/".join(place.below))
            name = relative_path("/".join(place.directory + place.below))
            yield name
        # Before the extension, which shows the type of the file.
        stem, extension = posixpath.splitext(name)
        for number in self._numbers.setdefault(name, itertools.count(2)):
            yield f"{stem}-{number}{extension}"
