"""Which part of an announced path is below its artifact directory.

An upload request has only a file's path. The directories are in the options of the calls, and a runtime goes on
watching the directories of earlier calls on the connection. A path may be absolute or relative, and so may a directory.
The client does not know the runtime's working directory, where relative ones start. So it looks for a relative
directory inside an absolute path, and takes the first place where it occurs: a folder of the same name may well be
inside the artifact directory. Paths are texts of the sandbox: `/` separates, and nothing is looked up.

Threads: an `ArtifactDirectories` does not change; a call that names more directories makes a new one.
"""

from typing import FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .redaction import redacted_forms

#: The names that a path consists of.
Parts = Tuple[str, ...]


class Place(NamedTuple):
    """Where a file is.

    Attributes:
        directory: The artifact directory, as it is in the file's path, without a root.
        below: The file's path below it; never empty.
    """

    directory: Parts
    below: Parts


class ArtifactDirectories:
    """The artifact directories that the calls on a connection have named.

    Args:
        named: The directories, as the options spell them, absolute or relative.
        secrets_to_redact: What the runtime masks in paths.
        secrets: What must not appear in the text of an exception about these artifacts.

    Attributes:
        secrets: As given.
    """

    def __init__(
        self, named: Iterable[str] = (), secrets_to_redact: Sequence[str] = (), secrets: Sequence[str] = ()
    ) -> None:
        self.secrets = secrets
        self._named: FrozenSet[str] = frozenset(named)
        self._forms: FrozenSet[str] = frozenset()
        self._add_forms(secrets_to_redact)

    def and_also(
        self, named: Iterable[str], secrets_to_redact: Sequence[str], secrets: Sequence[str]
    ) -> "ArtifactDirectories":
        """Returns the directories after one more call: its own, and the earlier ones."""
        together = ArtifactDirectories(self._named.union(named), secrets_to_redact, secrets)
        if not self._forms <= together._forms:
            # An earlier call had other secrets, and its files may have been announced with these masked.
            together._forms |= self._forms
            together._add_forms(())
        return together

    def _add_forms(self, secrets_to_redact: Sequence[str]) -> None:
        self._forms |= {form for each in self._named for form in redacted_forms(each, secrets_to_redact)}
        self._absolute = frozenset(parts_of(form) for form in self._forms if form.startswith("/"))
        self._relative = frozenset(parts_of(form) for form in self._forms if not form.startswith("/"))

    def place(self, filepath: str, working_dir: Optional[str] = None) -> Optional[Place]:
        """Returns where a file is; `None` if it is in none of the directories, as far as the client knows.

        Args:
            filepath: The file's path, as the runtime announced it.
            working_dir: The runtime's working directory, an absolute path; `None` if it is not known.
        """
        parts = parts_of(filepath)
        if not filepath.startswith("/"):
            if working_dir is None:
                return _beginning(parts, self._relative)
            parts = parts_of("/".join((working_dir, *parts)))
        if working_dir is None:
            return _beginning(parts, self._absolute) or _inside(parts, self._relative)
        resolved = {parts_of("/".join((working_dir, *each))) for each in self._relative}
        return _beginning(parts, self._absolute.union(resolved))


NO_DIRECTORIES = ArtifactDirectories()


def relative_path(filepath: str) -> str:
    """Returns a path in the sandbox as a relative path that cannot leave its directory (no root, no `.`, no `..`).

    A backslash separates nothing in a sandbox: it may be part of a name.

    Args:
        filepath: The path in the sandbox.

    Raises:
        ValueError: The path names no file.
    """
    parts = [part for part in filepath.split("/") if part not in ("", ".", "..")]
    if not parts:
        raise ValueError("the artifact's path names no file")
    return "/".join(parts)


def parts_of(path: str) -> Parts:
    """Returns the names in a path, after `.` and `..` are resolved. Only a relative path may begin with `..` then."""
    parts: List[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".", "..") or (part == ".." and not path.startswith("/")):
            parts.append(part)
    return tuple(parts)


def _lengths(directories: Iterable[Parts]) -> List[int]:
    return sorted({len(directory) for directory in directories}, reverse=True)


def _beginning(parts: Parts, directories: FrozenSet[Parts]) -> Optional[Place]:
    """Returns the place in the longest of the directories that the path begins with."""
    for length in _lengths(directories):
        if length < len(parts) and parts[:length] in directories:
            return Place(parts[:length], parts[length:])
    return None


def _inside(parts: Parts, directories: FrozenSet[Parts]) -> Optional[Place]:
    """Returns the place in the directory that occurs first in the path; of several, in the longest."""
    # Where `..` leads to is not known. What follows it is.
    inner = frozenset(tuple(part for part in directory if part != "..") for directory in directories) - {()}
    lengths = _lengths(inner)
    for start in range(len(parts) if lengths else 0):
        for length in lengths:
            end = start + length
            if end < len(parts) and parts[start:end] in inner:
                return Place(parts[start:end], parts[end:])
    return None
