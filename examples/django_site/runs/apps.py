"""The app's place in Django, and how SQLite is set up for many threads and processes."""

from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


def set_up_sqlite(connection: Any, **_: Any) -> None:
    """Lets readers go on while somebody writes, and has a write wait for its turn instead of failing."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        connection_created.connect(set_up_sqlite, dispatch_uid="runs.set_up_sqlite")
