"""The archives for PyPI: the same bytes wherever they are built, complete, and with what PyPI wants to know and show.

They need tools that nothing else does, so they have an environment of their own: `tox -e package`.
"""

from __future__ import annotations

import configparser
import email.message
import email.parser
import html.parser
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import pytest

from ..support.markdown import blocks
from ..support.packages import needs
from ..support.processes import CHILD_LIMIT

pytestmark = needs("build", "check_wheel_contents", "readme_renderer", "trove_classifiers", "twine")

ROOT = Path(__file__).resolve().parents[2]

#: Some moment. Zip archives cannot say one before 1980, and say it in steps of two seconds.
EPOCH = 1_700_000_000

#: What a developer's tree has beside the sources.
NO_SOURCES = shutil.ignore_patterns(
    "__pycache__", "*.egg-info", "build", "dist", "site", "var", ".git", ".venv*", ".tox", ".hypothesis", ".*_cache"
)


class Archives(NamedTuple):
    sdist: Path
    wheel: Path


def build(source: Path, into: Path, umask: int) -> Archives:
    """Builds both from a tree: the wheel from what is in the sdist, as `python -m build` does it."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(source)],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)},
        umask=umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CHILD_LIMIT,
    )
    assert done.returncode == 0, done.stdout
    (sdist,) = into.glob("*.tar.gz")
    (wheel,) = into.glob("*.whl")
    assert len(list(into.iterdir())) == 2
    return Archives(sdist, wheel)


def close_to_others(tree: Path) -> None:
    """Leaves of all permissions what a checkout with the umask 077 would have."""
    for path in [tree, *tree.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o700)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    place = tmp_path_factory.mktemp("one")
    shutil.copytree(ROOT, place / "tree", ignore=NO_SOURCES)
    return build(place / "tree", place / "dist", 0o022)


@pytest.fixture(scope="module")
def metadata(archives: Archives) -> email.message.Message:
    with zipfile.ZipFile(archives.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.BytesParser().parsebytes(wheel.read(name))


def config() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return parsed


def test_they_are_the_same_bytes_wherever_they_are_built(archives: Archives, tmp_path: Path) -> None:
    elsewhere = tmp_path / "deeper" / "other name"
    # All of it is younger than what the first was built from: `copy` takes the permissions along, and not the times.
    shutil.copytree(ROOT, elsewhere, ignore=NO_SOURCES, copy_function=shutil.copy)
    close_to_others(elsewhere)
    again = build(elsewhere, tmp_path / "dist", 0o077)
    for one, other in zip(archives, again):
        assert one.name == other.name
        # Not an assertion about the bytes, as pytest would show them.
        same = one.read_bytes() == other.read_bytes()
        assert same, f"{one.name} differs"


def test_others_may_read_what_is_in_them(archives: Archives) -> None:
    with zipfile.ZipFile(archives.wheel) as wheel:
        modes = {info.filename: (info.external_attr >> 16) & 0o777 for info in wheel.infolist()}
    # Which setuptools writes in its own way.
    modes = {name: mode for name, mode in modes.items() if not name.endswith("/RECORD")}
    assert set(modes.values()) == {0o644}
    with tarfile.open(archives.sdist) as sdist:
        members = sdist.getmembers()
    assert {member.mode for member in members if member.isdir()} == {0o755}
    assert {member.mode for member in members if member.isfile()} == {0o644, 0o755}
    assert {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in members} == {
        (0, 0, "", "", EPOCH)
    }


@pytest.mark.parametrize("command", [["twine", "check", "--strict"], ["check_wheel_contents"]])
def test_their_checkers_find_no_fault(archives: Archives, command: List[str]) -> None:
    files = [archives.wheel] if command == ["check_wheel_contents"] else list(archives)
    done = subprocess.run(
        [sys.executable, "-m", *command, *map(str, files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CHILD_LIMIT,
    )
    assert done.returncode == 0, done.stdout


def test_the_wheel_has_every_module_and_the_mark_of_its_types(archives: Archives) -> None:
    package = ROOT / "runtimeuse_sync"
    expected = {path.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}
    # One mark is for all packages below it: PEP 561.
    expected.add("runtimeuse_sync/py.typed")
    with zipfile.ZipFile(archives.wheel) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_the_sdist_has_what_its_own_tests_need(archives: Archives) -> None:
    with tarfile.open(archives.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for folder in ["tests", "examples", "docs", "benchmarks"]:
        found = [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in {".pyc", ".pyo"}]
        here = {path.relative_to(ROOT).as_posix() for path in found if "var" not in path.parts}
        assert here - names == set()
        assert here, folder
    top = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "setup.py", "setup.cfg", "tox.ini", "mkdocs.yml"}
    assert top - names == set()


def test_metadata(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "runtimeuse-sync"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["License"] is None
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Keywords"]
    # The first that has License-Expression.
    assert tuple(map(int, metadata["Metadata-Version"].split("."))) >= (2, 4)
    requirements = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert len(requirements) == 3


def test_classifiers_exist_and_name_the_pythons_that_are_tested(metadata: email.message.Message) -> None:
    known: Set[str] = importlib.import_module("trove_classifiers").classifiers
    classifiers = metadata.get_all("Classifier") or []
    assert set(classifiers) - known == set()
    assert len(classifiers) == len(set(classifiers))
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    found = re.match(r"py\{([^}]+)\}", tox["tox"]["env_list"])
    assert found is not None
    tested = {f"3.{name[1:]}" for name in found.group(1).split(", ")}
    named = {line.rpartition(" :: ")[2] for line in classifiers if re.search(r"Python :: 3\.\d+$", line)}
    assert named == tested


def test_every_requirement_of_users_has_a_lower_bound() -> None:
    """Without one, `tox -e lowest` would not know what is the lowest."""
    parsed = config()
    extras = dict(parsed["options.extras_require"])
    for tools in ["test", "benchmarks", "docs", "lint", "dev"]:
        del extras[tools]
    lines = "\n".join([parsed["options"]["install_requires"], *extras.values()]).splitlines()
    assert [line for line in lines if line and ">=" not in line.partition(";")[0]] == []


class Page(html.parser.HTMLParser):
    """Collects where a page's links and images lead, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: List[str] = []
        self.anchors: Set[str] = set()
        self.images = 0

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        found: Dict[str, Optional[str]] = dict(attrs)
        self.targets += [found[name] or "" for name in ("href", "src", "srcset") if name in found]
        self.anchors.add(found.get("id") or "")
        self.images += tag == "img"


def test_the_description_leads_nowhere_that_pypi_has_not(metadata: email.message.Message) -> None:
    rendered = importlib.import_module("readme_renderer.markdown").render(description(metadata))
    assert rendered
    page = Page()
    page.feed(rendered)
    leads_away = re.compile("https?://|mailto:")
    inside = {f"#{anchor}" for anchor in page.anchors}
    assert [target for target in page.targets if not leads_away.match(target) and target not in inside] == []


def test_the_description_is_the_readme_without_its_links(metadata: email.message.Message) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = description(metadata)
    assert [block.text for block in blocks(shown)] == [block.text for block in blocks(readme)] != []
    assert re.findall("^#.*", shown, re.MULTILINE) == re.findall("^#.*", readme, re.MULTILINE)
    # Nothing more is gone than targets and images.
    assert len(shown.split()) > 0.9 * len(readme.split())
    assert "](docs/" in readme
    assert "](docs/" not in shown


def description(metadata: email.message.Message) -> str:
    payload = metadata.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8")
