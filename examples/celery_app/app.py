"""The application: broker, results, the runtime and time limits, from the environment."""

import os
from typing import Any, Dict

from celery import Celery

REDIS_URL = os.environ.get("REDIS_URL", "")


def runtime_settings() -> Dict[str, Any]:
    """Returns what each worker process makes its client of: arguments of `RuntimeUseClient`."""
    settings: Dict[str, Any] = {"model": os.environ.get("RUNTIMEUSE_MODEL", "gpt-4.1"), "connect_timeout": 10}
    token = os.environ.get("RUNTIMEUSE_TOKEN")
    if token:
        settings["headers"] = {"Authorization": f"Bearer {token}"}
    # The URL is that of RUNTIMEUSE_WS_URL, which the client reads itself.
    return settings


app = Celery(
    "celery_app",
    broker=REDIS_URL or "memory://",
    backend=REDIS_URL or "cache+memory://",
    include=[f"{__package__}.tasks"],
)

app.conf.update(
    # Called in the worker's processes, so that the token is not shown with the configuration (celery inspect conf).
    runtimeuse=runtime_settings,
    # A task that waits for a run takes its place in the pool for long: leave the others to other workers.
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    # A run that nobody waits for any more ends: first by an exception in the task, then in any event.
    task_soft_time_limit=600,
    task_time_limit=660,
    result_expires=24 * 3600,
)
