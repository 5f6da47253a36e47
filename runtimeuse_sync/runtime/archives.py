"""Extracts zip archives: with Unix permissions and symbolic links, and never to the outside of the directory.

Plain functions, run in the download's worker thread.
"""

import os
import shutil
import stat
import zipfile
from typing import Callable, Dict, List, Tuple

_CHUNK = 256 * 1024


class ArchiveError(Exception):
    """The file is no archive that can be extracted."""


def extract(archive: str, directory: str, check: Callable[[], None]) -> None:
    """Extracts a zip archive into a directory; `check` is called often and may raise to end it.

    Raises:
        ArchiveError: it is no zip archive, is damaged or encrypted, or holds a path that leads outside.
        OSError: a file cannot be written.
    """
    root = os.path.realpath(directory)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [(info, _target(root, info.filename)) for info in opened.infolist()]
            _extract_all(opened, members, root, check)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        # zipfile's way to speak of encrypted members is RuntimeError.
        raise ArchiveError(f"the archive cannot be extracted ({error})") from error


def _extract_all(
    opened: zipfile.ZipFile, members: List[Tuple[zipfile.ZipInfo, str]], root: str, check: Callable[[], None]
) -> None:
    directory_modes: Dict[str, int] = {}
    for info, target in members:
        check()
        mode = info.external_attr >> 16
        # Archives may hold links: what is written below one must still be inside.
        parent = target if info.is_dir() else os.path.dirname(target)
        _check_inside(root, os.path.realpath(parent), info.filename)
        os.makedirs(parent, exist_ok=True)
        if info.is_dir():
            if stat.S_IMODE(mode) & 0o777:
                directory_modes[target] = stat.S_IMODE(mode) & 0o777
        elif stat.S_ISLNK(mode):
            _extract_link(opened, info, target, root)
        else:
            _extract_file(opened, info, target, check)
            if stat.S_IMODE(mode) & 0o777:
                os.chmod(target, stat.S_IMODE(mode) & 0o777)
    # Last, as a directory may be one that nothing can be written into; its owner can still look into it.
    for target, permissions in directory_modes.items():
        os.chmod(target, permissions | stat.S_IRWXU)


def _extract_link(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: str, root: str) -> None:
    destination = os.fsdecode(opened.read(info))
    _check_inside(root, os.path.realpath(os.path.join(os.path.dirname(target), destination)), info.filename)
    _make_way(target)
    os.symlink(destination, target)


def _extract_file(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: str, check: Callable[[], None]) -> None:
    _make_way(target)
    with opened.open(info) as source, open(target, "wb") as file:
        while True:
            check()
            data = source.read(_CHUNK)
            if not data:
                break
            file.write(data)


def _make_way(target: str) -> None:
    """Removes a file or link in the target's place: writing through a link would write what it leads to."""
    if os.path.islink(target) or os.path.isfile(target):
        os.unlink(target)
    elif os.path.isdir(target):
        shutil.rmtree(target)


def _target(root: str, name: str) -> str:
    # Archives from Windows may have backslashes, and zipfile leaves them as they are on other systems.
    path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    _check_inside(root, path, name)
    return path


def _check_inside(root: str, path: str, name: str) -> None:
    if path != root and not path.startswith(root.rstrip("/") + "/"):
        raise ArchiveError(f"the archive holds a path that leads outside of its directory: {name!r}")
