"""The application of Celery whose workers the tests start: tasks as users write them, with one client for all.

`CELERY_REDIS` of the environment names broker and result backend, `RUNTIMEUSE_WS_URL` the runtime. Results and errors
go back as JSON, as is Celery's default. What tasks are at, they tell by lists in Redis: the tests wait for that.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, List, Optional, TypeVar

from celery.signals import worker_ready

from runtimeuse_sync import ArtifactUploadResult, RuntimeUseClient

from .celery_parts import ENDLESS, FAILURES, MARK, REDIS, make_app, marked, ready, tell

app = make_app(REDIS)

F = TypeVar("F", bound=Callable[..., Any])


def task(name: str, *, bind: bool = False) -> Callable[[F], F]:
    """Makes a function a task."""
    register: Callable[[F], F] = app.task(name=name, bind=bind)
    return register


# Made before the pool's processes are forked, and shared by them, by threads and by greenlets.
client = RuntimeUseClient(os.environ.get("RUNTIMEUSE_WS_URL") or "ws://127.0.0.1:1", model="any")


worker_ready.connect(ready)


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
