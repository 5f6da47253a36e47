"""Sets up Django for the tests of the Django app."""

from __future__ import annotations

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
