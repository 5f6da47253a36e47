"""The app as Django knows it: `INSTALLED_APPS = [..., "runtimeuse_sync.django"]`.

Threads: Django sets up its apps once, in the thread that starts the process.
"""

from ._bases import AppConfig


class RuntimeUseConfig(AppConfig):
    """The app `runtimeuse`: system checks and the command `manage.py runtimeuse`. It has no models."""

    name = "runtimeuse_sync.django"
    label = "runtimeuse"
    verbose_name = "RuntimeUse"

    def ready(self) -> None:
        """Registers the system checks."""
        from . import checks  # noqa: F401  # registers them
