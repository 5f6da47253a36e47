"""A Celery application whose tasks talk to a RuntimeUse runtime: a project to start from.

    app.py        the application: broker, results, the runtime, and time limits, all from the environment
    tasks.py      the tasks: a prompt, commands, and a report that many prompts are gathered into
    __main__.py   a program that sends tasks, watches, aborts, and shows what comes of them

Run it
------

In this directory's parent, everything in one process: a runtime, a worker and a broker in memory, with no Redis, no
model and no key.

    pip install "runtimeuse-sync[celery,runtime]"
    python -m celery_app

As in production: Redis is the broker and keeps the results, and the runtime and the worker are processes of their own.

    pip install "runtimeuse-sync[celery,runtime]" "celery[redis]"
    export REDIS_URL=redis://localhost:6379/0
    export RUNTIMEUSE_WS_URL=ws://localhost:8080

    python -m runtimeuse_sync.runtime --agent shell --port 8080
    celery -A celery_app worker --pool threads --concurrency 50
    python -m celery_app

A run waits and does not compute: one process with 50 threads, or greenlets (`--pool gevent`), works through 50 runs at
once. `--pool prefork` keeps tasks apart and ends each of them in any event, at the price of a process for each.

Settings
--------

    REDIS_URL            broker and result backend; without it, both are in memory, and the program is the worker
    RUNTIMEUSE_WS_URL    the runtime; without it, the program starts one
    RUNTIMEUSE_TOKEN     sent to the runtime as a bearer token, if set
    RUNTIMEUSE_MODEL     the agent's model; default: gpt-4.1

What a failed task means
------------------------

`RuntimeConnectionError`: the runtime was not there, five retries long, and nothing was sent. `ConnectionLostError`: the
run may have done its work in part; send the task again if that may be done twice. `CancelledException`: somebody
aborted it. `SoftTimeLimitExceeded`, `TimeLimitExceeded`: it took too long. `CommandFailedError`: a command failed, and
`.stderr` says how. In all of these nothing of the task still runs in the runtime.
"""

from .app import app

__all__ = ["app"]
