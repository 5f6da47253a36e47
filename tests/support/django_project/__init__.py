"""A small Django project for the tests of the Django app.

Settings can be set up once a process, so all tests that need Django share this project: `set_up` may be called again
and again. Its database is SQLite in memory, with its tables; `override_settings` changes the rest.
"""

from __future__ import annotations

import os
from typing import Any


def set_up() -> None:
    """Set up Django with this project, and the tables of its database, unless that was done before."""
    import django
    from django.apps import apps

    if apps.ready:
        return
    os.environ["DJANGO_SETTINGS_MODULE"] = f"{__name__}.settings"
    django.setup()
    # Read once. Child processes of other tests, with projects of their own, must not inherit it.
    del os.environ["DJANGO_SETTINGS_MODULE"]
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    setup_test_environment()
    call_command("migrate", verbosity=0, run_syncdb=True)


def new_user(name: str) -> Any:
    """Return a new user of that name."""
    from django.contrib.auth import get_user_model

    return get_user_model().objects.create_user(name)
