"""Skips tests whose optional packages are not installed."""

from __future__ import annotations

import importlib.util

import pytest


def needs(*packages: str) -> pytest.MarkDecorator:
    """Marks a test that is skipped where a package is missing: the tests run on Pythons that have not all of them."""
    missing = [name for name in packages if not _is_installed(name)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}, which the tests get on some Pythons")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False  # The package that it is part of.
