"""The examples of sandboxes run against the SDKs of providers, whose transport is answered here; each ends its sandbox.

They need the SDKs, which take long to install, so they have an environment of their own: `tox -e sandboxes`.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from ..support.processes import CHILD_LIMIT

PROVIDERS = ["daytona", "e2b", "modal", "vercel"]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "sandboxes"

SAID = ["hello from Linux", "asked: Which files are in your home directory?"]


def run(provider: str, event: str) -> Tuple[List[str], Any]:
    """Runs a provider's example; returns the lines that it prints, and what was asked of the provider."""
    if importlib.util.find_spec(provider) is None:
        pytest.skip(f"the package {provider} is not installed: tox -e sandboxes")
    command = [sys.executable, "-m", f"{__package__}.{provider}_fake", event]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=CHILD_LIMIT)
    assert done.returncode == 0
    *lines, last = done.stdout.splitlines()
    return lines, json.loads(last)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_starts_waits_works_and_ends_its_sandbox(provider: str) -> None:
    lines, outcome = run(provider, "well")
    assert lines == SAID
    assert outcome["asked"] == ["create", "start npx -y runtimeuse@latest", "kill"]
    assert outcome["ended"] == 0
    # The ready wait outlasts the cold start; then there is the session.
    assert outcome["attempts"] == 4


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_ends_its_sandbox_if_the_work_fails(provider: str) -> None:
    lines, outcome = run(provider, "refused")
    assert lines == []
    assert outcome["asked"] == ["create", "start npx -y runtimeuse@latest", "kill"]
    assert "HTTP 401 Unauthorized" in outcome["ended"]
    # Daytona's URL is its token.
    assert "a1b2c3d4e5f6g7h8" not in outcome["ended"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_ends_its_sandbox_on_sigterm(provider: str) -> None:
    lines, outcome = run(provider, "terminated")
    assert lines == SAID[:1]
    assert outcome["asked"] == ["create", "start npx -y runtimeuse@latest", "kill"]
    assert outcome["ended"] == 143


@pytest.mark.skipif(sys.version_info < (3, 12), reason="two processes: on few interpreters only")
def test_the_local_one_runs_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "on_local.py")],
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
    )
    assert (done.stdout.splitlines()[1:], done.stderr, done.returncode) == (["42"], "", 0)
    assert done.stdout.startswith("hello from ")


@pytest.mark.parametrize("name", ["local", *PROVIDERS])
def test_they_are_short_and_have_one_shape(name: str) -> None:
    source = (EXAMPLES / f"on_{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 42
    assert "def work(sandbox: Sandbox) -> None:" in source
    assert "client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model=" in source
    assert ("with local_process()" if name == "local" else "with ensure_killed(") in source
    # A name that would shadow the SDK's, since a script's folder comes first on the path.
    assert name not in {path.stem for path in EXAMPLES.iterdir()}
