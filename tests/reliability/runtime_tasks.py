"""The application whose workers execute tasks that are `RuntimeTask`s, with the results of Celery's default, JSON.

What tasks are at, they tell by lists in Redis: the tests wait for that.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List

from celery.signals import worker_ready

from runtimeuse_sync import CommandExecutionResult, QueryResult
from runtimeuse_sync.celery import RuntimeTask

from .celery_parts import ENDLESS, FAILURES, MARK, REDIS, make_app, marked, ready, tell

app = make_app(REDIS)
app.conf.runtimeuse = {"ws_url": os.environ.get("RUNTIMEUSE_WS_URL") or "ws://127.0.0.1:1", "model": "any"}

worker_ready.connect(ready)


@app.task(base=RuntimeTask, bind=True, name="query")
def query(self: Any, number: int) -> str:
    answer: QueryResult = self.client.query(f"echo answer {number}")
    return answer.text


@app.task(base=RuntimeTask, bind=True, name="whole query")
def whole_query(self: Any, number: int) -> QueryResult:
    answer: QueryResult = self.client.query(f"echo answer {number}")
    return answer


@app.task(base=RuntimeTask, bind=True, name="commands")
def commands(self: Any, number: int) -> CommandExecutionResult:
    done: CommandExecutionResult = self.client.execute_commands([f"echo first {number}", f"echo second {number} >&2"])
    return done


@app.task(base=RuntimeTask, bind=True, name="client")
def client(self: Any) -> List[int]:
    """Returns the process, the one that its client was made in, and which client it is."""
    self.client.query("true")
    return [os.getpid(), id(self.client)]


@app.task(name="gather")
def gather(answers: List[str]) -> Dict[str, Any]:
    return {"count": len(answers), "answers": answers}


@app.task(base=RuntimeTask, bind=True, name="fail", autoretry_for=())
def fail(self: Any, how: str) -> None:
    FAILURES[how](self.client)


@app.task(base=RuntimeTask, bind=True, name="not there", autoretry_for=(Exception,), max_retries=2, retry_backoff=False)
def not_there(self: Any) -> None:
    """Is retried at once: what it asks is not there."""
    self.default_retry_delay = 0
    tell(f"tried {self.request.id}", str(time.monotonic()))
    FAILURES["nobody there"](self.client)


@app.task(base=RuntimeTask, bind=True, name="fails once sent", autoretry_for=(Exception,), max_retries=2)
def fails_once_sent(self: Any) -> None:
    tell(f"tried {self.request.id}", "once")
    FAILURES["the agent"](self.client)


@app.task(base=RuntimeTask, bind=True, name="endless", progress_interval=0.2, abort_poll_interval=0.2)
def endless(self: Any, how: str) -> None:
    """Never ends by itself; tells the processes that run for it by then."""
    task = self.request.id

    def began(message: Any) -> None:
        tell(f"began {task}", getattr(message, "text", None) or message.text_blocks[0])

    if how == "commands":
        self.client.execute_commands([marked(ENDLESS, task)], on_command_output=began)
    elif how == "query":
        self.client.query(ENDLESS, agent_env={MARK: task}, on_assistant_message=began)
    else:
        with self.client.session() as own:
            own.query("echo in a session")
            own.execute_commands([marked(ENDLESS, task)], on_command_output=began)
