"""The classes of Django that this package's classes inherit from.

Django has no types. For type checkers these have whatever they are asked for, so that the types of what inherits from
them are known.

Threads: none of its own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class AppConfig:
        """`django.apps.AppConfig`."""

        def __getattr__(self, name: str) -> Any: ...

    class BaseCommand:
        """`django.core.management.base.BaseCommand`."""

        def __getattr__(self, name: str) -> Any: ...

else:
    from django.apps import AppConfig
    from django.core.management.base import BaseCommand

__all__ = ["AppConfig", "BaseCommand"]
