"""Sets up Django for the tests of the Django app."""

from __future__ import annotations

import os
from typing import Iterator

import pytest

from ..support import django_project

django_project.set_up()


@pytest.fixture
def database() -> Iterator[None]:
    """A transaction that is rolled back: what a test writes into the database is gone after it."""
    from django.db import transaction

    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    from django.core.cache import cache

    yield
    cache.clear()


@pytest.fixture(autouse=True)
def names_no_settings_to_child_processes() -> Iterator[None]:
    """Removes what `manage.py … --settings` leaves in the environment, which other tests' projects would inherit."""
    yield
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
