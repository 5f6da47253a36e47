"""The application of Celery whose workers the tests start: tasks as users write them, with one client for all.

`CELERY_REDIS` of the environment names broker and result backend, `RUNTIMEUSE_WS_URL` the runtime. Results and errors
go back as JSON, as is Celery's default. What tasks are at, they tell by lists in Redis: the tests wait for that.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Dict, List, Optional, TypeVar

import redis
from celery import Celery
from celery.signals import worker_ready

from runtimeuse_sync import ArtifactUploadResult, CommandInterface, RuntimeUseClient

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


app = make_app(REDIS)

F = TypeVar("F", bound=Callable[..., Any])


def task(name: str, *, bind: bool = False) -> Callable[[F], F]:
    """Makes a function a task."""
    register: Callable[[F], F] = app.task(name=name, bind=bind)
    return register


# Made before the pool's processes are forked, and shared by them, by threads and by greenlets.
client = RuntimeUseClient(os.environ.get("RUNTIMEUSE_WS_URL") or "ws://127.0.0.1:1", model="any")


def tell(what: str, value: str) -> None:
    """Appends to a list in Redis."""
    with redis.Redis.from_url(REDIS) as store:
        store.rpush(what, value)


def ready(**_: Any) -> None:
    tell("ready", "ready")


worker_ready.connect(ready)


def marked(command: str, task: str) -> CommandInterface:
    return CommandInterface(command, env={MARK: task})


@task("query")
def query(number: int) -> str:
    return client.query(f"echo answer {number}").text


@task("commands")
def commands(number: int) -> List[Optional[str]]:
    done = client.execute_commands([f"echo first {number}", f"echo second {number}"])
    return [each.stdout for each in done.results]


@task("session")
def session(number: int) -> List[str]:
    with client.session() as own:
        return [own.query(f"echo {turn} of {number}").text for turn in range(3)]


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


@task("fail")
def fail(how: str) -> None:
    FAILURES[how](client)


@task("endless", bind=True)
def endless(self: Any, how: str) -> None:
    """Never ends by itself; tells the processes that run for it by then."""
    task = self.request.id

    def began(message: Any) -> None:
        tell(f"began {task}", getattr(message, "text", None) or message.text_blocks[0])

    if how == "commands":
        client.execute_commands([marked(ENDLESS, task)], on_command_output=began)
    elif how == "query":
        client.query(ENDLESS, agent_env={MARK: task}, on_assistant_message=began)
    else:
        with client.session() as own:
            own.query("echo in a session")
            own.execute_commands([marked(ENDLESS, task)], on_command_output=began)


def _for_ever(_: Any) -> ArtifactUploadResult:
    threading.Event().wait()
    raise AssertionError


class BodyError(Exception):
    """What the body of a `with` statement raises."""


def _upload(_: Any) -> ArtifactUploadResult:
    return ArtifactUploadResult("http://storage.invalid/x", "text/plain")


@task("held_up")
def held_up(url: str, where: str) -> None:
    """Talks to a server that holds it up for ever: connecting, at the end of a session, in a late upload."""
    there = RuntimeUseClient(url, model="any", connect_timeout=600)
    if where == "connecting":
        there.query("hi")
    elif where in ("an upload", "after an upload"):
        callback = _for_ever if where == "an upload" else _upload
        there.query("hi", artifacts_dir="/out", on_artifact_upload_request=callback, end_session_timeout=600)
    else:
        with there.session(end_session_timeout=600) as own:
            own.query("hi", artifacts_dir="/out", on_artifact_upload_request=_upload)
            if where == "the end after an error":
                raise BodyError("the body's own")
