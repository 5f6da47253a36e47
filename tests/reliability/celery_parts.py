"""What applications of Celery have in common: where their Redis is, what tasks tell, and calls that fail.

`CELERY_REDIS` of the environment names broker and result backend. Here are no tasks: those of one application would
become those of all in the same process.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict

import redis
from celery import Celery

from runtimeuse_sync import CommandInterface, RuntimeUseClient

REDIS = os.environ.get("CELERY_REDIS", "redis://127.0.0.1:1")

#: In the environment of every command that a task has the runtime start.
MARK = "CELERY_TASK"

#: A command that ends only if it is ended, and first says what processes it consists of.
ENDLESS = "sleep 600 & echo $$ $!; wait"


def make_app(url: str) -> Celery:
    """Returns an application with this Redis; one without tasks is enough for whoever only sends them."""
    app = Celery("celery_app", broker=url, backend=url, set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)
    return app


def tell(what: str, value: str) -> None:
    """Appends to a list in Redis."""
    with redis.Redis.from_url(REDIS) as store:
        store.rpush(what, value)


def ready(**_: Any) -> None:
    tell("ready", "ready")


def marked(command: str, task: str) -> CommandInterface:
    return CommandInterface(command, env={MARK: task})


def _too_late(caller: RuntimeUseClient) -> None:
    # On a session, so that it is not the connecting that was too late.
    with caller.session() as own:
        own.query("sleep 600", timeout=1.0)


#: Calls that fail, each in its way; the tests make the same and compare what is raised.
FAILURES: Dict[str, Callable[[RuntimeUseClient], Any]] = {
    "a command": lambda caller: caller.execute_commands(["echo one", "echo out; echo err >&2; exit 3", "echo never"]),
    "a silent command": lambda caller: caller.execute_commands(["exit 4"]),
    "a command before the agent": lambda caller: caller.query(
        "true", pre_agent_invocation_commands=[CommandInterface("echo early >&2; exit 5")]
    ),
    "the agent": lambda caller: caller.query("echo trouble >&2; exit 6"),
    "the deadline": _too_late,
    "nobody there": lambda _: RuntimeUseClient("ws://127.0.0.1:1", model="any", connect_timeout=0.5).query("x"),
}
