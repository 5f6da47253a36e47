"""Annotations can be evaluated at run time, as frameworks for dependency injection and documentation do."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Iterator

import pytest

import runtimeuse_sync
import runtimeuse_sync.artifacts
import runtimeuse_sync.batch
import runtimeuse_sync.files
import runtimeuse_sync.futures
import runtimeuse_sync.keywords
import runtimeuse_sync.testing

MODULES = (
    runtimeuse_sync,
    runtimeuse_sync.artifacts,
    runtimeuse_sync.files,
    runtimeuse_sync.batch,
    runtimeuse_sync.futures,
    runtimeuse_sync.keywords,
    runtimeuse_sync.testing,
)


def annotated() -> Iterator[Any]:
    """Yields the public classes and functions, and the classes' methods."""
    for module in MODULES:
        for name in dir(module):
            value = getattr(module, name)
            ours = getattr(value, "__module__", "").startswith("runtimeuse_sync")
            if name.startswith("_") or not ours or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            yield value
            for method_name, method in inspect.getmembers(value, inspect.isfunction):
                if method_name == "__init__" or not method_name.startswith("_"):
                    yield method


@pytest.mark.parametrize("each", list(dict.fromkeys(annotated())), ids=lambda each: each.__qualname__)
def test_type_hints_can_be_evaluated(each: Any) -> None:
    typing.get_type_hints(each)
