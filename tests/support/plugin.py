"""Whether the package's pytest plugin is loaded by itself: an editable install may be older than its entry point."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

if sys.version_info >= (3, 10):
    INSTALLED = bool(entry_points(group="pytest11", name="runtimeuse"))
else:
    INSTALLED = any(each.name == "runtimeuse" for each in entry_points().get("pytest11", ()))
