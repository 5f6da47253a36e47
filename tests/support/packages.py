"""Optional packages: tests are skipped where one is missing, and what is said where one is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from .processes import CHILD_LIMIT


def needs(*packages: str) -> pytest.MarkDecorator:
    """Marks a test that is skipped where a package is missing: the tests run on Pythons that have not all of them."""
    missing = [name for name in packages if not _is_installed(name)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}, which the tests get on some Pythons")


def said_without(package: str, agent: str) -> str:
    """Returns what the embedded runtime says when it starts with an agent, and the agent's package is missing."""
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from runtimeuse_sync.runtime import LocalRuntime\n"
        f"try: LocalRuntime({agent!r}).start()\n"
        "except ImportError as error: print(error)"
    )
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=CHILD_LIMIT).stdout


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False  # The package that it is part of.
