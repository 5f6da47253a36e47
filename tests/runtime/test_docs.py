"""Every snippet of the guides runs, in order, and prints what stands below it."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from runtimeuse_sync import ExecuteCommandsOptions, QueryOptions, WebSocketTransport
from runtimeuse_sync.runtime.settings import RuntimeSettings

from ..support.markdown import snippets
from ..support.packages import needs
from ..support.processes import CHILD_LIMIT
from .test_main import run as run_runtime

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDES = (
    "artifacts.md",
    "cancel-and-time-limits.md",
    "commands.md",
    "custom-agents.md",
    "custom-transports.md",
    "django.md",
    "environment.md",
    "errors.md",
    "event-streams.md",
    "files.md",
    "logging.md",
    "many-runs.md",
    "notebooks.md",
    "opentelemetry.md",
    "options.md",
    "proxies-and-tls.md",
    "queries.md",
    "runtime.md",
    "sandboxes.md",
    "secrets.md",
    "sessions.md",
    "streaming.md",
    "testing.md",
    "threads.md",
    "troubleshooting.md",
    "typed-output.md",
)

#: Guides that are about packages which the tests get on some Pythons only, and that take long.
NEED = {"celery.md": ("celery",)}

NEWEST = pytest.mark.skipif(sys.version_info < (3, 13), reason="takes long: on the newest interpreter only")

#: Guides whose snippets are for a shell.
SHELL_GUIDES = ("command-line.md",)

#: Guides whose snippets have tests of their own: tests/test_migration.py.
RUN_ELSEWHERE = ("migration.md",)

_END = "---- end of a snippet ----\n"


@pytest.mark.parametrize("name", [*GUIDES, *(pytest.param(name, marks=[needs(*NEED[name]), NEWEST]) for name in NEED)])
def test_the_snippets_of_a_guide(name: str, tmp_path: Path) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    found = list(snippets(text))
    assert len(found) == text.count("```python\n") > 0
    # One program, since the later ones use what the earlier ones define.
    program = f"\nprint({_END!r}, end='')\n".join(snippet.code.text for snippet in found)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
    )
    # The runtime logs a refused connection, and one example is about that.
    unexpected = ran.stderr.replace("Refused a connection without the right token\n", "")
    assert (ran.returncode, unexpected) == (0, "")
    assert ran.stdout.split(_END) == [snippet.prints for snippet in found]


@pytest.mark.parametrize("name", SHELL_GUIDES)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.skipif(sys.version_info < (3, 13), reason="many processes: on the newest interpreter only")
def test_the_snippets_of_a_guide_for_a_shell(name: str, tmp_path: Path) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    found = list(snippets(text, "bash"))
    assert len(found) == text.count("```bash\n") > 0
    (tmp_path / "bin").mkdir()
    (tmp_path / "here").mkdir()
    script = tmp_path / "bin" / "runtimeuse-sync"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m runtimeuse_sync "$@"\n')
    script.chmod(0o755)
    program = f"echo '{_END.strip()}'\n".join(snippet.code.text for snippet in found)
    ran = subprocess.run(
        ["bash", "-c", program],
        cwd=str(tmp_path / "here"),
        env={**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split(_END) == [snippet.prints for snippet in found]


def test_no_page_has_snippets_that_nothing_runs() -> None:
    # Also where they are indented, in a tab or a list. What cannot be run, such as half a program, is marked as `py`.
    pages = {path for path in DOCS.rglob("*.md") if re.search(r"^ *```python", path.read_text(encoding="utf-8"), re.M)}
    found = {path.relative_to(DOCS).as_posix() for path in pages}
    assert found == {*GUIDES, *NEED, *RUN_ELSEWHERE}


def test_the_guide_knows_all_options() -> None:
    text = (DOCS / "runtime.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(RuntimeSettings):
        assert f"| `{field.name}` |" in text, field.name
    for option in re.findall(r"^  (--[a-z-]+)", run_runtime("--help").stdout, re.MULTILINE):
        assert f"`{option}`" in text, option


def test_lists_of_options_are_complete() -> None:
    options = {field.name for each in (QueryOptions, ExecuteCommandsOptions) for field in dataclasses.fields(each)}
    settings = set(inspect.signature(WebSocketTransport).parameters) - {"ws_url"}
    callbacks = {name for name in options if name.startswith("on_")}
    limits = {name for name in options | settings if name.endswith("_timeout") or name == "timeout"}
    for page, names in (
        ("streaming.md", callbacks),
        ("cancel-and-time-limits.md", limits),
        ("proxies-and-tls.md", settings),
    ):
        assert names
        text = (DOCS / page).read_text(encoding="utf-8")
        assert {name for name in names if f"`{name}" not in text} == set(), page


def test_links_lead_somewhere() -> None:
    for name in GUIDES + SHELL_GUIDES:
        for link in re.findall(r"\]\(([^):]+)\)", (DOCS / name).read_text(encoding="utf-8")):
            target, _, heading = link.partition("#")
            page = DOCS / (target or name)
            assert page.exists(), link
            assert not heading or heading in headings(page), link


def headings(page: Path) -> List[str]:
    """Returns the anchors of a page's headings, as GitHub and the site name them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", each.lower()).strip().replace(" ", "-") for each in found]
