"""What setup.cfg cannot say: the README as PyPI can show it, and archives that are the same wherever they are built.

They have the same bytes if SOURCE_DATE_EPOCH is set, and the versions of Python and setuptools are the same.
Old versions of pip need this file for editable installs, too. Everything else about the package is in setup.cfg.
"""

import gzip
import os
import re
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.sdist import sdist

FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
#: A target that leads nowhere outside of the tree. Anchors within the page are kept.
RELATIVE = r"\((?![a-z][a-z0-9+.-]*:|#)[^()\s]+\)"
IMAGE = re.compile(r"!\[[^\]]*\]" + RELATIVE)
LINK = re.compile(r"\[([^\[\]]+)\]" + RELATIVE)


def long_description() -> str:
    """Returns the README with the text of its relative links for the links, and without its relative images."""
    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    parts = FENCED.split(readme)
    parts[::2] = [LINK.sub(r"\1", IMAGE.sub("", prose)) for prose in parts[::2]]
    return "".join(parts)


def mode(path: str) -> int:
    """Returns the permissions of a file or directory as they are for most people, whatever the umask."""
    return 0o755 if os.path.isdir(path) or os.access(path, os.X_OK) else 0o644


class ReproducibleSdist(sdist):
    """Without the owners, times and umask of the machine, and in the order of names."""

    def make_archive(self, base_name, format, **options):  # noqa: A002
        if format != "gztar":
            return super().make_archive(base_name, format, **options)
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        moment = int(epoch) if epoch else None

        def neutral(member):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = mode(member.name)
            member.mtime = int(member.mtime) if moment is None else moment
            return member

        archive = base_name + ".tar.gz"
        with open(archive, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=moment) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path in sorted([options["base_dir"], *map(str, Path(options["base_dir"]).rglob("*"))]):
                    tar.add(path, recursive=False, filter=neutral)
        return archive


class ReproducibleWheel(bdist_wheel):
    """Without the umask of the machine. The rest is done by setuptools."""

    def write_wheelfile(self, *args, **kwargs):
        super().write_wheelfile(*args, **kwargs)
        # The last step before everything is packed. These are copies.
        for path in Path(self.bdist_dir).rglob("*"):
            path.chmod(mode(str(path)))


setup(
    long_description=long_description(),
    cmdclass={"sdist": ReproducibleSdist, "bdist_wheel": ReproducibleWheel},
)
